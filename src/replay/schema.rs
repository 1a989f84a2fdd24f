//! Schemas for analysts: how they may be called, whose they are, who may read them.
//!
//! What a schema holds is said in it, by the view `jangbu_replay` of one row. A schema without it is somebody
//! else's and is left alone.

use std::{collections::BTreeMap, fmt, str::FromStr};

use jangbu_events::Timestamp;
use jangbu_projections::Registered;
use sqlx::{Executor, PgConnection, Row};

use super::ReplayError;
use crate::as_of::Moment;

/// The view that says what a schema holds.
const MARK: &str = "jangbu_replay";
/// What a schema is called before it is full.
const SCRATCH: &str = "replaying_";
/// PostgreSQL cuts longer names off after 63.
const LENGTH_MAX: usize = 63 - SCRATCH.len();

/// What a schema for analysts may be called: in lower case, so that nobody has to quote it, and like none
/// that PostgreSQL or a build has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaName(String);

/// A name that will not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Other letters, or too many.
    #[error("a schema is called by 1 to {LENGTH_MAX} of a-z 0-9 _, and begins with a letter")]
    Letters,
    /// `public`, `pg_…`, `information_schema`, `sales_v1_b1` …
    #[error("that name is PostgreSQL's or Jangbu's own; choose another")]
    Reserved,
}

