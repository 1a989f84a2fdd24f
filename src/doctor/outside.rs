//! The broker and PortOne, as far as they answer.

use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use reqwest::{StatusCode, header};

use super::{Finding, setup};
use crate::{
    broker::{self, ConnectError},
    clock::Surroundings,
    config::{Config, PortoneApi},
    portone::webhook,
};

/// For one question to somebody else.
const PATIENCE: Duration = Duration::from_secs(5);
/// `Date` headers have whole seconds, and the answer takes a while.
const SKEW_SEEN: TimeDelta = TimeDelta::seconds(5);

pub(super) async fn broker(config: &Config) -> Finding {
    let about = "RabbitMQ";
    let Some(url) = &config.amqp_url else {
        return Finding::ok(about, "not used (no AMQP_URL): workers poll the log");
    };
    let connection = match broker::connect(url.expose(), "doctor").await {
        Ok(connection) => connection,
        // The text may quote the address, which has a password.
        Err(ConnectError::Url(_)) => {
            return Finding::wrong(about, "AMQP_URL is not an AMQP URL", "see .env.example");
        }
        Err(error) => {
            return Finding::wrong(
                about,
                format!("does not let us in: {error}"),
                "start it, or correct address, user, password and virtual host in AMQP_URL; without AMQP_URL the \
                 workers poll the log",
            );
        }
    };
    let channel = tokio::time::timeout(PATIENCE, connection.create_channel()).await;
    let finding = match channel {
        Ok(Ok(_)) => Finding::ok(about, "lets us in"),
        Ok(Err(error)) => Finding::wrong(about, format!("opens no channel: {error}"), "look into its log"),
        Err(_) => Finding::wrong(about, "does not answer", "look into its log"),
    };
    // It is only told that we leave.
    let _ = tokio::time::timeout(PATIENCE, connection.close(200, "bye".into())).await;
    finding
}

pub(super) async fn portone(config: &Config, surroundings: &Surroundings) -> Vec<Finding> {
    let Some(api) = &config.portone.api else {
        return Vec::new();
    };
    let asked = surroundings.now();
    let answer = match ask(api, &surroundings.ids.uuid().simple().to_string()).await {
        Ok(answer) => answer,
        Err(error) => {
            let why = if error.is_timeout() {
                "no answer in time"
            } else if error.is_connect() {
                "no connection"
            } else {
                "the connection broke off"
            };
            return vec![Finding::wrong(
                "PortOne",
                format!("{} cannot be reached: {why}", api.base),
                "check the network and PORTONE_API_BASE; until then nobody can pay",
            )];
        }
    };
    let between = asked + (surroundings.now() - asked) / 2;
    let mut findings = vec![accepted(api, &answer)];
    if let Some(theirs) = answer.date {
        // The middle of the second that the header names.
        let skew = between - (theirs + TimeDelta::milliseconds(500));
        findings.push(skew_finding("clock and PortOne", skew, SKEW_SEEN));
    }
    if config.live && setup::is_local(&api.base) {
        findings.push(Finding::wrong(
            "PortOne",
            format!("the shop is live, and {} is this machine", api.base),
            "unset PORTONE_API_BASE",
        ));
    }
    findings
}

struct Answer {
    status: StatusCode,
    kind: Option<String>,
    date: Option<DateTime<chrono::Utc>>,
}

/// Reads a payment that cannot exist: harmless, and it shows whether the secret is accepted.
async fn ask(api: &PortoneApi, payment_id: &str) -> reqwest::Result<Answer> {
    let mut http = reqwest::Client::builder()
        .timeout(PATIENCE)
        // Whoever redirects must not be sent the secret.
        .redirect(reqwest::redirect::Policy::none());
    if setup::is_local(&api.base) {
        http = http.no_proxy();
    }
    let response = http
        .build()?
        .get(format!("{}/payments/{payment_id}", api.base))
        .query(&[("storeId", &api.store_id)])
        .header(header::AUTHORIZATION, format!("PortOne {}", api.secret.expose()))
        .send()
        .await?;
    let date = response
        .headers()
        .get(header::DATE)
        .and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok())
        .map(|date| date.to_utc());
    let status = response.status();
    let body: Option<serde_json::Value> = response.json().await.ok();
    let kind = body.and_then(|body| Some(body.get("type")?.as_str()?.to_owned()));
    Ok(Answer { status, kind, date })
}

