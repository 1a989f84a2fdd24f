//! Files of a test, and what importing them left.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jangbu::{
    executor::Executor,
    import::{self, ImportError, Options, Report, Silent},
};
use jangbu_events::{Event, Recorded};

use crate::database::{Database, surroundings};

/// A database and a directory of its own.
pub struct Shop {
    pub executor: Executor,
    directory: PathBuf,
    // Dropped last.
    _database: Database,
}

impl Shop {
    pub async fn open() -> Self {
        let database = Database::create().await;
        let directory = std::env::temp_dir().join(&database.name);
        fs::create_dir(&directory).expect("a directory can be made");
        Self {
            executor: database.executor(surroundings()).await,
            directory,
            _database: database,
        }
    }

    /// A shop that sells `A` at 1,000 won, `B` at 250 won and the dear `C` at a trillion.
    pub async fn with_products() -> Self {
        let shop = Self::open().await;
        let report = shop
            .products(
                "sku,name,category,price_krw\nA,Apple,FRUIT,1000\nB,Bread,BAKERY,250\nC,Castle,HOMES,1000000000000\n",
            )
            .await
            .expect("the products are imported");
        assert_eq!((report.imported, report.rejected), (3, 0));
        shop
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, content).expect("a file can be written");
        path
    }

    pub async fn products(&self, content: impl AsRef<[u8]>) -> Result<Report, ImportError> {
        let file = self.write("products.csv", content);
        import::products(&self.executor, &file, &Options::default(), &Silent).await
    }

    pub async fn orders(&self, content: impl AsRef<[u8]>) -> Result<Report, ImportError> {
        self.orders_as(content, &Options::default()).await
    }

    pub async fn orders_as(&self, content: impl AsRef<[u8]>, options: &Options) -> Result<Report, ImportError> {
        let file = self.write("orders.csv", content);
        import::orders(&self.executor, &file, options, &Silent).await
    }

    pub async fn head(&self) -> i64 {
        self.executor.log().head().await.expect("the head reads").position
    }

    /// Every event after a position.
    pub async fn events(&self, after: i64) -> Vec<Recorded<Event>> {
        let raw = self.executor.log().read(after, 1_000_000).await.expect("the log reads");
        raw.into_iter()
            .map(|raw| {
                let [event] = <[Event; 1]>::try_from(Event::decode(&raw.payload).expect("it decodes"))
                    .expect("one stored event is one event");
                raw.with(event)
            })
            .collect()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.directory);
    }
}

/// Rows of the rejects file: line, code, and the file's own columns.
pub fn rejects(report: &Report) -> Vec<(u64, String, Vec<Vec<u8>>)> {
    let Some(path) = &report.rejects_file else {
        return Vec::new();
    };
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(path)
        .expect("the rejects file opens");
    let header = reader.byte_headers().expect("a header").clone();
    assert_eq!(
        header.iter().take(3).collect::<Vec<_>>(),
        [&b"reject_line"[..], b"reject_code", b"reject_reason"]
    );
    reader
        .byte_records()
        .map(|record| {
            let record = record.expect("the rejects file is CSV");
            let text = |index: usize| String::from_utf8(record[index].to_vec()).expect("our columns are UTF-8");
            assert!(!text(2).is_empty(), "there is a reason");
            let own = record.iter().skip(3).map(<[u8]>::to_vec).collect();
            (text(0).parse().expect("a line number"), text(1), own)
        })
        .collect()
}

/// Only lines and codes.
pub fn codes(report: &Report) -> Vec<(u64, String)> {
    rejects(report)
        .into_iter()
        .map(|(line, code, _)| (line, code))
        .collect()
}

pub fn journey(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/journey")
        .join(name)
}
