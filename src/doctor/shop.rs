//! What the tables tell: whether everybody who reads the log keeps up, whether work is left lying,
//! and whether the master key is the right one.

use chrono::TimeDelta;
use jangbu_events::Timestamp;
use jangbu_projections::builds;
use sqlx::PgPool;

use super::{Finding, database::unreadable, setup, sql};
use crate::{config::Config, processes::CHECKOUT, sealing::Sealer, timers::WAITS_FOR_ACCOUNT};

/// A timer is taken within a second where anybody runs them.
const OVERDUE: TimeDelta = TimeDelta::minutes(1);
/// Data keys that are tried, from the oldest and from the newest.
const KEYS_TRIED: i64 = 3;

pub(super) async fn examine(config: &Config, db: &PgPool, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    match log(db).await {
        Ok(finding) => findings.push(finding),
        Err(error) => return vec![unreadable("log", &error)],
    }
    match readers(config, db, now).await {
        Ok(lags) => findings.extend(lags),
        Err(error) => findings.push(unreadable("projections", &error)),
    }
    for (about, found) in [
        ("timers", timers(db, now).await),
        ("refunds", refunds(db).await),
        ("holds", holds(db).await),
        ("failures", failures(db).await),
        ("parked", parked(db).await),
        ("webhooks", webhooks(db).await),
    ] {
        findings.push(found.unwrap_or_else(|error| unreadable(about, &error)));
    }
    findings.extend(sql::examine(&config.sql_projections, db).await);
    findings.push(personal_data(config, db).await);
    findings
}

async fn log(db: &PgPool) -> sqlx::Result<Finding> {
    let identity = sqlx::query_scalar!("select log_id from log_identity")
        .fetch_one(db)
        .await?;
    let head = crate::feed::head(db).await?;
    Ok(Finding::ok("log", format!("{head} events; its id is {identity}")))
}

/// Everybody who follows the log, with how far.
async fn readers(config: &Config, db: &PgPool, now: Timestamp) -> sqlx::Result<Vec<Finding>> {
    let names: Vec<&str> = jangbu_projections::built_in()
        .iter()
        .map(|projection| projection.name)
        .collect();
    let mut positions: Vec<(String, i64, &str)> = builds::positions(db, &names)
        .await?
        .into_iter()
        .map(|(name, position)| (name, position, "`jangbu serve` or `jangbu project`"))
        .collect();
    let checkout = sqlx::query_scalar!("select position from process_checkpoints where process = $1", CHECKOUT)
        .fetch_optional(db)
        .await?;
    positions.push((CHECKOUT.to_owned(), checkout.unwrap_or(0), "`jangbu serve`"));
    if config.amqp_url.is_some() {
        let relay = sqlx::query_scalar!("select position from relay_checkpoint")
            .fetch_one(db)
            .await?;
        positions.push(("relay".to_owned(), relay, "`jangbu serve` or `jangbu relay`"));
    }
    let lag_max = TimeDelta::from_std(config.ready_lag_max).unwrap_or(TimeDelta::seconds(30));
    // After the checkpoints, so that none of them can seem to be ahead.
    let head = crate::feed::head(db).await?;
    let mut findings = Vec::new();
    for (name, position, fed_by) in positions {
        let waiting_since = sqlx::query_scalar!("select recorded_at from events where position = $1", position + 1)
            .fetch_optional(db)
            .await?;
        findings.push(reader(
            &name,
            head - position,
            waiting_since.map(|at| now - at),
            lag_max,
            fed_by,
        ));
    }
    Ok(findings)
}

/// `waits`: for how long the first event that it has not read has been there.
fn reader(name: &str, behind: i64, waits: Option<TimeDelta>, lag_max: TimeDelta, fed_by: &str) -> Finding {
    if behind < 0 {
        return Finding::wrong(
            name,
            format!("has read {} events that are not in the log: it was restored", -behind),
            "stop everything and run `jangbu log fence`",
        );
    }
    match waits {
        Some(waits) if waits > lag_max => Finding::warn(
            name,
            format!("{behind} events behind, for {} s", waits.num_seconds()),
            format!("is {fed_by} running? its log says what holds it up"),
        ),
        Some(_) => Finding::ok(name, format!("{behind} events behind, for a moment")),
        None => Finding::ok(name, "up to date"),
    }
}

