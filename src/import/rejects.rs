//! The rejects file: every row that was not imported, with the reason before its own columns. It is
//! a file that can be imported itself once the rows are put right.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{ImportError, fault::Fault, table::Row};

/// The columns that come first; an import passes over them.
pub const REJECT_COLUMNS: [&str; 3] = ["reject_line", "reject_code", "reject_reason"];

/// A row that was not imported.
#[derive(Debug)]
pub struct Reject {
    /// As read.
    pub row: Row,
    /// Why.
    pub fault: Fault,
}

/// Writes the file, if there is anything to write.
pub struct Rejects {
    path: PathBuf,
    names: Vec<String>,
    writer: Option<csv::Writer<File>>,
}

impl Rejects {
    /// `<FILE>.rejects.csv` beside the file, or where else it was wanted. What an earlier run left
    /// there is removed: it would be taken for this run's.
    pub fn new(file: &Path, wanted: Option<&Path>, names: &[String]) -> Result<Self, ImportError> {
        let path = wanted.map_or_else(|| beside(file), Path::to_owned);
        if path == file {
            return Err(ImportError::RejectsAreTheFile { path });
        }
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(ImportError::Rejects { path, source }),
        }
        Ok(Self {
            path,
            names: names.to_vec(),
            writer: None,
        })
    }

    /// Adds a row.
    pub fn write(&mut self, reject: &Reject) -> Result<(), ImportError> {
        let path = &self.path;
        let failed = |source: std::io::Error| ImportError::Rejects {
            path: path.clone(),
            source,
        };
        let own = |index: &usize| {
            self.names
                .get(*index)
                .is_none_or(|name| !REJECT_COLUMNS.contains(&name.as_str()))
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => {
                let file = File::create(path).map_err(failed)?;
                let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(file);
                let header = (0..self.names.len())
                    .filter(own)
                    .map(|index| self.names[index].as_str());
                let header = REJECT_COLUMNS.into_iter().chain(header);
                writer.write_record(header).map_err(|error| failed(error.into()))?;
                empty.insert(writer)
            }
        };
        let (line, code, reason) = (
            reject.row.line.to_string(),
            reject.fault.code(),
            reject.fault.to_string(),
        );
        let why = [line.as_bytes(), code.as_bytes(), reason.as_bytes()];
        let fields = (0..reject.row.fields.len())
            .filter(own)
            .map(|index| &reject.row.fields[index]);
        writer
            .write_record(why.into_iter().chain(fields))
            .map_err(|error| failed(error.into()))
    }

    /// Writes out what is left; where the file is, if there is one.
    pub fn finish(self) -> Result<Option<PathBuf>, ImportError> {
        let Some(mut writer) = self.writer else {
            return Ok(None);
        };
        writer.flush().map_err(|source| ImportError::Rejects {
            path: self.path.clone(),
            source,
        })?;
        Ok(Some(self.path))
    }
}

fn beside(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".rejects.csv");
    path.into()
}
