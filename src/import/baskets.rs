//! Gathers the rows of each basket, wherever in the file they stand.
//!
//! Two passes. The first only counts, for each basket id, how many runs of adjacent rows it has: 16
//! bytes a basket, by hash, and only baskets with several runs are remembered afterwards. The second
//! streams: a basket of one run is complete when the run ends, and only rows of scattered baskets
//! are held until their last run. Baskets whose ids share a hash are held a little too long, that
//! is all.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    io,
};

use super::table::{Row, Table};

/// The most that rows of unfinished baskets may weigh, in bytes. A file that needs more is to be
/// sorted by basket first.
pub const HELD_BYTES_MAX: usize = 512 << 20;

/// All rows of one basket, in file order; never empty.
pub type Basket = Vec<Row>;

/// Basket ids with several runs of rows, as hashes, with how many runs are still to come.
pub struct Scattered {
    runs: HashMap<u64, u32>,
    hasher: RandomState,
}

/// Why baskets could not be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// Unfinished baskets would weigh more than they may.
    #[error("too many unfinished baskets")]
    TooScattered,
}

/// Rows without a basket id are baskets of their own: `None`.
fn key(row: &Row, column: usize) -> Option<&[u8]> {
    let key = row.fields.get(column)?;
    // As the id itself will be read: what differs only in white space is one basket.
    let key = std::str::from_utf8(key).map_or(key, |text| text.trim().as_bytes());
    (!key.is_empty()).then_some(key)
}

impl Scattered {
    /// The first pass. `go_on` is asked now and then with the bytes read so far.
    pub fn count(table: &mut Table, column: usize, mut go_on: impl FnMut(u64) -> bool) -> io::Result<Self> {
        let hasher = RandomState::new();
        let mut runs: HashMap<u64, u32> = HashMap::new();
        let mut last = Vec::new();
        let mut rows = 0_u32;
        while let Some(row) = table.next()? {
            rows = rows.wrapping_add(1);
            if rows.is_multiple_of(4_096) && !go_on(table.offset()) {
                break;
            }
            match key(&row, column) {
                None => last.clear(),
                Some(key) if key != last => {
                    *runs.entry(hasher.hash_one(key)).or_default() += 1;
                    last.clear();
                    last.extend_from_slice(key);
                }
                Some(_) => {}
            }
        }
        runs.retain(|_, runs| *runs > 1);
        runs.shrink_to_fit();
        Ok(Self { runs, hasher })
    }

    /// Whether every basket stands together.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// The second pass.
pub struct Baskets {
    table: Table,
    column: usize,
    scattered: Scattered,
    /// The first row of the next run.
    next: Option<Row>,
    /// Rows of scattered baskets by hash, then by id.
    held: HashMap<u64, Vec<(Vec<u8>, Basket)>>,
    held_bytes: usize,
    held_bytes_max: usize,
    ready: VecDeque<Basket>,
    drained: bool,
}

impl Baskets {
    /// Over the same file, from its first row. `held_bytes_max` is [`HELD_BYTES_MAX`], but for tests.
    pub fn new(table: Table, column: usize, scattered: Scattered, held_bytes_max: usize) -> Self {
        Self {
            table,
            column,
            scattered,
            next: None,
            held: HashMap::new(),
            held_bytes: 0,
            held_bytes_max,
            ready: VecDeque::new(),
            drained: false,
        }
    }

    /// How much has been read, in bytes.
    pub const fn offset(&self) -> u64 {
        self.table.offset()
    }

