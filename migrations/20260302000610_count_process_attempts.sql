-- How often a step was tried, the first time included, and when last.
alter table process_failures add column attempts integer not null default 1;
alter table process_failures add column tried_at timestamptz;
