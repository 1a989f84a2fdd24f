//! What the files say, reckoned without anything of ours.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// A product, as the file has it.
pub struct Product {
    pub category: String,
    /// Won.
    pub price: i64,
}

/// A basket: what one household bought at one time. No sku comes twice in one.
pub struct Basket {
    pub id: String,
    pub household: String,
    /// RFC 3339, in Korean time.
    pub ordered_at: String,
    pub lines: Vec<(String, u32)>,
}

/// Sums over baskets.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sums {
    pub orders: i64,
    pub units: i64,
    pub gross: i64,
}

pub struct Truth {
    pub products: HashMap<String, Product>,
    /// In the order of the file.
    pub baskets: Vec<Basket>,
}

/// What a row of a report stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Day,
    Hour,
    Category,
    Product,
}

impl By {
    pub const ALL: [Self; 4] = [Self::Day, Self::Hour, Self::Category, Self::Product];

    /// As the query has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Category => "category",
            Self::Product => "product",
        }
    }

    /// As a row has it.
    const fn field(self) -> &'static str {
        match self {
            Self::Day => "date",
            Self::Product => "sku",
            Self::Hour | Self::Category => self.word(),
        }
    }
}

pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/journey")
        .join(name)
}

/// `expected.json`: written by somebody else.
pub fn expected() -> Value {
    let text = std::fs::read_to_string(file("expected.json")).expect("expected.json is there");
    serde_json::from_str(&text).expect("expected.json is JSON")
}

impl Truth {
    pub fn read() -> Self {
        let mut products = csv::Reader::from_path(file("products.csv")).expect("products.csv is there");
        let products = products.deserialize().map(|row: csv::Result<HashMap<String, String>>| {
            let row = row.expect("a row");
            let product = Product {
                category: row["category"].clone(),
                price: row["price_krw"].parse().expect("won"),
            };
            (row["sku"].clone(), product)
        });
        let products = products.collect();
        let mut baskets: Vec<Basket> = Vec::new();
        let mut rows = csv::Reader::from_path(file("baskets.csv")).expect("baskets.csv is there");
        for row in rows.deserialize() {
            let row: HashMap<String, String> = row.expect("a row");
            if baskets.last().is_none_or(|basket| basket.id != row["basket_id"]) {
                baskets.push(Basket {
                    id: row["basket_id"].clone(),
                    household: row["household_id"].clone(),
                    ordered_at: row["ordered_at"].clone(),
                    lines: Vec::new(),
                });
            }
            let basket = baskets.last_mut().expect("there is one now");
            basket
                .lines
                .push((row["sku"].clone(), row["quantity"].parse().expect("a quantity")));
        }
        let ids: HashSet<&String> = baskets.iter().map(|basket| &basket.id).collect();
        assert_eq!(ids.len(), baskets.len(), "the rows of a basket stand together");
        Self { products, baskets }
    }

    /// Won.
    pub fn total_of(&self, basket: &Basket) -> i64 {
        let lines = basket.lines.iter();
        lines
            .map(|(sku, quantity)| self.products[sku].price * i64::from(*quantity))
            .sum()
    }

    pub fn total(&self) -> Sums {
        let units = |basket: &Basket| {
            basket
                .lines
                .iter()
                .map(|(_, quantity)| i64::from(*quantity))
                .sum::<i64>()
        };
        Sums {
            orders: i64::try_from(self.baskets.len()).expect("few"),
            units: self.baskets.iter().map(units).sum(),
            gross: self.baskets.iter().map(|basket| self.total_of(basket)).sum(),
        }
    }

    /// How many of each sku were bought.
    pub fn units(&self) -> BTreeMap<&str, u32> {
        let mut units = BTreeMap::new();
        for (sku, quantity) in self.baskets.iter().flat_map(|basket| &basket.lines) {
            *units.entry(sku.as_str()).or_default() += *quantity;
        }
        units
    }

    /// The rows of a report over everything, in their order.
    pub fn rows(&self, by: By) -> Vec<Value> {
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for basket in &self.baskets {
            let mut keys = HashSet::new();
            for (sku, quantity) in &basket.lines {
                let product = &self.products[sku];
                let key = match by {
                    By::Day => basket.ordered_at[..10].to_owned(),
                    By::Hour => format!("{}:00:00.000+09:00", &basket.ordered_at[..13]),
                    By::Category => product.category.clone(),
                    By::Product => sku.clone(),
                };
                let row = sums.entry(key.clone()).or_default();
                row.units += i64::from(*quantity);
                row.gross += product.price * i64::from(*quantity);
                row.orders += i64::from(keys.insert(key));
            }
        }
        let mut rows: Vec<(String, Sums)> = sums.into_iter().collect();
        // The sort is stable: those alike stay in the order of their names.
        match by {
            By::Day | By::Hour => {}
            By::Category => rows.sort_by_key(|(_, sums)| -sums.gross),
            By::Product => rows.sort_by_key(|(_, sums)| -sums.units),
        }
        rows.into_iter()
            .map(|(key, sums)| {
                let mut row = sums.view();
                row[by.field()] = key.into();
                row
            })
            .collect()
    }
}

impl Sums {
    /// As the API shows it, with nothing given back.
    pub fn view(self) -> Value {
        json!({"orders": self.orders, "units": self.units, "gross": self.gross, "cancelled": 0, "net": self.gross})
    }
}
