//! The database: whether it answers, whether it is fit to hold a log, and whether its tables are ours.

use std::time::Duration;

use chrono::TimeDelta;
use jangbu_events::Timestamp;
use sqlx::{
    Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError},
    postgres::PgConnectOptions,
};

use super::{Finding, outside::skew_finding, shop};
use crate::{
    clock::Surroundings,
    config::{Config, Database},
    embedded,
    node::{self, Connected},
};

const ABOUT: &str = "PostgreSQL";
/// For the first answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// As in `embedded`: with older ones the statements are not tested.
const OLDEST: i32 = 140_000;
/// The appender, the listener and the leases have connections beside the pools.
const CONNECTIONS_BESIDE: u32 = 8;
/// Clocks of two machines that NTP sets are nearer than this.
const SKEW_SEEN: TimeDelta = TimeDelta::seconds(2);

/// `undefined_table`.
const NO_SUCH_TABLE: &str = "42P01";

pub(super) async fn examine(config: &Config, surroundings: &Surroundings) -> Vec<Finding> {
    if config.database == Database::Embedded && !embedded::is_made(&config.data_dir) {
        return vec![Finding::ok(
            ABOUT,
            "no private database yet; it is made at the first start",
        )];
    }
    let Connected { options, embedded } = match node::connect(config).await {
        Ok(connected) => connected,
        Err(error) => {
            return vec![Finding::wrong(
                ABOUT,
                error.to_string(),
                "see the message; DATABASE_URL would name another database",
            )];
        }
    };
    let findings = look(config, surroundings, &options).await;
    if let Some(embedded) = embedded
        && let Err(error) = embedded.stop().await
    {
        tracing::warn!(%error, "the private database did not stop in order");
    }
    findings
}

async fn look(config: &Config, surroundings: &Surroundings, options: &PgConnectOptions) -> Vec<Finding> {
    let address = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    let mut db = match tokio::time::timeout(PATIENCE, PgConnection::connect_with(options)).await {
        Ok(Ok(db)) => db,
        Ok(Err(error)) => {
            return vec![Finding::wrong(
                ABOUT,
                format!("{address} does not let us in: {error}"),
                "start it, or correct address, user, password and database in DATABASE_URL",
            )];
        }
        Err(_) => {
            return vec![Finding::wrong(
                ABOUT,
                format!("{address} does not answer within {} s", PATIENCE.as_secs()),
                "check the address in DATABASE_URL and the firewall between",
            )];
        }
    };
    let mut findings = match server(config, &mut db, &address).await {
        Ok(findings) => findings,
        Err(error) => return vec![unreadable(ABOUT, &error)],
    };
    match skew(&mut db, surroundings).await {
        Ok(skew) => findings.push(skew_finding("clock and database", skew, SKEW_SEEN)),
        Err(error) => findings.push(unreadable("clock and database", &error)),
    }
    let (tables, usable) = match migrations(&mut db).await {
        Ok(state) => state,
        Err(error) => (unreadable("tables", &error), false),
    };
    findings.push(tables);
    // It is only told that we leave.
    let _ = db.close().await;
    if !usable {
        return findings;
    }
    match node::pool(options, 2).await {
        Ok(pool) => {
            findings.extend(shop::examine(config, &pool, surroundings.now()).await);
            pool.close().await;
        }
        Err(error) => findings.push(unreadable(ABOUT, &error)),
    }
    findings
}

pub(super) fn unreadable(about: &str, error: &dyn std::fmt::Display) -> Finding {
    Finding::wrong(about, format!("cannot be read: {error}"), "look into PostgreSQL's log")
}