impl FromStr for SchemaName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let fits = text.len() <= LENGTH_MAX
            && text.bytes().all(letter)
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        if !fits {
            return Err(NameError::Letters);
        }
        let reserved = matches!(text, "public" | "information_schema")
            || text.starts_with("pg_")
            || text.starts_with(SCRATCH)
            || is_of_build(text);
        if reserved {
            return Err(NameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

/// `<projection>_v<code version>_b<build>`, of whatever projection: one that is called so may come.
fn is_of_build(text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.rsplit_once("_b")
        .filter(|(_, build)| number(build))
        .and_then(|(rest, _)| rest.rsplit_once("_v"))
        .is_some_and(|(_, version)| number(version))
}

impl SchemaName {
    /// What it is called before it is full; nobody else may call one so.
    pub(super) fn scratch(&self) -> Self {
        Self(format!("{SCRATCH}{}", self.0))
    }

    /// As it is, which needs no quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A replay that a schema holds already.
pub(super) struct Earlier {
    /// Of a projection in SQL.
    pub views: Vec<String>,
    /// Of which projection.
    pub projection: String,
    /// As of when.
    pub position: i64,
    /// The tables it made.
    tables: Vec<String>,
}

/// One replay into a schema at a time, as long as this connection lives.
pub(super) async fn lock(db: &mut PgConnection, name: &SchemaName) -> Result<(), ReplayError> {
    let locked = sqlx::query_scalar!(
        r#"select pg_try_advisory_lock(hashtextextended('jangbu replay ' || $1, 0)) as "locked!""#,
        name.as_str()
    )
    .fetch_one(db)
    .await?;
    if locked {
        Ok(())
    } else {
        Err(ReplayError::UnderWay(name.to_string()))
    }
}

/// What is in the schema; `None` if there is no such schema.
pub(super) async fn earlier(db: &mut PgConnection, name: &SchemaName) -> Result<Option<Earlier>, ReplayError> {
    let found = sqlx::query!(
        r#"select exists (select from pg_namespace where nspname = $1) as "schema!",
             exists (select from pg_views where schemaname = $1 and viewname = $2) as "mark!""#,
        name.as_str(),
        MARK
    )
    .fetch_one(&mut *db)
    .await?;
    if !found.schema {
        return Ok(None);
    }
    let foreign = || ReplayError::Foreign(name.to_string());
    if !found.mark {
        return Err(foreign());
    }
    // The name was checked, so nothing from outside is in the statement.
    let statement = format!("select * from {name}.{MARK}");
    let row = sqlx::query(&statement)
        .fetch_one(&mut *db)
        .await
        .map_err(|_| foreign())?;
    let earlier = || -> sqlx::Result<Earlier> {
        Ok(Earlier {
            projection: row.try_get("projection")?,
            position: row.try_get("position")?,
            tables: row.try_get("tables")?,
            // Replays made before there were any do not say.
            views: row.try_get("views").unwrap_or_default(),
        })
    };
    earlier().map(Some).map_err(|_| foreign())
}

/// Refuses a role that nobody has.
pub(super) async fn require_role(db: &mut PgConnection, role: &str) -> Result<(), ReplayError> {
    let unknown = || ReplayError::UnknownRole(role.replace('\0', " "));
    if role.contains('\0') {
        return Err(unknown());
    }
    let known = sqlx::query_scalar!(
        r#"select exists (select from pg_roles where rolname = $1) as "known!""#,
        role
    )
    .fetch_one(db)
    .await?;
    if known { Ok(()) } else { Err(unknown()) }
}

/// Makes sure that PostgreSQL takes the name without quotes: `order` and `user` are words of SQL.
pub(super) async fn require_no_keyword(db: &mut PgConnection, name: &SchemaName) -> Result<(), ReplayError> {
    let reserved = sqlx::query_scalar!(
        r#"select exists (
            select from pg_get_keywords() where word = $1 and catcode in ('R', 'T')
        ) as "reserved!""#,
        name.as_str()
    )
    .fetch_one(db)
    .await?;
    if reserved {
        Err(ReplayError::Keyword(name.to_string()))
    } else {
        Ok(())
    }
}

/// An empty schema.
pub(super) async fn create(db: &mut PgConnection, name: &SchemaName) -> sqlx::Result<()> {
    db.execute(format!("create schema {name}").as_str()).await?;
    Ok(())
}

/// Drops what was begun, if anything was.
pub(super) async fn discard(db: &mut PgConnection, scratch: &SchemaName) -> sqlx::Result<()> {
    let statement = format!("set client_min_messages = warning; drop schema if exists {scratch} cascade");
    db.execute(statement.as_str()).await?;
    Ok(())
}

/// Says in the schema what it holds, and counts its rows.
pub(super) async fn finish(
    db: &mut PgConnection,
    name: &SchemaName,
    projection: &Registered,
    partitions: i16,
    moment: Moment,
    now: Timestamp,
) -> sqlx::Result<BTreeMap<String, i64>> {
    let tables = sqlx::query_scalar!(
        r#"select tablename::text as "name!" from pg_catalog.pg_tables where schemaname = $1 order by 1"#,
        name.as_str()
    )
    .fetch_all(&mut *db)
    .await?;
    // Nobody tells it anything any more.
    db.execute(format!("drop function if exists {name}.jangbu_apply(smallint, jsonb)").as_str())
        .await?;
    let views: Vec<String> =
        sqlx::query_scalar("select viewname::text from pg_catalog.pg_views where schemaname = $1 order by 1")
            .bind(name.as_str())
            .fetch_all(&mut *db)
            .await?;
    // Every part is a number, a time, or a name out of the program or of a file.
    let listed = |names: &[String]| -> String {
        let names: Vec<String> = names
            .iter()
            .map(|name| format!("'{}'", name.replace('\'', "''")))
            .collect();
        names.join(", ")
    };
    let recorded_at = moment
        .recorded_at
        .map_or("null".to_owned(), |at| format!("'{}'", at.to_rfc3339()));
    let mark = format!(
        "create view {name}.{MARK} as
         select '{}'::text as projection, {} as code_version, {}::bigint as position,
           {recorded_at}::timestamptz as recorded_at, {partitions}::smallint as partitions,
           '{}'::timestamptz as made_at, array[{}]::text[] as tables, array[{}]::text[] as views",
        projection.name,
        projection.code_version,
        moment.position,
        now.to_rfc3339(),
        listed(&tables),
        listed(&views),
    );
    db.execute(mark.as_str()).await?;
    let mut rows = BTreeMap::new();
    for table in tables {
        let quoted = quoted(&table);
        db.execute(format!("analyze {name}.{quoted}").as_str()).await?;
        let count = format!("select count(*) from {name}.{quoted}");
        rows.insert(table, sqlx::query_scalar(&count).fetch_one(&mut *db).await?);
    }
    Ok(rows)
}

/// Drops an earlier replay, and nothing but that: what somebody else put there or built on it stays, and
/// so does the replay.
pub(super) async fn drop(db: &mut PgConnection, name: &SchemaName, earlier: &Earlier) -> Result<(), ReplayError> {
    let mut views = vec![format!("{name}.{MARK}")];
    views.extend(earlier.views.iter().map(|view| format!("{name}.{}", quoted(view))));
    // At once, since one may rest on another.
    let mut statements = vec![format!("drop view {}", views.join(", "))];
    statements.extend(
        earlier
            .tables
            .iter()
            .map(|table| format!("drop table {name}.{}", quoted(table))),
    );
    statements.push(format!("drop schema {name}"));
    db.execute(statements.join("; ").as_str())
        .await
        .map_err(|error| match error {
            // 2BP01: something depends on it.
            sqlx::Error::Database(refused) if refused.code().as_deref() == Some("2BP01") => ReplayError::InUse {
                schema: name.to_string(),
                reason: refused.message().to_owned(),
            },
            other => other.into(),
        })?;
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Gives it the name it is known by.
pub(super) async fn rename(db: &mut PgConnection, from: &SchemaName, to: &SchemaName) -> sqlx::Result<()> {
    db.execute(format!("alter schema {from} rename to {to}").as_str())
        .await?;
    Ok(())
}

/// Lets a role read everything in it, and no more.
pub(super) async fn grant(db: &mut PgConnection, name: &SchemaName, role: &str) -> sqlx::Result<()> {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let statement =
        format!("grant usage on schema {name} to {role}; grant select on all tables in schema {name} to {role}");
    db.execute(statement.as_str()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_called_like_nobody_else_s() {
        for name in [
            "audit_july",
            "a",
            "x1",
            "sales",
            "sales_v1",
            "sales_b1",
            "sales_vx_b1",
            &"a".repeat(LENGTH_MAX),
        ] {
            assert_eq!(
                name.parse::<SchemaName>().map(|name| name.to_string()).as_deref(),
                Ok(name)
            );
        }
        for name in [
            "",
            "1a",
            "_a",
            "Audit",
            "a-b",
            "a b",
            "a\"; drop schema public; --",
            "감사",
            "a\0",
            &"a".repeat(LENGTH_MAX + 1),
        ] {
            assert_eq!(name.parse::<SchemaName>(), Err(NameError::Letters), "{name:?}");
        }
        for name in [
            "public",
            "pg_catalog",
            "pg_temp",
            "information_schema",
            "sales_v1_b1",
            "new_v12_b345",
            "replaying_audit",
        ] {
            assert_eq!(name.parse::<SchemaName>(), Err(NameError::Reserved), "{name}");
        }
    }
}