    /// The next complete basket.
    pub fn next(&mut self) -> Result<Option<Basket>, GatherError> {
        loop {
            if let Some(basket) = self.ready.pop_front() {
                return Ok(Some(basket));
            }
            let Some(run) = self.run()? else {
                if self.drained {
                    return Ok(None);
                }
                // Empty unless the file grew between the passes.
                self.drained = true;
                let held = std::mem::take(&mut self.held);
                self.ready.extend(held.into_values().flatten().map(|(_, rows)| rows));
                continue;
            };
            let Some(key) = key(&run[0], self.column) else {
                return Ok(Some(run));
            };
            if self.scattered.is_empty() {
                return Ok(Some(run));
            }
            let hash = self.scattered.hasher.hash_one(key);
            let Entry::Occupied(mut left) = self.scattered.runs.entry(hash) else {
                return Ok(Some(run));
            };
            let baskets = self.held.entry(hash).or_default();
            match baskets.iter_mut().find(|(id, _)| id == key) {
                Some((_, rows)) => rows.extend(run),
                None => baskets.push((key.to_vec(), run)),
            }
            *left.get_mut() -= 1;
            if *left.get() == 0 {
                left.remove();
                for (_, rows) in self.held.remove(&hash).into_iter().flatten() {
                    self.held_bytes -= rows.iter().map(Row::weight).sum::<usize>();
                    self.ready.push_back(rows);
                }
            }
        }
    }

    /// Adjacent rows of one basket id. Their weight is added to what is held, and taken off again
    /// if they turn out to be all of the basket.
    fn run(&mut self) -> Result<Option<Basket>, GatherError> {
        let Some(first) = self
            .next
            .take()
            .map_or_else(|| self.table.next(), |row| Ok(Some(row)))?
        else {
            return Ok(None);
        };
        let mut weight = first.weight();
        let mut run = vec![first];
        if key(&run[0], self.column).is_some() {
            while let Some(row) = self.table.next()? {
                if key(&row, self.column) != key(&run[0], self.column) {
                    self.next = Some(row);
                    break;
                }
                weight += row.weight();
                run.push(row);
                if self.held_bytes + weight > self.held_bytes_max {
                    return Err(GatherError::TooScattered);
                }
            }
        }
        let scattered = key(&run[0], self.column)
            .is_some_and(|key| self.scattered.runs.contains_key(&self.scattered.hasher.hash_one(key)));
        if scattered {
            self.held_bytes += weight;
        }
        if self.held_bytes > self.held_bytes_max {
            return Err(GatherError::TooScattered);
        }
        Ok(Some(run))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::PathBuf};

    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Ids, SystemIds};

    /// A file that goes away with the test.
    struct Written(PathBuf);

    impl Written {
        fn new(ids: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("jangbu-baskets-{}.csv", SystemIds.uuid()));
            let rows = ids.iter().enumerate().map(|(n, id)| format!("b{id},{n}\n"));
            fs::write(&path, format!("basket_id,n\n{}", rows.collect::<String>())).expect("it is written");
            Self(path)
        }

        fn table(&self) -> Table {
            Table::open(&self.0).expect("it opens")
        }

        fn gather(&self, held_bytes_max: usize) -> Result<Vec<(String, Vec<usize>)>, GatherError> {
            let scattered = Scattered::count(&mut self.table(), 0, |_| true)?;
            let mut baskets = Baskets::new(self.table(), 0, scattered, held_bytes_max);
            let mut gathered = Vec::new();
            while let Some(basket) = baskets.next()? {
                let id = basket[0].text(0).expect("it is text").to_owned();
                let rows = basket
                    .iter()
                    .map(|row| row.text(1).expect("it is text").parse().expect("a number"));
                gathered.push((id, rows.collect()));
            }
            assert_eq!(baskets.held_bytes, 0, "nothing is held in the end");
            Ok(gathered)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            _ = fs::remove_file(&self.0);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_row_is_in_its_basket_once_and_in_order(ids in proptest::collection::vec(0_u8..8, 0..40)) {
            let gathered = Written::new(&ids).gather(HELD_BYTES_MAX).expect("it gathers");
            let mut expected: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (n, id) in ids.iter().enumerate() {
                expected.entry(format!("b{id}")).or_default().push(n);
            }
            prop_assert_eq!(gathered.len(), expected.len());
            prop_assert_eq!(gathered.into_iter().collect::<BTreeMap<_, _>>(), expected);
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let together: Vec<u8> = (0..200).collect();
        assert!(Written::new(&together).gather(1_000).is_ok());
        let apart = together.repeat(2);
        assert!(matches!(
            Written::new(&apart).gather(1_000),
            Err(GatherError::TooScattered)
        ));
        let endless = [1; 200];
        assert!(matches!(
            Written::new(&endless).gather(1_000),
            Err(GatherError::TooScattered)
        ));
    }
}
