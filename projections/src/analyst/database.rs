//! What PostgreSQL says of a projection in SQL: everything is made and tried in a schema that is gone
//! afterwards.

use std::ops::Range;

use jangbu_events::{Event, Metadata, Recorded, Slot, StoreId, samples};
use sqlx::{
    Acquire as _, Connection, Executor as _, PgConnection, PgPool, Postgres, Statement as _, Transaction,
    postgres::{PgDatabaseError, PgErrorPosition},
    types::Json,
};
use uuid::Uuid;

use super::{
    Analyst, Problem, compile,
    lexer::Kind,
    parse::{Section, Statement},
    render::{self, Rendered},
    rules,
    run::{PATIENCE, Told},
    shape::Shape,
};
use crate::Registered;

/// The event, in a statement that stands by itself.
const EVENT: &str = "$1::jsonb";
/// The partition that samples are told in; a file that writes another number shows.
const PARTITION: i16 = 61;

/// Why a projection in SQL is not run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The file is wrong.
    #[error("{}", .0.iter().map(Problem::brief).collect::<Vec<_>>().join("; "))]
    Problems(Vec<Problem>),
    /// There is no role for it, and we may not make one.
    #[error(
        "the database user {user} may not make the role {role}, without which nothing keeps the statements of \
         analysts within their own tables: {reason}. An administrator can: create role {role} nologin; \
         grant {role} to {user}"
    )]
    Role {
        /// Who we are.
        user: String,
        /// What is missing.
        role: String,
        /// What PostgreSQL says.
        reason: String,
    },
    /// Its tables were made by another text of the same version.
    #[error(
        "{name} was changed but is still version {version}, whose tables are there (schema {schema}); raise `-- version:`"
    )]
    Changed {
        /// Which.
        name: String,
        /// As the file says.
        version: i32,
        /// Where the tables are.
        schema: String,
    },
    /// PostgreSQL did not answer.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Makes the role that a projection in SQL runs as, if it is one and there is none yet.
pub async fn prepare(db: &PgPool, projection: &Registered) -> Result<(), Refusal> {
    match projection.analyst() {
        None => Ok(()),
        Some(analyst) => require_role(&mut *db.acquire().await?, analyst).await,
    }
}

/// Whether a projection can be run: always, if it is none in SQL. Asks PostgreSQL about the file, and
/// compares it with the builds that are there.
pub async fn admit(db: &PgPool, projection: &Registered) -> Result<(), Refusal> {
    let Some(analyst) = projection.analyst() else {
        return Ok(());
    };
    check(db, analyst).await?;
    let other: Option<String> = sqlx::query_scalar(
        "select b.schema_name
         from builds as b
         left join pg_catalog.pg_namespace as n on n.nspname = b.schema_name
         left join pg_catalog.pg_proc as p on p.pronamespace = n.oid and p.proname = 'jangbu_apply'
         where b.projection = $1 and b.code_version = $2
           and obj_description(p.oid, 'pg_proc') is distinct from $3
         limit 1",
    )
    .bind(projection.name)
    .bind(projection.code_version)
    .bind(&analyst.fingerprint)
    .fetch_optional(db)
    .await?;
    match other {
        None => Ok(()),
        Some(schema) => Err(Refusal::Changed {
            name: projection.name.to_owned(),
            version: projection.code_version,
            schema,
        }),
    }
}

/// Has PostgreSQL make the tables, read every statement and try it on samples, and leaves nothing behind.
pub async fn check(db: &PgPool, analyst: &Analyst) -> Result<(), Refusal> {
    // A connection of its own: what it has prepared is of tables that are gone.
    let mut connection = PgConnection::connect_with(&db.connect_options()).await?;
    let mut tx = Connection::begin(&mut connection).await?;
    let found = examine(&mut tx, analyst).await;
    tx.rollback().await?;
    connection.close().await?;
    let problems = found?;
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Problems(problems))
    }
}