async fn timers(db: &PgPool, now: Timestamp) -> sqlx::Result<Finding> {
    let row = sqlx::query!(
        r#"select count(*) as "all!",
            count(*) filter (where due_at < $1) as "overdue!",
            count(*) filter (where last_error <> $2 and kind <> 'hold_backstop') as "failing!",
            (array_agg(kind || ': ' || last_error order by attempts desc)
                filter (where last_error <> $2 and kind <> 'hold_backstop'))[1] as worst
        from timers"#,
        now - OVERDUE,
        WAITS_FOR_ACCOUNT,
    )
    .fetch_one(db)
    .await?;
    Ok(if row.overdue > 0 {
        Finding::warn(
            "timers",
            format!("{} of {} are overdue", row.overdue, row.all),
            "is `jangbu serve` running? orders neither expire nor are refunds asked for until it is",
        )
    } else if row.failing > 0 {
        Finding::warn(
            "timers",
            format!(
                "{} of {} are tried again, such as {}",
                row.failing,
                row.all,
                row.worst.unwrap_or_default()
            ),
            "they go on by themselves once what they complain of is repaired",
        )
    } else {
        Finding::ok("timers", format!("{} are set, none is overdue", row.all))
    })
}

/// Money that came by bank transfer goes back to an account, and somebody has to say which.
async fn refunds(db: &PgPool) -> sqlx::Result<Finding> {
    let waiting = sqlx::query!(
        r#"select count(*) as "count!", min(payload ->> 'payment_id') as example
        from timers
        where kind = 'refund' and last_error = $1"#,
        WAITS_FOR_ACCOUNT,
    )
    .fetch_one(db)
    .await?;
    Ok(if waiting.count == 0 {
        Finding::ok("refunds", "none waits for an account to go to")
    } else {
        Finding::warn(
            "refunds",
            format!(
                "{} wait for an account of the buyer's to go to, such as that of {}",
                waiting.count,
                waiting.example.unwrap_or_default()
            ),
            "ask the buyer, and say it with PUT /api/v1/admin/payments/{payment_id}/refund-account",
        )
    })
}

/// A hold is given back or sold by its order; one that is left a day later is a mistake of ours.
async fn holds(db: &PgPool) -> sqlx::Result<Finding> {
    let left = sqlx::query!(
        r#"select count(*) as "count!", min(key) as example
        from timers
        where kind = 'hold_backstop' and last_error is not null"#
    )
    .fetch_one(db)
    .await?;
    Ok(if left.count == 0 {
        Finding::ok("holds", "none is left over")
    } else {
        Finding::wrong(
            "holds",
            format!(
                "{} orders still hold stock a day after their deadline, such as {}",
                left.count,
                left.example.unwrap_or_default()
            ),
            "look at the order and at the rows of process_failures that name it",
        )
    })
}

async fn failures(db: &PgPool) -> sqlx::Result<Finding> {
    let row = sqlx::query!(
        r#"select count(*) as "count!",
            (array_agg(process || ' ' || step || ' of ' || key || ': ' || error order by failed_at desc))[1] as latest
        from process_failures"#
    )
    .fetch_one(db)
    .await?;
    Ok(if row.count == 0 {
        Finding::ok("failures", "every step of every order went through")
    } else {
        Finding::wrong(
            "failures",
            format!(
                "{} steps could not be done, the latest {}",
                row.count,
                row.latest.unwrap_or_default()
            ),
            "repair what it says, then run `jangbu processes retry --all`",
        )
    })
}

