//! Endpoints of webhooks: listed, set back, and tried again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use jangbu::{
    clock::Surroundings,
    config::Config,
    node::{self, Connected},
    webhooks::{
        Endpoint, EndpointId,
        rows::{self, Rewound},
    },
};
use sqlx::PgPool;

use super::upkeep::print;

/// The most that is listed.
const LIST_MAX: i64 = 1_000;

#[derive(Subcommand)]
pub enum Webhooks {
    /// Say which programs of others are told what happens, and how far each is.
    List {
        /// Print JSON, one line each.
        #[arg(long)]
        json: bool,
    },
    /// Tell an endpoint everything after a position, again where it was told.
    ///
    /// What waits from an earlier position on still does. A position further on leaves out what is between.
    Rewind {
        /// Such as whk_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f.
        endpoint: EndpointId,
        /// A position of the log; 0 is before the first event.
        #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(i64).range(0..))]
        to: i64,
    },
    /// Try again what an endpoint did not take for 72 hours.
    Retry(Retry),
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["aggregate", "all"])))]
pub struct Retry {
    /// Such as whk_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f.
    endpoint: EndpointId,
    /// Only this one, such as ord_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f.
    #[arg(value_name = "AGGREGATE")]
    aggregate: Option<String>,
    /// Whatever is parked.
    #[arg(long)]
    all: bool,
}

/// `jangbu webhooks`.
pub async fn run(config: &Config, what: Webhooks) -> anyhow::Result<ExitCode> {
    let Connected { options, embedded } = node::connect(config).await?;
    let db = node::pool(&options, 2).await?;
    node::migrate(&db).await?;
    let done = carry_out(&db, what).await;
    db.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    done.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(db: &PgPool, what: Webhooks) -> anyhow::Result<()> {
    let now = Surroundings::system().now();
    match what {
        Webhooks::List { json } => {
            let endpoints = rows::list(db, None, LIST_MAX, now).await?;
            print(&endpoints, json, "nobody is told what happens", tell)?;
        }
        Webhooks::Rewind { endpoint, to } => match rows::rewind(db, endpoint, to, now).await? {
            Rewound::Done => println!("{endpoint} is told everything after position {to}"),
            Rewound::NotFound => anyhow::bail!("there is no webhook endpoint {endpoint}"),
            Rewound::BeyondHead { head } => anyhow::bail!("the log ends at {head}"),
        },
        Webhooks::Retry(args) => match rows::retry(db, args.endpoint, args.aggregate.as_deref(), now).await? {
            Some(0) => println!("nothing like that is parked"),
            Some(retried) => println!("{retried} aggregates are tried again"),
            None => anyhow::bail!("there is no webhook endpoint {}", args.endpoint),
        },
    }
    Ok(())
}

fn tell(endpoint: &Endpoint) -> String {
    let types = if endpoint.event_types.is_empty() {
        "every event".to_owned()
    } else {
        endpoint.event_types.join(",")
    };
    format!(
        "{} {} {} at position {}, {} retrying, {} parked: {types}",
        endpoint.id, endpoint.status, endpoint.url, endpoint.position, endpoint.retrying, endpoint.parked
    )
}