/// Version and settings that the log's promises hang on.
async fn server(config: &Config, db: &mut PgConnection, address: &str) -> sqlx::Result<Vec<Finding>> {
    let server = sqlx::query!(
        r#"select current_setting('server_version') as "version!",
            current_setting('server_version_num')::integer as "number!",
            current_setting('server_encoding') as "encoding!",
            current_setting('fsync') = 'on' as "fsync!",
            current_setting('full_page_writes') = 'on' as "full_page_writes!",
            current_setting('synchronous_commit') <> 'off' as "synchronous_commit!",
            current_setting('max_connections')::integer as "connections!",
            has_database_privilege(current_database(), 'CREATE')
                and has_schema_privilege('public', 'CREATE') as "may_create!",
            current_database()::text as "database!",
            current_user::text as "role!""#
    )
    .fetch_one(db)
    .await?;
    let version = server.version.split(' ').next().unwrap_or_default();
    let mut findings = vec![if server.number < OLDEST {
        Finding::wrong(
            ABOUT,
            format!("{version} at {address} is too old"),
            "upgrade to version 14 or newer",
        )
    } else {
        Finding::ok(
            ABOUT,
            format!(
                "{version} at {address}, database {}, role {}",
                server.database, server.role
            ),
        )
    }];
    if server.encoding != "UTF8" {
        findings.push(Finding::wrong(
            "encoding",
            format!("the database is in {}", server.encoding),
            "create it anew with encoding UTF8",
        ));
    }
    findings.push(durability(
        server.fsync,
        server.full_page_writes,
        server.synchronous_commit,
    ));
    findings.push(if server.may_create {
        Finding::ok("rights", format!("{} may create tables and schemas", server.role))
    } else {
        Finding::wrong(
            "rights",
            format!("{} may not create tables and schemas", server.role),
            format!(
                "as a superuser: grant create on database {} to {role}; grant create on schema public to {role}",
                server.database,
                role = server.role
            ),
        )
    });
    // Two pools, of which the reading one has half the connections.
    let wanted = config.db_pool_max + (config.db_pool_max / 2).max(2) + CONNECTIONS_BESIDE;
    let allowed = u32::try_from(server.connections).unwrap_or_default();
    if wanted > allowed {
        findings.push(Finding::warn(
            "connections",
            format!("one process may want {wanted}, and the server allows {allowed} to all"),
            "lower JANGBU_DB_POOL_MAX or raise max_connections",
        ));
    }
    Ok(findings)
}

fn durability(fsync: bool, full_page_writes: bool, synchronous_commit: bool) -> Finding {
    let off: Vec<&str> = [
        ("fsync", fsync),
        ("full_page_writes", full_page_writes),
        ("synchronous_commit", synchronous_commit),
    ]
    .into_iter()
    .filter_map(|(name, on)| (!on).then_some(name))
    .collect();
    if off.is_empty() {
        return Finding::ok("durability", "what is committed stays (fsync is on)");
    }
    Finding::wrong(
        "durability",
        format!("off: {}; a power cut can lose or destroy orders", off.join(", ")),
        "turn it on in postgresql.conf and reload",
    )
}

/// Ours less the database's, as seen in the middle of the question.
async fn skew(db: &mut PgConnection, surroundings: &Surroundings) -> sqlx::Result<TimeDelta> {
    let asked = surroundings.now();
    let theirs: Timestamp = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db)
        .await?;
    Ok(asked + (surroundings.now() - asked) / 2 - theirs)
}

/// Whether the tables are of this version, and whether they can be read by it.
async fn migrations(db: &mut PgConnection) -> Result<(Finding, bool), MigrateError> {
    const ABOUT: &str = "tables";
    let applied = match db.list_applied_migrations().await {
        Ok(applied) => applied,
        Err(MigrateError::Execute(sqlx::Error::Database(error))) if error.code().as_deref() == Some(NO_SUCH_TABLE) => {
            let finding = Finding::warn(ABOUT, "there are none yet", "run `jangbu migrate`, or simply start");
            return Ok((finding, false));
        }
        Err(error) => return Err(error),
    };
    if let Some(version) = db.dirty_version().await? {
        let finding = Finding::wrong(
            ABOUT,
            format!("migration {version} was broken off"),
            "restore the backup that was made before the upgrade",
        );
        return Ok((finding, false));
    }
    let known: Vec<_> = node::MIGRATOR.iter().collect();
    for migration in &applied {
        let Some(ours) = known.iter().find(|known| known.version == migration.version) else {
            let finding = Finding::wrong(
                ABOUT,
                format!("a newer version has added migration {}", migration.version),
                "run that version of jangbu",
            );
            return Ok((finding, false));
        };
        if ours.checksum != migration.checksum {
            let finding = Finding::wrong(
                ABOUT,
                format!("migration {} is not the one that was applied", migration.version),
                "run the version of jangbu that made this database",
            );
            return Ok((finding, false));
        }
    }
    let pending = known.len() - applied.len();
    Ok(if pending == 0 {
        (
            Finding::ok(ABOUT, format!("up to date ({} migrations)", known.len())),
            true,
        )
    } else {
        let finding = Finding::warn(
            ABOUT,
            format!("{pending} of {} migrations are to be applied", known.len()),
            "run `jangbu migrate`, or simply start",
        );
        (finding, false)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_lose_orders_is_named() {
        assert!(!durability(true, true, true).is_wrong());
        let finding = durability(false, true, false);
        assert!(finding.is_wrong());
        assert!(finding.says.starts_with("off: fsync, synchronous_commit;"), "{finding}");
    }
}
