//! Projections in SQL, which analysts write: found at start, checked, and fed beside the others.
//!
//! Nothing here can hold up what the program itself needs: a file that is wrong is told and not run, and
//! what runs has connections of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use jangbu_projections::{
    Registered,
    analyst::{Analyst, Problem, Refusal, SHIPPED, admit, prepare},
};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::Backoff,
    feed::Context,
    rebuild::watch::Builds,
    workers::{self, Failure, Target},
};

/// Connections that one file may use: a slow one takes none away from anybody else.
const CONNECTIONS: u32 = 2;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(30);

/// Which projections in SQL are run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Those that come with the program.
    #[default]
    Shipped,
    /// These as well: `*.sql` of a directory. One that is called like a shipped one takes its place.
    Directory(PathBuf),
    /// None.
    Nothing,
}

/// A file that was found, and what reading it came to.
#[derive(Debug)]
pub struct Found {
    /// Where it is; `repeat_purchase.sql` for one that comes with the program.
    pub file: String,
    /// The projection, or what is wrong.
    pub read: Result<Analyst, Vec<Problem>>,
}

impl Found {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let file = path.display().to_string();
        let read = match fs::read_to_string(path) {
            Ok(text) => Analyst::read(&file, &text),
            Err(error) => Err(vec![Problem::with_file(&file, format!("cannot be read: {error}"))]),
        };
        Self { file, read }
    }

    /// What it is called, in metrics.
    fn stem(&self) -> &str {
        let name = self.file.rsplit(['/', '\\']).next().unwrap_or_default();
        name.strip_suffix(".sql").unwrap_or(name)
    }
}

/// Every file there is, in the order of their names.
pub fn find(source: &Source) -> Vec<Found> {
    let mut found: Vec<Found> = match source {
        Source::Shipped => Vec::new(),
        Source::Directory(directory) => in_directory(directory),
        Source::Nothing => return Vec::new(),
    };
    let shipped = SHIPPED.iter().map(|(file, text)| Found {
        file: (*file).to_owned(),
        read: Analyst::read(file, text),
    });
    let kept: Vec<Found> = shipped
        .filter(|shipped| found.iter().all(|found| found.stem() != shipped.stem()))
        .collect();
    found.extend(kept);
    found.sort_by(|a, b| a.stem().cmp(b.stem()));
    found
}

fn in_directory(directory: &Path) -> Vec<Found> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                paths.push(path);
            }
        }
        Ok(paths)
    };
    match list() {
        Ok(paths) => paths.iter().map(|path| Found::read(path)).collect(),
        Err(error) => {
            let file = directory.display().to_string();
            let problem = Problem::with_file(&file, format!("JANGBU_SQL_PROJECTIONS cannot be read: {error}"));
            vec![Found {
                file,
                read: Err(vec![problem]),
            }]
        }
    }
}

/// Files that were wrong when this process started: what they are called, and what is wrong.
static REFUSED: OnceLock<Vec<(String, Vec<Problem>)>> = OnceLock::new();

/// Makes the files known to everything in this process that lists projections; what is wrong with the
/// others is said by whoever feeds projections. Once, at start.
pub fn install(source: &Source) {
    let (mut analysts, mut refused) = (Vec::new(), Vec::new());
    for found in find(source) {
        let stem = found.stem().to_owned();
        match found.read {
            Ok(analyst) => analysts.push(analyst),
            Err(problems) => refused.push((stem, problems)),
        }
    }
    jangbu_projections::install(analysts);
    _ = REFUSED.set(refused);
}

/// Feeds those that can be run until `shutdown`, each for itself; says why the others are not.
pub async fn run(ctx: Context, projections: Vec<&'static Registered>, builds: Builds, shutdown: CancellationToken) {
    for (name, problems) in REFUSED.get().into_iter().flatten() {
        report(name, &Refusal::Problems(problems.clone()));
    }
    let mut tasks = JoinSet::new();
    for projection in projections {
        tasks.spawn(run_one(ctx.clone(), projection, builds.clone(), shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a projection in SQL is fed no more");
        }
    }
    // Nothing to do, or no more, is no reason to end.
    shutdown.cancelled().await;
}

async fn run_one(ctx: Context, projection: &'static Registered, builds: Builds, shutdown: CancellationToken) {
    let name = projection.name;
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LAST);
    let pause = async |backoff: &mut Backoff| {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(backoff.pause()) => {}
        }
    };
    loop {
        match begin(&ctx, projection).await {
            Ok(()) => break,
            Err(Refusal::Database(error)) if Failure::passes(&error) => {
                tracing::warn!(projection = name, %error, "cannot ask PostgreSQL about a projection in SQL");
            }
            Err(refusal) => return report(name, &refusal),
        }
        pause(&mut backoff).await;
        if shutdown.is_cancelled() {
            return;
        }
    }
    metrics::gauge!("jangbu_sql_projection_refused", "projection" => name).set(0);
    let ctx = apart(&ctx);
    while !shutdown.is_cancelled() {
        workers::run_alike(ctx.clone(), vec![projection], builds.clone(), shutdown.clone()).await;
        if !shutdown.is_cancelled() {
            tracing::error!(
                projection = name,
                "the workers of a projection in SQL ended; they begin anew"
            );
            pause(&mut backoff).await;
        }
    }
    ctx.db.close().await;
}

/// Finds out whether it can be run, and makes its first build.
async fn begin(ctx: &Context, projection: &'static Registered) -> Result<(), Refusal> {
    // Kept, so that others who check the file at the same time do not wait for each other.
    prepare(&ctx.db, projection).await?;
    admit(&ctx.db, projection).await?;
    Target::ensure(&ctx.db, projection, ctx.partitions, ctx.surroundings.clone()).await?;
    Ok(())
}

fn report(name: &str, refusal: &Refusal) {
    metrics::gauge!("jangbu_sql_projection_refused", "projection" => name.to_owned()).set(1);
    tracing::error!(
        projection = name,
        error = %refusal,
        "this projection in SQL is not run, everything else is; `jangbu sql check` shows where it is wrong"
    );
}

/// The same, with a pool that nobody else waits for.
fn apart(ctx: &Context) -> Context {
    let options = (*ctx.db.connect_options()).clone();
    let db: PgPool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .min_connections(0)
        .test_before_acquire(false)
        .connect_lazy_with(options);
    Context { db, ..ctx.clone() }
}
