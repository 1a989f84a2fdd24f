use std::collections::BTreeMap;

use jangbu_events::{AggregateId, ProductEvent, TaxClass};

use super::*;
use crate::fixtures::{given, outcome, product, sku, won};

fn register(name: &str, price: i64) -> ProductCommand {
    ProductCommand::Register {
        sku: sku("A"),
        name: name.to_owned(),
        category: "드라이버".to_owned(),
        price: won(price),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::from([("brand".to_owned(), "한빛".to_owned())]),
    }
}

fn registered() -> ProductEvent {
    ProductEvent::Registered {
        sku: sku("A"),
        name: "드라이버".to_owned(),
        category: "드라이버".to_owned(),
        price: won(39_000),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::from([("brand".to_owned(), "한빛".to_owned())]),
    }
}

fn revise(name: Option<&str>, price: Option<i64>, status: Option<ProductStatus>) -> ProductCommand {
    ProductCommand::Revise {
        name: name.map(str::to_owned),
        price: price.map(won),
        status,
    }
}

fn become_status(status: ProductStatus) -> ProductCommand {
    revise(None, None, Some(status))
}

#[test]
fn a_product_is_registered_with_all_that_is_known_of_it() {
    given::<Product>(vec![])
        .when(register("드라이버", 39_000))
        .then_expect_events(vec![registered()]);
}

#[test]
fn one_revision_changes_name_price_and_status_and_tells_each() {
    given::<Product>(vec![registered()])
        .when(revise(
            Some("새 드라이버"),
            Some(35_000),
            Some(ProductStatus::Published),
        ))
        .then_expect_events(vec![
            ProductEvent::Renamed {
                name: "새 드라이버".to_owned(),
            },
            ProductEvent::Repriced {
                previous_price: won(39_000),
                price: won(35_000),
            },
            ProductEvent::Published {},
        ]);
}

#[test]
fn what_is_so_already_makes_no_event() {
    given::<Product>(vec![registered(), ProductEvent::Published {}])
        .when(revise(Some("드라이버"), Some(39_000), Some(ProductStatus::Published)))
        .then_expect_events(vec![]);
}

#[test]
fn every_command_in_every_state() {
    use ProductStatus::{Archived, Draft, Hidden, Published};
    let after = |status: Option<ProductEvent>| [registered()].into_iter().chain(status).collect::<Vec<_>>();
    let commands = [
        register("드라이버", 39_000),
        register("아이언", 39_000),
        revise(Some("아이언"), None, None),
        revise(None, Some(1), None),
        become_status(Draft),
        become_status(Published),
        become_status(Hidden),
        become_status(Archived),
        revise(None, None, None),
    ];
    let renamed = "product.renamed";
    let repriced = "product.repriced";
    let table = [
        (
            vec![],
            [
                "product.registered",
                "product.registered",
                "! NotRegistered",
                "! NotRegistered",
                "! NotRegistered",
                "! NotRegistered",
                "! NotRegistered",
                "! NotRegistered",
                "! NotRegistered",
            ],
        ),
        (
            after(None),
            [
                "-",
                "! AlreadyRegistered",
                renamed,
                repriced,
                "-",
                "product.published",
                "product.hidden",
                "product.archived",
                "-",
            ],
        ),
        (
            after(Some(ProductEvent::Published {})),
            [
                "-",
                "! AlreadyRegistered",
                renamed,
                repriced,
                "! NoWayBackToDraft",
                "-",
                "product.hidden",
                "product.archived",
                "-",
            ],
        ),
        (
            after(Some(ProductEvent::Hidden {})),
            [
                "-",
                "! AlreadyRegistered",
                renamed,
                repriced,
                "! NoWayBackToDraft",
                "product.published",
                "-",
                "product.archived",
                "-",
            ],
        ),
        (
            after(Some(ProductEvent::Archived {})),
            [
                "-",
                "! AlreadyRegistered",
                "! Archived",
                "! Archived",
                "! Archived",
                "! Archived",
                "! Archived",
                "-",
                "-",
            ],
        ),
    ];
    for (events, expected) in table {
        let outcomes = commands
            .clone()
            .map(|command| outcome::<Product>(events.clone(), command));
        assert_eq!(outcomes, expected, "after {events:?}");
    }
}

#[test]
fn registering_a_product_as_it_stands_after_a_revision_is_a_repeat() {
    let renamed = ProductEvent::Renamed {
        name: "아이언".to_owned(),
    };
    given::<Product>(vec![registered(), renamed])
        .when(register("아이언", 39_000))
        .then_expect_events(vec![]);
}

#[test]
fn a_price_is_zero_to_a_trillion_won() {
    for (price, allowed) in [
        (-1, false),
        (0, true),
        (Money::AMOUNT_MAX, true),
        (Money::AMOUNT_MAX + 1, false),
    ] {
        let refused = "! PriceOutOfRange";
        let expected = if allowed { "product.registered" } else { refused };
        assert_eq!(
            outcome::<Product>(vec![], register("드라이버", price)),
            expected,
            "{price}"
        );
        let expected = if allowed { "product.repriced" } else { refused };
        let revised = outcome::<Product>(vec![registered()], revise(None, Some(price), None));
        assert_eq!(revised, expected, "{price}");
    }
}

#[test]
fn a_refused_part_refuses_the_whole_revision() {
    given::<Product>(vec![registered()])
        .when(revise(Some("아이언"), Some(-1), Some(ProductStatus::Published)))
        .then_expect_error(ProductError::PriceOutOfRange);
}

#[test]
fn a_product_and_its_stock_share_a_slot() {
    let id = product("A");
    let slot_of = Product::partition_key(id, &become_status(ProductStatus::Hidden));
    assert_eq!(slot_of, id.uuid());
    let receive = crate::StockCommand::Receive {
        sku: sku("A"),
        quantity: 1,
    };
    assert_eq!(crate::StockItem::partition_key(id.stock_item(), &receive), slot_of);
}