async fn examine(tx: &mut Transaction<'_, Postgres>, analyst: &Analyst) -> Result<Vec<Problem>, Refusal> {
    require_role(tx, analyst).await?;
    let patience = PATIENCE.as_millis();
    tx.execute(format!("set local statement_timeout = {patience}").as_str())
        .await?;
    let mut problems = volatile_functions(tx, analyst).await?;
    if !problems.is_empty() {
        return Ok(problems);
    }
    begin_scratch(tx).await?;
    tx.execute(compile::enter(analyst.name()).as_str()).await?;
    for statement in &analyst.parsed.tables {
        let rendered = render::definition(&analyst.source, statement);
        if let Err(error) = tx.execute(rendered.sql.as_str()).await {
            return Ok(vec![analyst.refused(statement, &rendered, error)?]);
        }
    }
    tx.execute(compile::leave(analyst.name()).as_str()).await?;
    tx.execute("set local timezone = 'Asia/Seoul'").await?;
    for section in &analyst.parsed.sections {
        for statement in &section.statements {
            problems.extend(read(tx, analyst, section, statement).await?);
        }
    }
    if problems.is_empty() {
        problems = try_out(tx, analyst).await?;
    }
    if problems.is_empty() {
        // As it will be.
        end_scratch(tx).await?;
        begin_scratch(tx).await?;
        tx.execute(analyst.schema.as_str()).await?;
    }
    Ok(problems)
}

async fn begin_scratch(tx: &mut Transaction<'_, Postgres>) -> sqlx::Result<()> {
    tx.execute(
        "do $$ begin
             execute format('create schema jangbu_check_%s', pg_backend_pid());
         end $$;
         select set_config('search_path', format('jangbu_check_%s, public', pg_backend_pid()), true)",
    )
    .await?;
    Ok(())
}

async fn end_scratch(tx: &mut Transaction<'_, Postgres>) -> sqlx::Result<()> {
    tx.execute(
        "set local client_min_messages = warning;
         do $$ begin
             execute format('drop schema jangbu_check_%s cascade', pg_backend_pid());
         end $$",
    )
    .await?;
    Ok(())
}

