//! Real baskets, to be bought live.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::shop::Shop;

/// What one guest buys: how many of each sku.
pub type Basket = BTreeMap<String, u32>;

/// The first baskets of the journey, at most 609.
pub fn baskets(count: usize) -> Vec<Basket> {
    let mut baskets: Vec<(String, Basket)> = Vec::new();
    for row in read("baskets.csv").into_records() {
        let row = row.expect("a row");
        let (basket, sku, quantity) = (&row[0], &row[4], row[5].parse::<u32>().expect("a number"));
        if baskets.last().is_none_or(|(last, _)| last != basket) {
            assert!(
                !baskets.iter().any(|(other, _)| other == basket),
                "rows of a basket stand together"
            );
            if baskets.len() == count {
                break;
            }
            baskets.push((basket.to_owned(), Basket::new()));
        }
        let (_, lines) = baskets.last_mut().expect("it was just pushed");
        *lines.entry(sku.to_owned()).or_default() += quantity;
    }
    baskets.into_iter().map(|(_, lines)| lines).collect()
}

/// How many of each sku all of them buy.
pub fn wanted(baskets: &[Basket]) -> BTreeMap<String, u32> {
    let mut wanted = BTreeMap::new();
    for (sku, quantity) in baskets.iter().flatten() {
        *wanted.entry(sku.clone()).or_default() += quantity;
    }
    wanted
}

/// Takes the products into the catalog with `jangbu import products`; gives their prices.
pub async fn import(shop: &Shop, skus: &BTreeSet<&String>) -> BTreeMap<String, i64> {
    let mut file = read("products.csv");
    let mut chosen = csv::Writer::from_writer(Vec::new());
    chosen.write_record(file.headers().expect("a header")).expect("memory");
    let mut prices = BTreeMap::new();
    for row in file.into_records() {
        let row = row.expect("a row");
        if skus.contains(&row[0].to_owned()) {
            prices.insert(row[0].to_owned(), row[6].parse().expect("a price"));
            chosen.write_record(&row).expect("memory");
        }
    }
    let path = shop.write("products.csv", &chosen.into_inner().expect("memory"));
    shop.run(&["import", "products", &path]).await;
    prices
}

fn read(name: &str) -> csv::Reader<std::fs::File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/journey")
        .join(name);
    csv::Reader::from_path(path).expect("the file is there")
}
