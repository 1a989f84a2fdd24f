//! Takes over the past: products and orders of another system, from CSV files.
//!
//! A past order becomes one `order.imported`, at the catalog's prices, at the time it was made. It
//! is counted and never acted upon: no process manager reads that event, and the order refuses every
//! other command.
//!
//! Every id is derived from what the file says, so that a file can be imported again: what is in
//! the log already is left alone, and an import that was killed goes on when it is started again. A
//! bad row rejects its product, or its whole basket, into a rejects file that can itself be imported
//! once it is put right; the rest goes on.
//!
//! Memory does not grow with the file, but for 16 to 40 bytes a basket while it is read ahead, 100
//! bytes a product, and the rows of baskets that do not stand together (512 MiB at most).

mod baskets;
mod catalog;
mod fault;
mod flow;
mod orders;
mod products;
mod rejects;
mod report;
mod rows;
mod table;
mod values;

use std::{
    io,
    path::{Path, PathBuf},
};

use jangbu_domain::ProductError;
use jangbu_events::text::{self, TextError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::{
    report::{Console, Kind, Phase, Progress, Report, Silent, print},
    table::HeaderFaults,
};
use crate::{
    executor::{ExecuteError, Executor, LoadError},
    log::AppendError,
};

/// The name of the source where none is given.
pub const DEFAULT_SOURCE: &str = "import";
/// The longest name of a source, in characters.
const SOURCE_CHARS_MAX: usize = 100;

/// How to import.
#[derive(Debug, Clone)]
pub struct Options {
    /// The system the data comes from. Orders of different sources are different orders even under
    /// one basket id, so the same data needs the same source every time.
    pub source: String,
    /// Columns to be treated as if they were not there.
    pub ignored_columns: Vec<String>,
    /// Where rejected rows go, if not beside the file as `<FILE>.rejects.csv`.
    pub rejects_file: Option<PathBuf>,
    /// Cancel it to stop between two commands; what was imported stays.
    pub stop: CancellationToken,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: DEFAULT_SOURCE.to_owned(),
            ignored_columns: Vec::new(),
            rejects_file: None,
            stop: CancellationToken::new(),
        }
    }
}

impl Options {
    fn checked_source(&self) -> Result<String, ImportError> {
        text::line(&self.source, SOURCE_CHARS_MAX).map_err(ImportError::Source)
    }
}

/// Why an import could not be carried out, or could not go on. What was imported before stays, and
/// the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// There is no such file, or it cannot be read.
    #[error("{}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A pipe or a directory: a file is read twice.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// Not even a header.
    #[error("{} is empty; its first line must name the columns", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The header is no text.
    #[error("{}: the header cannot be read; save the file as \"CSV UTF-8\"", path.display())]
    HeaderUnreadable {
        /// Which.
        path: PathBuf,
    },
    /// The header is not what it must be.
    #[error("{}: the header {faults}", path.display())]
    Header {
        /// Which.
        path: PathBuf,
        /// All that is wrong with it.
        faults: Box<HeaderFaults>,
    },
    /// Reading broke off.
    #[error("{} cannot be read on: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Rows of too many baskets are mixed.
    #[error(
        "{}: too many baskets are scattered over the file ({max} bytes would be held): sort it by basket_id",
        path.display(),
        max = baskets::HELD_BYTES_MAX
    )]
    TooScattered {
        /// Which.
        path: PathBuf,
    },
    /// The rejects file cannot be written.
    #[error("{} cannot be written (choose another place for rejected rows): {source}", path.display())]
    Rejects {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Rejected rows would overwrite the file itself.
    #[error("{} is the file to import, not a place for rejected rows", path.display())]
    RejectsAreTheFile {
        /// Which.
        path: PathBuf,
    },
    /// The name of the source is no name.
    #[error("the source {0}")]
    Source(TextError),
    /// The log did not answer.
    #[error("{0}; the same import goes on where it stopped")]
    Append(#[from] AppendError),
    /// The catalog could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Database(#[from] sqlx::Error),
    /// A product could not be revised.
    #[error("a product cannot be revised: {0}")]
    Revise(Box<ExecuteError<ProductError>>),
}

/// Imports products: `sku`, `name`, `category`, `price_krw` (whole won), any other column as an
/// attribute. New ones are registered and published; known ones get the file's name and price.
/// Nothing else of a known product changes: another category is rejected, other attributes are
/// counted in the report.
pub async fn products(
    executor: &Executor,
    file: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, ImportError> {
    let started = Instant::now();
    let mut report = products::import(executor, file, options, progress).await?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Imports past orders: `basket_id`, `household_id` (may be blank), `ordered_at` (RFC 3339 with an
/// offset), `sku`, `quantity` (1 to 99), a row for each line; any other column is kept as an
/// external reference. Rows of a basket need not stand together; the same sku twice is more of it.
/// A basket that is in the log already is unchanged if buyer, time, skus and quantities are the
/// same, and else rejected.
pub async fn orders(
    executor: &Executor,
    file: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, ImportError> {
    let started = Instant::now();
    let mut report = orders::import(executor, file, options, progress).await?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}