fn accepted(api: &PortoneApi, answer: &Answer) -> Finding {
    let about = "PortOne";
    match (answer.status.as_u16(), answer.kind.as_deref()) {
        (404, Some("PAYMENT_NOT_FOUND")) => Finding::ok(about, format!("{} accepts the API secret", api.base)),
        (401, _) => Finding::wrong(
            about,
            format!("{} does not accept the API secret (401)", api.base),
            "copy the V2 API secret from PortOne's console into PORTONE_API_SECRET",
        ),
        (403, _) => Finding::wrong(
            about,
            "the API secret is good, but not for this store (403)",
            "check that PORTONE_STORE_ID and PORTONE_API_SECRET are of one store",
        ),
        (status @ 500.., _) => Finding::warn(
            about,
            format!("{} answered {status}", api.base),
            "try again in a while; PortOne may be under maintenance",
        ),
        (status, _) => Finding::wrong(
            about,
            format!("{} answered {status}, not as PortOne would", api.base),
            "check PORTONE_API_BASE",
        ),
    }
}

/// How far our clock is from somebody else's. Beyond the webhooks' tolerance nothing is accepted.
pub(super) fn skew_finding(about: &str, skew: TimeDelta, seen: TimeDelta) -> Finding {
    let tolerance = TimeDelta::from_std(webhook::TOLERANCE).unwrap_or(TimeDelta::minutes(5));
    let shown = format!(
        "{}.{:03} s",
        skew.num_seconds().abs(),
        skew.num_milliseconds().abs() % 1_000
    );
    let advice = "let NTP set the clocks (timedatectl set-ntp true)";
    let direction = if skew > TimeDelta::zero() { "ahead" } else { "behind" };
    if skew.abs() >= tolerance {
        Finding::wrong(
            about,
            format!(
                "this machine is {shown} {direction}: webhooks are refused beyond {} s",
                tolerance.num_seconds()
            ),
            advice,
        )
    } else if skew.abs() > seen {
        Finding::warn(about, format!("this machine is {shown} {direction}"), advice)
    } else {
        Finding::ok(about, "they agree")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Secret, doctor::Mark};

    fn finding(status: u16, kind: Option<&str>) -> Finding {
        let api = PortoneApi {
            base: "https://api.portone.io".to_owned(),
            secret: Secret::new("the-secret"),
            store_id: "store-1".to_owned(),
            channel_key: "channel-1".to_owned(),
        };
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            kind: kind.map(str::to_owned),
            date: None,
        };
        accepted(&api, &answer)
    }

    #[test]
    fn only_portones_own_not_found_is_good() {
        assert_eq!(finding(404, Some("PAYMENT_NOT_FOUND")).mark, Mark::Ok);
        assert_eq!(finding(404, None).mark, Mark::Wrong);
        assert_eq!(finding(503, None).mark, Mark::Warn);
        assert_eq!(finding(200, None).mark, Mark::Wrong);
        let refused = finding(401, Some("UNAUTHORIZED"));
        assert!(refused.is_wrong() && refused.to_string().contains("401"), "{refused}");
        assert!(!refused.to_string().contains("the-secret"));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let of = |milliseconds| skew_finding("clock", TimeDelta::milliseconds(milliseconds), SKEW_SEEN);
        assert_eq!(of(-4_900).mark, Mark::Ok);
        assert_eq!(of(-61_250).says, "this machine is 61.250 s behind");
        assert_eq!(of(61_000).mark, Mark::Warn);
        assert_eq!(of(300_000).mark, Mark::Wrong);
        assert_eq!(of(-300_000).mark, Mark::Wrong);
    }
}
