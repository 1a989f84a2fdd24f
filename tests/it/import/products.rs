//! Files of products, good and bad.

use jangbu::executor::CommandEnvelope;
use jangbu_domain::{Product, ProductCommand, ProductStatus};
use jangbu_events::{Event, Metadata, Money, ProductEvent, ProductId, StoreId};

use super::files::{Shop, codes};
use crate::database::surroundings;

const HEADER: &str = "sku,name,category,price_krw,brand,memo";

fn file(rows: &[&str]) -> String {
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

fn id(sku: &str) -> ProductId {
    ProductId::of(StoreId::DEFAULT, &sku.parse().expect("a sku"))
}

async fn set_status(shop: &Shop, sku: &str, status: ProductStatus) {
    let surroundings = surroundings();
    let command = ProductCommand::Revise {
        name: None,
        price: None,
        status: Some(status),
    };
    let envelope = CommandEnvelope::new(surroundings.ids.uuid(), Metadata::default(), surroundings.now());
    let done = shop.executor.execute::<Product>(id(sku), command, envelope).await;
    done.expect("the status is set");
}

async fn product(shop: &Shop, sku: &str) -> (String, Money, ProductStatus) {
    let loaded = shop.executor.load::<Product>(id(sku)).await.expect("it loads");
    match &*loaded.state {
        Product::Registered {
            name, price, status, ..
        } => (name.clone(), *price, *status),
        Product::NotRegistered => panic!("{sku} is not registered"),
    }
}

#[tokio::test]
async fn a_product_is_registered_and_published_with_its_attributes() {
    let shop = Shop::open().await;
    let report = shop
        .products(file(&[
            "A,\"Tee, \"\"long\"\"\",GOLF,1000,나이스,\"two\nlines\"",
            "B,Bag,GOLF,0,,",
        ]))
        .await
        .expect("it goes through");
    assert_eq!((report.rows, report.imported), (2, 2));
    let events = shop.events(0).await;
    let kinds: Vec<_> = events.iter().map(|event| event.payload.name()).collect();
    assert_eq!(
        kinds,
        [
            "product.registered",
            "product.published",
            "product.registered",
            "product.published"
        ]
    );
    let Event::Product(ProductEvent::Registered {
        name,
        attributes,
        price,
        ..
    }) = &events[0].payload
    else {
        panic!("a product")
    };
    assert_eq!((name.as_str(), *price), ("Tee, \"long\"", Money::won(1_000)));
    let attributes: Vec<_> = attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(attributes, [("brand", "나이스"), ("memo", "two\nlines")]);
    assert_eq!(
        events[0].slot,
        jangbu_events::Slot::of(jangbu_events::AggregateId::uuid(&id("A")))
    );
}

#[tokio::test]
async fn a_bad_row_rejects_its_product_and_nothing_else() {
    let shop = Shop::open().await;
    for (index, (row, expected)) in [
        ("X,Tee,GOLF,10.5,,", "bad_price"),
        ("X,Tee,GOLF,-10,,", "bad_price"),
        ("X,Tee,GOLF,\"1,000\",,", "bad_price"),
        ("X,Tee,GOLF,1e3,,", "bad_price"),
        ("X,Tee,GOLF,,,", "bad_price"),
        ("X,Tee,GOLF,1000000000001,,", "bad_price"),
        ("X,,GOLF,10,,", "missing_value"),
        ("X,Tee, ,10,,", "missing_value"),
        (",Tee,GOLF,10,,", "missing_value"),
        ("X/Y,Tee,GOLF,10,,", "bad_sku"),
        ("X,Tee,GOLF,10,a,b,c", "field_count"),
        ("X,Tee,GOLF,10,\"a,b", "bad_quoting"),
        ("X,\"two\nlines\",GOLF,10,,", "bad_text"),
        ("X,Tee,GOLF,10,\u{1},", "bad_text"),
    ]
    .into_iter()
    .enumerate()
    {
        let (before, after) = (
            format!("A{index},Bag,GOLF,1,,"),
            format!("B{index},Bag,GOLF,1,\"x, y\","),
        );
        let report = shop
            .products(file(&[&before, row, &after]))
            .await
            .expect("it goes through");
        assert_eq!((report.imported, report.rejected), (2, 1), "{row}");
        assert_eq!(codes(&report), [(3, expected.to_owned())], "{row}");
    }
}

#[tokio::test]
async fn the_first_of_two_rows_of_one_sku_counts() {
    let shop = Shop::open().await;
    let rows = ["A,Tee,GOLF,bad,,", "A,Tee,GOLF,1,,", "A,Tee,GOLF,1,,", "A,Tee,GOLF,2,,"];
    let report = shop.products(file(&rows)).await.expect("it goes through");
    assert_eq!((report.imported, report.unchanged, report.rejected), (1, 1, 2));
    assert_eq!(
        codes(&report),
        [(2, "bad_price".to_owned()), (5, "duplicate_sku".to_owned())]
    );
    assert_eq!(product(&shop, "A").await.1, Money::won(1));
}

#[tokio::test]
async fn a_changed_product_is_revised_and_prices_may_come_back() {
    let shop = Shop::open().await;
    let cheap = file(&["A,Tee,GOLF,1,,", "B,Bag,GOLF,5,,"]);
    let dear = file(&["A,Tee long,GOLF,2,,", "B,Bag,GOLF,5,,"]);
    shop.products(&cheap).await.expect("it goes through");
    for (content, name, price) in [(&dear, "Tee long", 2), (&cheap, "Tee", 1), (&dear, "Tee long", 2)] {
        let report = shop.products(content).await.expect("it goes through");
        assert_eq!((report.revised, report.unchanged, report.imported), (1, 1, 0));
        assert_eq!(
            product(&shop, "A").await,
            (name.to_owned(), Money::won(price), ProductStatus::Published)
        );
        let head = shop.head().await;
        let again = shop.products(content).await.expect("it goes through");
        assert_eq!((again.unchanged, shop.head().await), (2, head));
    }
}

#[tokio::test]
async fn what_an_operator_decided_stays() {
    let shop = Shop::open().await;
    shop.products(file(&["A,Tee,GOLF,1,x,", "B,Bag,GOLF,5,,"]))
        .await
        .expect("it goes through");
    set_status(&shop, "A", ProductStatus::Hidden).await;
    set_status(&shop, "B", ProductStatus::Archived).await;
    let same = shop
        .products(file(&["A,Tee,GOLF,1,x,", "B,Bag,GOLF,5,,"]))
        .await
        .expect("it goes through");
    assert_eq!((same.unchanged, same.attributes_kept), (2, 0));
    let report = shop
        .products(file(&["A,Tee,GOLF,3,y,", "B,Bag,GOLF,6,,"]))
        .await
        .expect("it goes through");
    assert_eq!((report.revised, report.attributes_kept, report.rejected), (1, 1, 1));
    assert_eq!(codes(&report), [(3, "archived".to_owned())]);
    assert_eq!(
        product(&shop, "A").await,
        ("Tee".to_owned(), Money::won(3), ProductStatus::Hidden)
    );
    let moved = shop
        .products(file(&["A,Tee,SHOES,3,x,"]))
        .await
        .expect("it goes through");
    assert_eq!(codes(&moved), [(2, "category_fixed".to_owned())]);
}