async fn require_role(db: &mut PgConnection, analyst: &Analyst) -> Result<(), Refusal> {
    let user: String = sqlx::query_scalar("select current_user::text")
        .fetch_one(&mut *db)
        .await?;
    match db.execute(compile::ensure_role(analyst.name()).as_str()).await {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501") => Err(Refusal::Role {
            user,
            role: analyst.role(),
            reason: error.message().to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Calls of functions that PostgreSQL itself says give another answer every time.
async fn volatile_functions(tx: &mut Transaction<'_, Postgres>, analyst: &Analyst) -> Result<Vec<Problem>, Refusal> {
    let text = &analyst.source.text;
    let mut calls: Vec<(String, Range<usize>)> = Vec::new();
    let of_sections = analyst.parsed.sections.iter().flat_map(|section| &section.statements);
    for statement in analyst.parsed.tables.iter().chain(of_sections) {
        for pair in statement.tokens.windows(2) {
            if matches!(pair[0].kind, Kind::Word | Kind::Quoted) && pair[1].is_symbol(text, "(") {
                let name = pair[0].text(text).trim_matches('"').to_lowercase();
                calls.push((name, pair[0].span.clone()));
            }
        }
    }
    let names: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    let volatile: Vec<String> = sqlx::query_scalar(
        "select distinct proname::text
         from pg_catalog.pg_proc
         where proname = any($1) and provolatile = 'v' and pronamespace = 'pg_catalog'::regnamespace",
    )
    .bind(&names)
    .fetch_all(&mut **tx)
    .await?;
    Ok(calls
        .iter()
        .filter(|(name, _)| volatile.contains(name))
        .map(|(name, span)| analyst.source.problem(span.clone(), rules::volatile(name)))
        .collect())
}

/// Has a statement read, in the role that will run it.
async fn read(
    tx: &mut Transaction<'_, Postgres>,
    analyst: &Analyst,
    section: &Section,
    statement: &Statement,
) -> Result<Option<Problem>, Refusal> {
    let rendered = analyst.change(section, statement);
    let mut savepoint = tx.begin().await?;
    within(&mut savepoint, analyst).await?;
    let prepared = (&mut *savepoint).prepare(&rendered.sql).await;
    let problem = match prepared {
        Ok(prepared) if prepared.columns().is_empty() => None,
        Ok(_) => Some(
            analyst
                .source
                .problem(statement.start(), "this gives rows, and nobody reads them"),
        ),
        Err(error) => Some(analyst.refused(statement, &rendered, error)?),
    };
    savepoint.rollback().await?;
    Ok(problem)
}

/// Until the savepoint is rolled back, we are the analyst's role in one partition, and see its schema only.
async fn within(db: &mut PgConnection, analyst: &Analyst) -> sqlx::Result<()> {
    let enter = format!(
        "select set_config('search_path', format('jangbu_check_%s, pg_temp', pg_backend_pid()), true),
             set_config('jangbu.partition', '{PARTITION}', true);
         set local role {}",
        analyst.role()
    );
    db.execute(enter.as_str()).await?;
    Ok(())
}

/// Tells the statements a sample of every event that they are for, one after the other.
async fn try_out(tx: &mut Transaction<'_, Postgres>, analyst: &Analyst) -> Result<Vec<Problem>, Refusal> {
    let mut problems: Vec<Problem> = Vec::new();
    for event in sample_events() {
        let event_type = event.payload.name();
        let Some(section) = analyst
            .parsed
            .sections
            .iter()
            .find(|section| section.event_type == event_type)
        else {
            continue;
        };
        for statement in &section.statements {
            let rendered = analyst.change(section, statement);
            let mut savepoint = tx.begin().await?;
            within(&mut savepoint, analyst).await?;
            let mut query = sqlx::query(&rendered.sql);
            if statement.tokens.iter().any(|token| token.kind == Kind::Parameter) {
                query = query.bind(Json(Told::of(PARTITION, &event)));
            }
            match query.execute(&mut *savepoint).await {
                Ok(_) => {
                    savepoint.execute("reset role").await?;
                    savepoint.commit().await?;
                }
                Err(error) => {
                    savepoint.rollback().await?;
                    if !may_be_the_sample(&error) {
                        let problem = analyst.refused(statement, &rendered, error)?;
                        let known = |known: &Problem| known.line == problem.line && known.column == problem.column;
                        if !problems.iter().any(known) {
                            problems.push(problem);
                        }
                    }
                }
            }
        }
    }
    Ok(problems)
}

/// Samples are told side by side as they never happen, so keys and checks may well refuse them; a value
/// that is missing, or is of another type, would be so of any event.
fn may_be_the_sample(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code.starts_with("23") && code != "23502")
}

fn sample_events() -> impl Iterator<Item = Recorded<Event>> {
    let events = samples::all().into_iter().chain(samples::of_members());
    events.zip(1..).map(|(payload, position)| {
        let aggregate_type = match &payload {
            Event::Cart(_) => "cart",
            Event::Customer(_) => "customer",
            Event::Order(_) => "order",
            Event::Payment(_) => "payment",
            Event::Product(_) => "product",
            Event::Stock(_) => "stock_item",
        };
        let aggregate_id = match &payload {
            Event::Cart(_) => samples::cart_id().to_string(),
            Event::Customer(_) => samples::customer_id().to_string(),
            Event::Order(_) => samples::order_id().to_string(),
            Event::Payment(_) => samples::payment_id().to_string(),
            Event::Product(_) => samples::line().product_id.to_string(),
            Event::Stock(_) => samples::line().product_id.stock_item().to_string(),
        };
        Recorded {
            position,
            slot: Slot::of(Uuid::nil()),
            store_id: StoreId::DEFAULT,
            event_id: Uuid::from_u128(position.unsigned_abs().into()),
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id,
            sequence: position,
            command_id: Uuid::nil(),
            causation_id: None,
            correlation_id: None,
            occurred_at: samples::moment(),
            recorded_at: samples::moment(),
            metadata: Metadata::default(),
            payload,
        }
    })
}

impl Analyst {
    fn change(&self, section: &Section, statement: &Statement) -> Rendered {
        let shape = Shape::of(section.event_type).unwrap_or(Shape::Free);
        render::change(&self.source, statement, &shape, section.event_type, EVENT)
    }

    /// What PostgreSQL does not like of a statement, where it stands in the file; any other failure stays one.
    fn refused(&self, statement: &Statement, rendered: &Rendered, error: sqlx::Error) -> Result<Problem, Refusal> {
        let Some(refused) = error
            .as_database_error()
            .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        else {
            return Err(error.into());
        };
        let place = match refused.position() {
            Some(PgErrorPosition::Original(position)) => rendered.place(position),
            Some(PgErrorPosition::Internal { .. }) | None => None,
        };
        let mut message = format!("PostgreSQL: {}", refused.message());
        for more in [refused.detail(), refused.hint()].into_iter().flatten() {
            message.push_str(". ");
            message.push_str(more.trim_end_matches('.'));
        }
        message.push_str(match refused.code() {
            "42501" if refused.message().contains("row-level security") => {
                "; every row carries the partition at work: write :partition into its column partition"
            }
            "42501" => "; a projection sees its own tables only",
            "57014" => "; one event may not take so long",
            "55P03" | "40P01" => return Err(error.into()),
            _ => "",
        });
        Ok(self.source.problem(place.unwrap_or(statement.start()), message))
    }
}
