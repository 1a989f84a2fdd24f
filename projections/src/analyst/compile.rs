//! From a file to the text that makes its schema: the tables, their walls, and a function that is told events.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::{parse::Parsed, problem::Source, render, shape::Shape};

/// Why writing into a text cannot fail.
const WRITES: &str = "a string takes whatever is written";
/// What the event is called within the function; no name of a projection begins so.
const EVENT: &str = "jangbu_event";

/// The role that a projection's statements run as. Nobody logs in as it.
pub(super) fn role(name: &str) -> String {
    format!("jangbu_analyst_{name}")
}

/// Makes sure of the role, and that we may act as it. Several may do so at once, in any database.
pub(super) fn ensure_role(name: &str) -> String {
    let role = role(name);
    format!(
        "do $jangbu$ begin
    begin
        if not exists (select from pg_catalog.pg_roles where rolname = '{role}') then
            create role {role} nologin;
        end if;
    exception when duplicate_object or unique_violation then null;
    end;
    begin
        if not pg_catalog.pg_has_role(current_user, '{role}', 'usage') then
            grant {role} to current_user;
        end if;
    exception when unique_violation then null;
    end;
end $jangbu$;
"
    )
}

/// Before the projection's own tables: it sees its schema alone, and for now may make things there.
pub(super) fn enter(name: &str) -> String {
    let role = role(name);
    format!(
        "select pg_catalog.set_config('search_path', pg_catalog.format('%I, pg_temp', pg_catalog.current_schema()), true);
do $jangbu$ begin
    execute pg_catalog.format('grant usage, create on schema %I to {role}', pg_catalog.current_schema());
end $jangbu$;
set local role {role};
"
    )
}

/// Behind them. The tables become ours, so that the walls between partitions stand for the role and not
/// for us; whoever reads them sees all partitions.
pub(super) fn leave(name: &str) -> String {
    let role = role(name);
    format!(
        "reset role;
do $jangbu$ declare jangbu_table text; begin
    execute pg_catalog.format('revoke create on schema %I from {role}', pg_catalog.current_schema());
    for jangbu_table in
        select tablename from pg_catalog.pg_tables where schemaname = pg_catalog.current_schema()
    loop
        execute pg_catalog.format('alter table %I owner to current_user', jangbu_table);
        execute pg_catalog.format('alter table %I enable row level security', jangbu_table);
        execute pg_catalog.format('create policy jangbu_partition on %I using (partition = coalesce('
            'nullif(pg_catalog.current_setting(''jangbu.partition'', true), '''')::smallint, partition))', jangbu_table);
        execute pg_catalog.format('grant select, insert, update, delete on %I to {role}', jangbu_table);
    end loop;
end $jangbu$;
select pg_catalog.set_config('search_path', pg_catalog.format('%I, public', pg_catalog.current_schema()), true);
"
    )
}

/// Everything that [`Registered::schema`](crate::Registered::schema) must do, and a fingerprint of what
/// the file makes of events: two of the same make the same tables.
pub(super) fn schema(source: &Source, parsed: &Parsed) -> (String, String) {
    let mut own = String::new();
    for statement in &parsed.tables {
        own.push_str(&render::definition(source, statement).sql);
        own.push_str(";\n");
    }
    let body = body(source, parsed);
    let fingerprint = fingerprint(source, parsed);
    let tag = format!("$jangbu_{}$", &fingerprint[..16]);
    let name = &parsed.name;
    let mut text = ensure_role(name);
    text.push_str(&enter(name));
    text.push_str(&own);
    write!(
        text,
        "create function jangbu_apply(jangbu_partition smallint, jangbu_events jsonb) returns void
language plpgsql security definer
set search_path from current set timezone = 'Asia/Seoul' set datestyle = 'ISO'
as {tag}{body}{tag};
comment on function jangbu_apply(smallint, jsonb) is '{fingerprint}';
revoke all on function jangbu_apply(smallint, jsonb) from public;
"
    )
    .expect(WRITES);
    text.push_str(&leave(name));
    (text, fingerprint)
}

/// Names of columns win over ours, which no file can have.
fn body(source: &Source, parsed: &Parsed) -> String {
    let mut body = format!(
        "
#variable_conflict use_column
declare
    {EVENT} jsonb;
begin
    perform pg_catalog.set_config('jangbu.partition', jangbu_partition::text, true);
    for {EVENT} in select told.value from pg_catalog.jsonb_array_elements(jangbu_events) as told (value) loop
        case {EVENT} ->> 'event_type'
"
    );
    for section in &parsed.sections {
        let Some(shape) = Shape::of(section.event_type) else {
            continue;
        };
        writeln!(body, "        when '{}' then", section.event_type).expect(WRITES);
        for statement in &section.statements {
            body.push_str(&render::change(source, statement, &shape, section.event_type, EVENT).sql);
            body.push_str(";\n");
        }
    }
    body.push_str(
        "        else null;\n        end case;\n    end loop;\n    \
         perform pg_catalog.set_config('jangbu.partition', '', true);\nend\n",
    );
    body
}

/// Of what the file says, without comments and white space: another version of this program may make
/// another text of the same file.
fn fingerprint(source: &Source, parsed: &Parsed) -> String {
    let mut digest = Sha256::new();
    let sections = parsed
        .sections
        .iter()
        .map(|section| (section.event_type, &section.statements));
    for (event_type, statements) in [("", &parsed.tables)].into_iter().chain(sections) {
        digest.update(format!("\0\0{event_type}"));
        for statement in statements {
            for token in &statement.tokens {
                digest.update(token.text(&source.text));
                digest.update(" ");
            }
            digest.update(";");
        }
    }
    hex(&digest.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect(WRITES);
            text
        })
}
