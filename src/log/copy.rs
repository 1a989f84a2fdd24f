//! The log in bulk: COPY out in PostgreSQL's binary form, cut into rows but not looked into, so that
//! whoever wants them can decode many at once.

use std::{collections::BTreeMap, fmt::Write as _, ops::RangeInclusive};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use jangbu_events::{
    AggregateId as _, Metadata, RawEvent, Recorded, Slot, StoreId, Timestamp, envelope::Stored, event::CURRENT_VERSIONS,
};
use sqlx::PgConnection;
use uuid::Uuid;

/// What every binary COPY begins with, before flags and extension.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const COLUMNS: &str = "position, slot, sequence, occurred_at, recorded_at, store_id, event_id, command_id, \
    causation_id, correlation_id, aggregate_type, aggregate_id, event_type, event_version, payload, metadata";
const COLUMN_COUNT: i16 = 16;
/// Of positions and slots in a row: fields have a length of four bytes each before them.
const POSITION_AT: usize = 2 + 4;
const SLOT_AT: usize = POSITION_AT + 8 + 4;
/// PostgreSQL counts time from here, in microseconds.
const EPOCH_OFFSET_US: i64 = 946_684_800_000_000;

/// One row, not decoded.
#[derive(Debug, Clone)]
pub struct Row(Bytes);

/// What to read.
#[derive(Debug, Clone)]
pub struct Wanted {
    condition: String,
}

impl Wanted {
    /// All events.
    pub fn everything() -> Self {
        Self {
            condition: String::new(),
        }
    }

    /// Events of these types, and all that are not in today's form: those may mean one of these
    /// today, or nothing that this program knows.
    pub fn types(event_types: &[&str]) -> Self {
        let mut others: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (event_type, version) in CURRENT_VERSIONS {
            if !event_types.contains(event_type) {
                others.entry(version).or_default().push(event_type);
            }
        }
        let mut condition = String::new();
        for (version, types) in others {
            let types: Vec<String> = types.into_iter().map(literal).collect();
            _ = write!(
                condition,
                " and not (event_type = any(array[{}]) and event_version = {})",
                types.join(", "),
                literal(version)
            );
        }
        Self { condition }
    }

    /// Only of these slots.
    #[must_use]
    pub fn in_slots(mut self, slots: &RangeInclusive<i16>) -> Self {
        _ = write!(
            self.condition,
            " and slot between {} and {}",
            slots.start(),
            slots.end()
        );
        self
    }
}

/// COPY takes no arguments, so what is put into its text is quoted here.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Hands all wanted rows in `(after, through]` to `take`, in position order; stops early when that
/// says false. Then the connection must not be used again.
pub async fn copy_out(
    db: &mut PgConnection,
    after: i64,
    through: i64,
    wanted: &Wanted,
    mut take: impl AsyncFnMut(Row) -> bool,
) -> sqlx::Result<()> {
    let condition = &wanted.condition;
    let statement = format!(
        "copy (select {COLUMNS} from events where position > {after} and position <= {through}{condition} \
         order by position) to stdout (format binary)"
    );
    let mut pieces = db.copy_out_raw(&statement).await?;
    let mut cutter = Cutter::default();
    while let Some(piece) = pieces.next().await {
        cutter.add(piece?);
        while let Some(row) = cutter.next_row()? {
            if !take(row).await {
                return Ok(());
            }
        }
    }
    if cutter.is_at_end() {
        Ok(())
    } else {
        Err(malformed("ends within a row"))
    }
}

/// Cuts the stream into rows, wherever its pieces end.
#[derive(Default)]
struct Cutter {
    rest: BytesMut,
    piece: Bytes,
    begun: bool,
    ended: bool,
}

impl Cutter {
    fn add(&mut self, piece: Bytes) {
        // The server ends pieces with rows, so usually nothing is left and nothing is copied.
        if self.piece.is_empty() {
            self.piece = piece;
        } else {
            self.rest.clear();
            self.rest.extend_from_slice(&self.piece);
            self.rest.extend_from_slice(&piece);
            self.piece = self.rest.split().freeze();
        }
    }

