//! Five times as many buyers as there are goods, all at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{
    setting,
    shop::Shop,
    sound::{self, Sales},
};

const STOCK: u32 = 100;
const BUYERS: usize = 500;
const AT_ONCE: usize = 32;
const PRICE: i64 = 390_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_hundred_buyers_at_one_process_a_hundred_get_one() {
    let shop = Shop::open(1).await;
    sell_out(&shop, &[0]).await;
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_hundred_buyers_at_two_processes_a_hundred_get_one() {
    let shop = Shop::open(2).await;
    sell_out(&shop, &[0, 1]).await;
    shop.close().await;
}

/// Several sales in a row; the buyers take the nodes in turns.
async fn sell_out(shop: &Shop, nodes: &[usize]) {
    let mut sales = Sales {
        confirmed: BTreeSet::new(),
        refused: 0,
        revenue: 0,
        received: BTreeMap::new(),
    };
    for sale in 0..setting("JANGBU_TEST_SALES", 1) {
        let sku = format!("DRIVER-{sale}");
        shop.product(0, &sku, PRICE, STOCK).await;
        let basket = &BTreeMap::from([(sku.clone(), 1)]);
        let started = Instant::now();
        let answers = futures_util::stream::iter(0..BUYERS)
            .map(async |buyer| {
                let node = nodes[buyer % nodes.len()];
                let answer = shop.check_out(node, &format!("buyer-{sale}-{buyer}"), basket).await;
                if let Ok(order) = &answer {
                    shop.pay(order).await;
                }
                answer
            })
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await;
        let took = started.elapsed();
        let mut sold = 0;
        for answer in answers {
            match answer {
                Ok(order) => {
                    assert!(sales.confirmed.insert(order.id), "an order of their own");
                    sold += 1;
                }
                Err(refusal) => {
                    let refusal = refusal.refused(409, "sold_out");
                    assert_eq!(refusal.body["lines"][0]["sku"], sku.as_str(), "{}", refusal.text);
                    assert_eq!(refusal.body["lines"][0]["available"], 0, "{}", refusal.text);
                    sales.refused += 1;
                }
            }
        }
        let repeats = shop.repeats.load(Ordering::Relaxed);
        println!(
            "flash sale {sale} at {} process(es): {sold} sold in {took:?}, {repeats} repeats",
            nodes.len()
        );
        assert_eq!(sold, STOCK);
        sales.revenue += i64::from(STOCK) * PRICE;
        sales.received.insert(sku, STOCK);
    }
    sound::wait_for_quiet(shop, sales.confirmed.len()).await;
    sound::check(shop, &sales).await;
}
