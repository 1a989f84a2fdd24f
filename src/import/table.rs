//! A CSV file with a header: where its columns are, and its rows.

use std::{fmt, fs::File, path::Path};

use csv::ByteRecord;

use super::{
    ImportError,
    fault::Fault,
    rejects::REJECT_COLUMNS,
    rows::{RawRow, Rows},
};

/// Columns of past orders that would put personal data into a log that cannot forget it.
const PERSONAL: &[&str] = &[
    "phone",
    "mobile",
    "email",
    "e-mail",
    "address",
    "recipient",
    "receiver",
    "orderer",
    "birth",
    "전화",
    "휴대",
    "연락처",
    "이메일",
    "메일",
    "주소",
    "배송지",
    "이름",
    "성명",
    "주문자",
    "구매자",
    "수령",
    "수취",
    "받는",
    "생년월일",
];
/// The same, where only the whole name says so.
const PERSONAL_WHOLE: &[&str] = &[
    "name",
    "tel",
    "customer_name",
    "buyer_name",
    "household_name",
    "full_name",
];

/// A file being read.
pub struct Table {
    rows: Rows<File>,
    names: Vec<String>,
}

/// One row, checked against the header.
#[derive(Debug)]
pub struct Row {
    /// Where it begins in the file.
    pub line: u64,
    /// Its fields, bytes as they are.
    pub fields: ByteRecord,
    /// Why it cannot be used at all. Without one, it has as many fields as the header, all UTF-8.
    pub fault: Option<Fault>,
}

/// What is wrong with a header, all of it at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct HeaderFaults {
    /// Required columns that are not there.
    pub missing: Vec<&'static str>,
    /// Names that stand there twice.
    pub duplicate: Vec<String>,
    /// Columns without a name, counted from 1.
    pub nameless: Vec<usize>,
    /// Columns that look like personal data.
    pub personal: Vec<String>,
    /// What is there.
    pub found: Vec<String>,
}

impl fmt::Display for HeaderFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("lacks {}", self.missing.join(", ")));
        }
        if !self.duplicate.is_empty() {
            parts.push(format!("has {} twice", self.duplicate.join(", ")));
        }
        if !self.nameless.is_empty() {
            let which: Vec<String> = self.nameless.iter().map(ToString::to_string).collect();
            parts.push(format!("gives no name to column {}", which.join(", ")));
        }
        if !self.personal.is_empty() {
            parts.push(format!(
                "names what looks like personal data, which could never be erased: leave {} out",
                self.personal.join(", ")
            ));
        }
        let found = self.found.join(", ");
        let found: String = found.chars().filter(|c| !c.is_control()).take(300).collect();
        write!(f, "{} (found: {found})", parts.join("; it "))
    }
}

/// Where the required columns are, and all others that are kept.
#[derive(Debug, Clone)]
pub struct Columns<const N: usize> {
    /// As many as were required, in that order.
    pub required: [usize; N],
    /// Index and name.
    pub others: Vec<(usize, String)>,
}

impl Table {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let open = |source| ImportError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(open)?;
        // It is read more than once.
        if !file.metadata().map_err(open)?.is_file() {
            return Err(ImportError::NotAFile { path: path.to_owned() });
        }
        let mut rows = Rows::new(file).map_err(open)?;
        let Some(header) = rows.next().map_err(open)? else {
            return Err(ImportError::Empty { path: path.to_owned() });
        };
        let names = header
            .fields
            .iter()
            .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()));
        match names.collect::<Result<Vec<_>, _>>() {
            Ok(names) if header.fault.is_none() => Ok(Self { rows, names }),
            _ => Err(ImportError::HeaderUnreadable { path: path.to_owned() }),
        }
    }

    /// The names in the header.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How much has been read, in bytes.
    pub const fn offset(&self) -> u64 {
        self.rows.offset()
    }

    /// Finds the columns. `ignored` ones are treated as if they were not there, and so are those
    /// that a rejects file has before its own.
    pub fn columns<const N: usize>(
        &self,
        required: [&'static str; N],
        ignored: &[String],
        refuse_personal: bool,
    ) -> Result<Columns<N>, HeaderFaults> {
        let mut faults = HeaderFaults::default();
        let mut places = [None; N];
        let mut others: Vec<(usize, String)> = Vec::new();
        for (index, name) in self.names.iter().enumerate() {
            if ignored.contains(name) || REJECT_COLUMNS.contains(&name.as_str()) {
                continue;
            }
            if name.is_empty() {
                faults.nameless.push(index + 1);
            } else if let Some(place) = required.iter().position(|required| required == name) {
                if places[place].replace(index).is_some() {
                    faults.duplicate.push(name.clone());
                }
            } else if others.iter().any(|(_, other)| other == name) {
                faults.duplicate.push(name.clone());
            } else if refuse_personal && looks_personal(name) {
                faults.personal.push(name.clone());
            } else {
                others.push((index, name.clone()));
            }
        }
        faults.missing = required
            .iter()
            .zip(places)
            .filter_map(|(name, place)| place.is_none().then_some(*name))
            .collect();
        faults.found.clone_from(&self.names);
        let found = places.map(Option::unwrap_or_default);
        let fine = faults.missing.is_empty()
            && faults.duplicate.is_empty()
            && faults.nameless.is_empty()
            && faults.personal.is_empty();
        if fine {
            Ok(Columns {
                required: found,
                others,
            })
        } else {
            Err(faults)
        }
    }

    /// The next row.
    pub fn next(&mut self) -> std::io::Result<Option<Row>> {
        let Some(RawRow { line, fields, fault }) = self.rows.next()? else {
            return Ok(None);
        };
        let fault = fault.map(Fault::from).or_else(|| self.fault(&fields));
        Ok(Some(Row { line, fields, fault }))
    }

    fn fault(&self, fields: &ByteRecord) -> Option<Fault> {
        if fields.len() != self.names.len() {
            return Some(Fault::FieldCount {
                expected: self.names.len(),
                found: fields.len(),
            });
        }
        let bad = fields.iter().position(|field| std::str::from_utf8(field).is_err())?;
        Some(Fault::NotUtf8 {
            column: self.names[bad].clone(),
        })
    }
}

impl Row {
    /// A field as text, or why there is none.
    pub fn text(&self, index: usize) -> Result<&str, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let field = self.fields.get(index).expect("a row without a fault has every column");
        Ok(std::str::from_utf8(field).expect("a row without a fault is UTF-8"))
    }

    /// What keeping it costs, in bytes.
    pub fn weight(&self) -> usize {
        // The record's own parts: text, ends, and their allocations.
        self.fields.as_slice().len() + self.fields.len() * size_of::<usize>() + 160
    }
}

fn looks_personal(name: &str) -> bool {
    let name = name.to_lowercase();
    PERSONAL_WHOLE.contains(&name.as_str()) || PERSONAL.iter().any(|part| name.contains(part))
}
