//! Rows of a CSV file (RFC 4180), one at a time and with their line numbers.
//!
//! The csv crate would do but for one thing: a quote that somebody forgot to close makes it swallow
//! the rest of the file as one field. Here a row is bounded, quoting is strict, and after a row that
//! cannot be read reading goes on at the next line: one bad row costs one row.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use csv::ByteRecord;

/// The longest row, in bytes. A quote still open after that many is taken for a mistake.
pub const ROW_BYTES_MAX: usize = 1 << 20;
/// Of a line that is too long, this much is kept for the rejects file.
const KEPT_BYTES: usize = 1_000;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One row.
#[derive(Debug)]
pub struct RawRow {
    /// Where it begins; the first line of the file is 1.
    pub line: u64,
    /// As read, quotes removed. Of a row that cannot be read: its first line, cut at every comma.
    pub fields: ByteRecord,
    /// Why it cannot be read.
    pub fault: Option<Unreadable>,
}

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// A quote is not closed, or something follows the closing one.
    Quoting,
    /// Longer than [`ROW_BYTES_MAX`].
    TooLong,
}

/// Reads rows.
pub struct Rows<R> {
    input: BufReader<R>,
    /// Where the next line begins, in bytes from the start.
    offset: u64,
    /// Of the next line, counted from 1.
    line: u64,
    buffer: Vec<u8>,
}

/// What a physical line came to.
enum Line {
    End,
    Whole,
    TooLong,
}

impl<R: Read + Seek> Rows<R> {
    /// From the start of a file; a byte order mark is passed over.
    pub fn new(input: R) -> io::Result<Self> {
        let mut rows = Self {
            input: BufReader::with_capacity(1 << 16, input),
            offset: 0,
            line: 1,
            buffer: Vec::new(),
        };
        let mut mark = Vec::new();
        rows.input.by_ref().take(3).read_to_end(&mut mark)?;
        if mark == BYTE_ORDER_MARK {
            rows.offset = 3;
        } else {
            rows.input.seek(SeekFrom::Start(0))?;
        }
        Ok(rows)
    }

    /// How much has been read, in bytes.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next row; empty lines are none.
    pub fn next(&mut self) -> io::Result<Option<RawRow>> {
        loop {
            let line = self.line;
            self.buffer.clear();
            match self.read_line()? {
                Line::End => return Ok(None),
                Line::TooLong => {
                    self.buffer.truncate(KEPT_BYTES);
                    return Ok(Some(unreadable(line, &self.buffer, Unreadable::TooLong)));
                }
                Line::Whole => {}
            }
            let text = trim_newline(&self.buffer);
            if text.is_empty() {
                continue;
            }
            if !text.contains(&b'"') {
                let mut fields = ByteRecord::with_capacity(text.len(), 8);
                text.split(|byte| *byte == b',')
                    .for_each(|field| fields.push_field(field));
                return Ok(Some(RawRow {
                    line,
                    fields,
                    fault: None,
                }));
            }
            return self.quoted(line).map(Some);
        }
    }

    /// A row whose first line is in the buffer and has a quote somewhere.
    fn quoted(&mut self, line: u64) -> io::Result<RawRow> {
        let first = self.buffer.len();
        let resume_at = self.offset;
        let mut splitter = Splitter::default();
        let mut from = 0;
        let fault = loop {
            let text_end = from + trim_newline(&self.buffer[from..]).len();
            match splitter.feed(&self.buffer[from..text_end]) {
                Fed::Complete => {
                    return Ok(RawRow {
                        line,
                        fields: splitter.fields,
                        fault: None,
                    });
                }
                Fed::Stray => break Unreadable::Quoting,
                Fed::Open => splitter.field.extend_from_slice(&self.buffer[text_end..]),
            }
            from = self.buffer.len();
            match self.read_line()? {
                Line::Whole if self.buffer.len() <= ROW_BYTES_MAX => {}
                Line::Whole | Line::TooLong | Line::End => break Unreadable::Quoting,
            }
        };
        if self.offset != resume_at {
            self.input.seek(SeekFrom::Start(resume_at))?;
            self.offset = resume_at;
            self.line = line + 1;
        }
        self.buffer.truncate(first);
        Ok(unreadable(line, trim_newline(&self.buffer), fault))
    }

    /// Appends the next physical line to the buffer.
    fn read_line(&mut self) -> io::Result<Line> {
        let before = self.buffer.len();
        let most = ROW_BYTES_MAX as u64 + 1;
        let read = self.input.by_ref().take(most).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.offset += read as u64;
        self.line += 1;
        if read as u64 != most || self.buffer.last() == Some(&b'\n') {
            return Ok(Line::Whole);
        }
        // The rest of it is of no interest to anyone.
        self.buffer.truncate(before + KEPT_BYTES);
        loop {
            let chunk = self.input.fill_buf()?;
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let passed = newline.map_or(chunk.len(), |at| at + 1);
            self.input.consume(passed);
            self.offset += passed as u64;
            if newline.is_some() || passed == 0 {
                return Ok(Line::TooLong);
            }
        }
    }
}