    fn next_row(&mut self) -> sqlx::Result<Option<Row>> {
        if !self.begun && !self.begin()? {
            return Ok(None);
        }
        let Some(columns) = self.piece.get(..2) else {
            return Ok(None);
        };
        match i16::from_be_bytes([columns[0], columns[1]]) {
            -1 => {
                self.piece.advance(2);
                self.ended = true;
                return Ok(None);
            }
            COLUMN_COUNT => {}
            _ => return Err(malformed("has another number of columns")),
        }
        let mut end = 2;
        for _ in 0..COLUMN_COUNT {
            let Some(length) = integer(&self.piece, end) else {
                return Ok(None);
            };
            end += 4 + usize::try_from(length).unwrap_or(0);
        }
        Ok((end <= self.piece.len()).then(|| Row(self.piece.split_to(end))))
    }

    /// Passes over the head of the stream; false while it has not all come.
    fn begin(&mut self) -> sqlx::Result<bool> {
        let at = SIGNATURE.len();
        let Some(extension) = integer(&self.piece, at + 4) else {
            return Ok(false);
        };
        if !self.piece.starts_with(SIGNATURE) {
            return Err(malformed("does not begin like one"));
        }
        let end = at + 8 + usize::try_from(extension).unwrap_or(0);
        if self.piece.len() < end {
            return Ok(false);
        }
        self.piece.advance(end);
        self.begun = true;
        Ok(true)
    }

    fn is_at_end(&self) -> bool {
        self.ended && self.piece.is_empty()
    }
}