/// What projections leave out, and where one of them stands still.
/// Programs of others that are told what happens.
async fn webhooks(db: &PgPool) -> sqlx::Result<Finding> {
    let about = "webhooks";
    let row = sqlx::query!(
        r#"select (select count(*) from webhook_endpoints where enabled) as "served!",
            (select count(*) from webhook_endpoints where gone_at is not null) as "gone!",
            (select count(*) from webhook_held where parked) as "parked!""#
    )
    .fetch_one(db)
    .await?;
    Ok(if row.parked > 0 {
        Finding::warn(
            about,
            format!(
                "{} aggregates were given up for endpoints that did not take them",
                row.parked
            ),
            "`jangbu webhooks list` says whose; once it is mended, `jangbu webhooks retry`",
        )
    } else if row.gone > 0 {
        Finding::warn(
            about,
            format!("{} endpoints want nothing more (410), and are disabled", row.gone),
            "enable them again, or delete them: /api/v1/admin/webhooks",
        )
    } else {
        Finding::ok(about, format!("{} endpoints are told what happens", row.served))
    })
}

async fn parked(db: &PgPool) -> sqlx::Result<Finding> {
    let about = "parked";
    let troubles = builds::parking::troubles(db).await?;
    let stopped = troubles
        .iter()
        .find_map(|(name, trouble)| Some((name, trouble.stopped.as_ref()?)));
    if let Some((name, reason)) = stopped {
        return Ok(Finding::wrong(
            about,
            format!("{name} stands still: {reason}"),
            "an unknown event was written by a newer version: start that one; a projection in SQL wants its file \
             repaired and its version raised; it goes on by itself",
        ));
    }
    let parked: i64 = troubles.values().map(|trouble| trouble.parked).sum();
    Ok(if parked == 0 {
        Finding::ok(about, "every projection takes every event")
    } else {
        let names: Vec<&str> = troubles.keys().map(String::as_str).collect();
        Finding::wrong(
            about,
            format!("{parked} aggregates are missing from {}", names.join(", ")),
            "`jangbu parked list` says why; once it is repaired, `jangbu parked retry --all`",
        )
    })
}

/// Tries the master key on data keys that are there.
async fn personal_data(config: &Config, db: &PgPool) -> Finding {
    let about = "personal data";
    let sample = sqlx::query_scalar!(
        r#"(select key_id as "key_id!" from personal_keys order by key_id limit $1)
        union
        (select key_id from personal_keys order by key_id desc limit $1)"#,
        KEYS_TRIED,
    )
    .fetch_all(db)
    .await;
    let sample = match sample {
        Ok(sample) => sample,
        Err(error) => return unreadable(about, &error),
    };
    if sample.is_empty() {
        return Finding::ok(about, "none is stored yet");
    }
    let Some(master) = setup::master_key(config) else {
        return Finding::wrong(
            about,
            "it is sealed, and there is no master key",
            "set JANGBU_MASTER_KEY, or restore master.key into JANGBU_DATA_DIR; without it the data is lost",
        );
    };
    match Sealer::new(master.expose()).keys(db, &sample).await {
        Ok(_) => Finding::ok(about, "the master key opens it"),
        Err(error) => Finding::wrong(
            about,
            error.to_string(),
            "set JANGBU_MASTER_KEY to the key that it was written with",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Mark;

    #[test]
    fn a_reader_may_be_behind_for_a_moment() {
        let of = |behind, waits: Option<i64>| {
            reader(
                "sales",
                behind,
                waits.map(TimeDelta::seconds),
                TimeDelta::seconds(30),
                "`jangbu project`",
            )
        };
        assert_eq!(of(0, None).mark, Mark::Ok);
        assert_eq!(of(7, Some(2)).mark, Mark::Ok);
        let late = of(7, Some(31));
        assert_eq!(late.mark, Mark::Warn);
        assert_eq!(late.says, "7 events behind, for 31 s");
        let restored = of(-3, None);
        assert!(
            restored.is_wrong() && restored.to_string().contains("log fence"),
            "{restored}"
        );
    }
}