fn unreadable(line: u64, text: &[u8], fault: Unreadable) -> RawRow {
    RawRow {
        line,
        fields: text.split(|byte| *byte == b',').collect(),
        fault: Some(fault),
    }
}

fn trim_newline(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Cuts lines with quotes into fields.
#[derive(Default)]
struct Splitter {
    fields: ByteRecord,
    field: Vec<u8>,
    place: Place,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    Plain,
    Quoted,
    /// After a quote in a quoted field: its end, or the first half of a quote in the text.
    Closing,
}

enum Fed {
    Complete,
    /// Inside quotes: the row goes on in the next line.
    Open,
    /// Something follows a closing quote.
    Stray,
}

impl Splitter {
    /// One line without its line end.
    fn feed(&mut self, line: &[u8]) -> Fed {
        for &byte in line {
            self.place = match (self.place, byte) {
                (Place::Start, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Closing,
                (Place::Start | Place::Plain | Place::Closing, b',') => {
                    self.end_field();
                    Place::Start
                }
                (Place::Closing, b'"') | (Place::Quoted, _) => {
                    self.field.push(byte);
                    Place::Quoted
                }
                (Place::Closing, _) => return Fed::Stray,
                (Place::Start | Place::Plain, _) => {
                    self.field.push(byte);
                    Place::Plain
                }
            };
        }
        if self.place == Place::Quoted {
            return Fed::Open;
        }
        self.end_field();
        Fed::Complete
    }

    fn end_field(&mut self) {
        self.fields.push_field(&self.field);
        self.field.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(text: &[u8]) -> Vec<(u64, Vec<String>, Option<Unreadable>)> {
        let mut rows = Rows::new(Cursor::new(text)).expect("a cursor reads");
        std::iter::from_fn(|| rows.next().expect("a cursor reads"))
            .map(|row| {
                let fields = row.fields.iter().map(|f| String::from_utf8_lossy(f).into_owned());
                (row.line, fields.collect(), row.fault)
            })
            .collect()
    }

    fn good(line: u64, fields: &[&str]) -> (u64, Vec<String>, Option<Unreadable>) {
        (line, fields.iter().map(ToString::to_string).collect(), None)
    }

    #[test]
    fn rows_are_read_as_rfc_4180_says() {
        assert_eq!(
            read("\u{feff}a,b\r\n\r\n1,\"x, \"\"y\"\"\"\n2,\"two\r\nlines\"\r\n3,5\" pipe\n,".as_bytes()),
            vec![
                good(1, &["a", "b"]),
                good(3, &["1", "x, \"y\""]),
                good(4, &["2", "two\r\nlines"]),
                good(6, &["3", "5\" pipe"]),
                good(7, &["", ""]),
            ]
        );
        assert_eq!(read(b""), vec![]);
        assert_eq!(read(b"\xef\xbb\xbf"), vec![]);
        assert_eq!(read(b"ab"), vec![good(1, &["ab"])]);
    }

    #[test]
    fn a_quote_left_open_costs_one_row() {
        let rows = read(b"1,\"open\n2,fine\n3,\"a, b\"\n4,fine\n5,\"open\n6,fine\n");
        let faults: Vec<_> = rows.iter().map(|(line, _, fault)| (*line, *fault)).collect();
        let bad = Some(Unreadable::Quoting);
        assert_eq!(
            faults,
            vec![(1, bad), (2, None), (3, None), (4, None), (5, bad), (6, None)]
        );
        assert_eq!(rows[0].1, ["1", "\"open"]);
        assert_eq!(rows[2].1, ["3", "a, b"]);
    }

    #[test]
    fn a_huge_line_costs_one_row_and_no_memory() {
        for quote in ["", "\""] {
            let huge = format!("1,{quote}{}\n2,fine\n", "x".repeat(3 * ROW_BYTES_MAX));
            let rows = read(huge.as_bytes());
            assert_eq!(rows.len(), 2, "{quote}");
            assert_eq!((rows[0].0, rows[0].2), (1, Some(Unreadable::TooLong)));
            assert_eq!(rows[0].1[0], "1");
            assert!(rows[0].1[1].len() < 2_000);
            assert_eq!(rows[1], good(2, &["2", "fine"]));
        }
        // Many short lines under one open quote.
        let long = format!("1,\"{}2,fine", "short\n".repeat(ROW_BYTES_MAX / 4));
        let rows = read(long.as_bytes());
        assert_eq!(rows[0].2, Some(Unreadable::Quoting));
        assert_eq!(rows.last(), Some(&good(rows.len() as u64, &["2", "fine"])));
    }
}