fn integer(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn malformed(what: &str) -> sqlx::Error {
    sqlx::Error::Protocol(format!("a binary COPY {what}"))
}

impl Row {
    /// Its place in the log.
    pub fn position(&self) -> i64 {
        self.fixed(POSITION_AT).map_or(0, i64::from_be_bytes)
    }

    /// Its slot's column.
    pub fn slot(&self) -> i16 {
        self.fixed(SLOT_AT).map_or(-1, i16::from_be_bytes)
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    fn fixed<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    /// The event, its payload as text.
    pub fn event(&self) -> sqlx::Result<RawEvent> {
        let mut fields = Fields(&self.0[2..]);
        let position = i64::from_be_bytes(fields.fixed()?);
        let slot = i16::from_be_bytes(fields.fixed()?);
        Ok(Recorded {
            position,
            slot: Slot::from_column(slot)
                .ok_or_else(|| sqlx::Error::Decode(format!("slot {slot} is out of range").into()))?,
            sequence: i64::from_be_bytes(fields.fixed()?),
            occurred_at: fields.moment()?,
            recorded_at: fields.moment()?,
            store_id: StoreId::from_uuid(fields.uuid()?),
            event_id: fields.uuid()?,
            command_id: fields.uuid()?,
            causation_id: fields.optional_uuid()?,
            correlation_id: fields.optional_uuid()?,
            aggregate_type: fields.text()?,
            aggregate_id: fields.text()?,
            payload: Stored {
                event_type: fields.text()?,
                event_version: fields.text()?,
                payload: fields.text()?,
            },
            metadata: fields.metadata()?,
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn next(&mut self) -> sqlx::Result<Option<&'a [u8]>> {
        let length = integer(self.0, 0).ok_or_else(|| malformed("has a short row"))?;
        let rest = &self.0[4..];
        let Ok(length) = usize::try_from(length) else {
            self.0 = rest;
            return Ok(None);
        };
        let (field, rest) = rest
            .split_at_checked(length)
            .ok_or_else(|| malformed("has a short row"))?;
        self.0 = rest;
        Ok(Some(field))
    }

    fn required(&mut self) -> sqlx::Result<&'a [u8]> {
        self.next()?.ok_or_else(|| malformed("has a null where none can be"))
    }

    fn fixed<const N: usize>(&mut self) -> sqlx::Result<[u8; N]> {
        let field = self.required()?;
        field.try_into().map_err(|_| malformed("has a field of another size"))
    }

    fn moment(&mut self) -> sqlx::Result<Timestamp> {
        let us = i64::from_be_bytes(self.fixed()?);
        us.checked_add(EPOCH_OFFSET_US)
            .and_then(Timestamp::from_timestamp_micros)
            .ok_or_else(|| malformed("has a time out of range"))
    }

    fn uuid(&mut self) -> sqlx::Result<Uuid> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    fn optional_uuid(&mut self) -> sqlx::Result<Option<Uuid>> {
        self.next()?
            .map(|field| Uuid::from_slice(field).map_err(|error| sqlx::Error::Decode(Box::new(error))))
            .transpose()
    }

    fn text(&mut self) -> sqlx::Result<String> {
        let text = std::str::from_utf8(self.required()?).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(text.to_owned())
    }

    fn metadata(&mut self) -> sqlx::Result<Metadata> {
        serde_json::from_slice(self.required()?).map_err(|error| sqlx::Error::Decode(Box::new(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(row: &mut Vec<u8>, bytes: &[u8]) {
        row.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
        row.extend(bytes);
    }

    fn row(position: i64) -> Vec<u8> {
        let mut row = COLUMN_COUNT.to_be_bytes().to_vec();
        field(&mut row, &position.to_be_bytes());
        field(&mut row, &7_i16.to_be_bytes());
        field(&mut row, &3_i64.to_be_bytes());
        field(&mut row, &1_500_000_i64.to_be_bytes());
        field(&mut row, &0_i64.to_be_bytes());
        for _ in 0..3 {
            field(&mut row, Uuid::from_u128(5).as_bytes());
        }
        field(&mut row, Uuid::from_u128(6).as_bytes());
        row.extend((-1_i32).to_be_bytes());
        for text in [
            "product",
            "prd_1",
            "product.renamed",
            "1",
            r#"{"name":"퍼터"}"#,
            r#"{"actor_kind":"admin","channel":"http"}"#,
        ] {
            field(&mut row, text.as_bytes());
        }
        row
    }

    fn stream() -> Vec<u8> {
        let mut stream = SIGNATURE.to_vec();
        stream.extend([0; 8]);
        stream.extend(row(41));
        stream.extend(row(42));
        stream.extend((-1_i16).to_be_bytes());
        stream
    }

    #[test]
    fn rows_are_the_same_wherever_the_pieces_end() {
        let stream = stream();
        for size in 1..=stream.len() {
            let mut cutter = Cutter::default();
            let mut rows = Vec::new();
            for piece in stream.chunks(size) {
                cutter.add(Bytes::copy_from_slice(piece));
                while let Some(row) = cutter.next_row().unwrap() {
                    rows.push((row.position(), row.slot(), row.event().unwrap()));
                }
            }
            assert!(cutter.is_at_end(), "in pieces of {size}");
            assert_eq!(
                rows.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(),
                [(41, 7), (42, 7)]
            );
            let event = &rows[1].2;
            assert_eq!((event.position, event.sequence), (42, 3));
            assert_eq!(event.occurred_at.to_rfc3339(), "2000-01-01T00:00:01.500+00:00");
            assert_eq!(
                (event.causation_id, event.correlation_id),
                (Some(Uuid::from_u128(6)), None)
            );
            assert_eq!(event.payload.payload, r#"{"name":"퍼터"}"#);
            assert_eq!(event.metadata.channel, "http");
        }
    }

    #[test]
    fn what_is_no_copy_is_said_to_be_none() {
        let mut cutter = Cutter::default();
        cutter.add(Bytes::from_static(b"something else entirely"));
        assert!(cutter.next_row().is_err());
        let mut cut_short = Cutter::default();
        cut_short.add(Bytes::from(stream()[..100].to_vec()));
        assert!(cut_short.next_row().unwrap().is_none());
        assert!(!cut_short.is_at_end());
    }

    #[test]
    fn only_known_events_of_other_types_are_left_out() {
        let wanted = Wanted::types(&["stock.held", "it's"]);
        assert!(wanted.condition.contains("'cart.opened'"));
        assert!(!wanted.condition.contains("'stock.held'"));
        assert!(wanted.condition.ends_with("and event_version = '1')"));
        assert_eq!(literal("it's"), "'it''s'");
    }
}
