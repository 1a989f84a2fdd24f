//! Projections that analysts write: what they say of a known shop, and how a wrong one ends.

mod files;
mod known;

use jangbu::{
    clock::Surroundings,
    import::{self, Options, Silent},
};
use jangbu_projections::{
    Registered,
    analyst::{Analyst, SHIPPED},
    builds::{self, Build},
};
use sqlx::PgPool;

use crate::{
    cli::{
        JWT_SECRET,
        process::{Ended, Place, jangbu},
        servers,
    },
    database::{Database, surroundings},
    import::files::journey,
};

const PARTITIONS: i16 = 4;

/// As a process has it that was started with this file.
fn registered(file: &str, text: &str) -> &'static Registered {
    let analyst = Analyst::read(file, text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    Box::leak(Box::new(analyst.register()))
}

fn shipped(name: &str) -> &'static Registered {
    let (file, text) = SHIPPED
        .iter()
        .find(|(file, _)| file.strip_suffix(".sql") == Some(name))
        .expect("it comes with the program");
    registered(file, text)
}

async fn hashes(db: &PgPool, build: &Build) -> Vec<String> {
    let mut hashes = Vec::new();
    for partition in 0..PARTITIONS {
        hashes.push(builds::table_hash(db, build, partition).await.expect("a hash"));
    }
    hashes
}

/// A shop with a past: the imported journey.
struct Past {
    place: Place,
    database: Database,
}

impl Past {
    async fn new() -> Self {
        let database = Database::create().await;
        let executor = database.executor(Surroundings::system()).await;
        let (products, baskets) = (journey("products.csv"), journey("baskets.csv"));
        let options = Options::default();
        let report = import::products(&executor, &products, &options, &Silent)
            .await
            .expect("products");
        assert_eq!(report.rejected, 0);
        let report = import::orders(&executor, &baskets, &options, &Silent)
            .await
            .expect("orders");
        assert_eq!((report.imported, report.rejected), (609, 0));
        Self {
            place: Place::new(),
            database,
        }
    }

    fn db(&self) -> &PgPool {
        &self.database.pool
    }

    async fn fed(&self, projection: &'static Registered) -> Build {
        jangbu::workers::drive_once(self.db(), &[projection], PARTITIONS, &surroundings())
            .await
            .expect("it is fed");
        builds::ensure(self.db(), projection, PARTITIONS, surroundings().now())
            .await
            .expect("a build")
    }

    async fn run(&self, arguments: &[&str], more: &[(&str, &str)]) -> Ended {
        let url = servers::url(&self.database);
        let mut environment = vec![("DATABASE_URL", url.as_str()), ("JANGBU_JWT_SECRET", JWT_SECRET)];
        environment.extend(more);
        jangbu(&self.place, arguments, &environment).await
    }
}
