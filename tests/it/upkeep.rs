//! What was set aside or could not be done: listed, and tried again, by whoever runs the shop.

use std::time::Duration;

use jangbu::{
    processes::retry::{self as steps, StepOutcome, Which},
    workers,
};
use jangbu_events::{AggregateId as _, OrderId, PaymentId};
use serde_json::json;

use crate::{
    cli::{
        process::{Place, jangbu},
        servers,
    },
    database::{Database, surroundings},
    fanout::probe::eventually,
    shop::{Shop, nothing},
    web::{JWT_SECRET, Web},
};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

async fn run(db: &sqlx::PgPool, statement: &str) {
    sqlx::raw_sql(statement).execute(db).await.expect("the statement runs");
}

/// The log refuses to record that stock was sold, as it would after a change that went wrong.
const REFUSE_COMMITS: &str = "
    create function refuse_commits() returns trigger language plpgsql as
        $$ begin raise exception 'no commits today' using errcode = 'check_violation'; end $$;
    create trigger refuse_commits before insert on events
        for each row when (new.event_type = 'stock.committed') execute function refuse_commits()";

#[tokio::test]
async fn a_step_that_failed_is_done_once_it_can_be() {
    let shop = Shop::open().await;
    let db = &shop.database.pool;
    shop.product("DRIVER-10.5", 39_000, 3).await;
    shop.product("BALL-12", 25_000, 10).await;
    let cart = shop.cart(&[("DRIVER-10.5", 1), ("BALL-12", 2)]).await;
    let order = shop.check_out(cart).await.expect("it checks out").order_id;
    let payment = PaymentId::of(order, 1);
    shop.at_portone(payment, "pay", nothing()).await;
    run(db, REFUSE_COMMITS).await;
    // The payment is recorded; what follows from it is left to the runner.
    _ = shop.payments.settle(payment, crate::shop::metadata()).await;
    shop.run().await;
    assert_eq!(shop.failures().await.len(), 2, "{:?}", shop.failures().await);
    let any = Which::default();
    let failed = steps::list(db, &any, 10).await.expect("a list");
    assert!(
        failed.iter().all(|step| step.order_id == order.to_string()),
        "{failed:?}"
    );
    assert!(failed.iter().all(|step| step.step.starts_with("commit:")), "{failed:?}");

    let retry = async |which: &Which| steps::retry(&shop.executor, which).await.expect("it is tried");
    let still = retry(&any).await;
    let told: Vec<_> = still.iter().map(|one| (one.outcome, one.failure.attempts)).collect();
    assert_eq!(told, [(StepOutcome::Failed, 2); 2]);
    let other_order = Which {
        order_id: Some(OrderId::from_uuid(uuid::Uuid::nil()).to_string()),
        command_id: None,
    };
    assert_eq!(retry(&other_order).await, []);

    run(db, "drop trigger refuse_commits on events").await;
    let one = Which {
        order_id: None,
        command_id: Some(failed[0].command_id),
    };
    assert_eq!(retry(&one).await[0].outcome, StepOutcome::Done);
    let rest = retry(&any).await;
    assert_eq!(
        rest.iter().map(|one| one.outcome).collect::<Vec<_>>(),
        [StepOutcome::Done]
    );
    assert_eq!(retry(&any).await, [], "what is done is no failure any more");
    assert_eq!(
        (shop.stock("DRIVER-10.5").await, shop.stock("BALL-12").await),
        ((2, 2), (8, 8)),
        "sold, and sold once"
    );

    // A step that this program would not take is left to one that does, or to a person.
    sqlx::query(
        "insert into process_failures (command_id, process, key, position, step, error, failed_at)
        values ($1, 'checkout', $2, 3, 'dance', 'nobody can', now())",
    )
    .bind(order.uuid())
    .bind(order.to_string())
    .execute(db)
    .await
    .expect("a row can be written");
    assert_eq!(retry(&any).await[0].outcome, StepOutcome::Obsolete);
    assert_eq!(shop.failures().await, ["dance: nobody can"]);
    assert!(steps::dismiss(db, order.uuid()).await.expect("it goes"));
    assert!(!steps::dismiss(db, order.uuid()).await.expect("it is gone"));
    assert_eq!(shop.failures().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_parked_product_is_missing_alone_and_comes_back() {
    let web = Web::start().await;
    let db = web.node.executor.log().pool();
    let table = "alter table catalog_v1_b1.catalog_products";
    run(
        db,
        &format!("{table} add constraint no_dragons check (name not like '용%')"),
    )
    .await;
    web.product("DRIVER-10.5", 39_000, 3).await;
    let dragon = json!({"sku": "DRAGON", "name": "용", "category": "골프채", "price": 1000, "status": "published"});
    let dragon = web
        .post("/api/v1/admin/products")
        .admin()
        .json(&dragon)
        .send()
        .await
        .expect(201);
    let id = dragon.text_of("/id");
    web.product("BALL-12", 25_000, 3).await;
    let parked = async || web.get("/api/v1/admin/parked").admin().send().await.expect(200).body;
    eventually("it is parked", Duration::from_secs(20), async || {
        parked().await["data"].as_array().is_some_and(|rows| rows.len() == 1)
    })
    .await;
    let row = parked().await["data"][0].clone();
    assert_eq!(
        (row["projection"].as_str(), row["aggregate_id"].as_str()),
        (Some("catalog"), Some(&*id))
    );
    assert!(!row["error"].as_str().expect("a text").contains('용'), "{row}");
    let listed = async || -> Vec<String> {
        let list = web.get("/api/v1/products").send().await.expect(200).body;
        let rows = list["data"].as_array().expect("rows").clone();
        rows.iter()
            .map(|row| row["sku"].as_str().expect("a sku").to_owned())
            .collect()
    };
    eventually("the others are listed", Duration::from_secs(20), async || {
        listed().await == ["BALL-12", "DRIVER-10.5"]
    })
    .await;
    let ready = web.get("/readyz").send().await.expect(200).body;
    let catalog = ready["projections"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["name"] == "catalog");
    assert_eq!(
        catalog.expect("the catalog")["parked"],
        1,
        "the process is ready all the same"
    );

    let retry = |body: serde_json::Value| web.post("/api/v1/admin/parked/retry").admin().json(&body).send();
    let still = retry(json!({"aggregate_id": id})).await.expect(200).body;
    assert_eq!(
        (&still["data"][0]["outcome"], &still["data"][0]["attempts"]),
        (&json!("parked"), &json!(2))
    );
    run(db, &format!("{table} drop constraint no_dragons")).await;
    let well = retry(json!({"projection": "catalog"})).await.expect(200).body;
    assert_eq!(well["data"][0]["outcome"], "applied");
    assert_eq!(
        retry(json!({"all": true})).await.expect(200).body,
        json!({"data": [], "more": false})
    );
    assert_eq!(listed().await, ["BALL-12", "DRIVER-10.5", "DRAGON"], "by their names");
    assert_eq!(parked().await["data"], json!([]));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_one_way() {
    let web = Web::start_with(&[], false).await;
    let refused = async |path: &str, body: serde_json::Value| {
        let answer = web
            .post(format!("/api/v1/admin/{path}"))
            .admin()
            .json(&body)
            .send()
            .await;
        let answer = answer.refused(422, "validation_failed");
        let first = &answer.body["errors"][0];
        (
            first["pointer"].as_str().expect("a pointer").to_owned(),
            first["code"].as_str().expect("a code").to_owned(),
        )
    };
    for (path, body, pointer, code) in [
        ("parked/retry", json!({}), "/all", "one_or_all"),
        (
            "parked/retry",
            json!({"all": true, "projection": "sales"}),
            "/all",
            "one_or_all",
        ),
        (
            "parked/retry",
            json!({"projection": "sails"}),
            "/projection",
            "unknown_value",
        ),
        ("parked/retry", json!({"aggregate_id": ""}), "/aggregate_id", "empty"),
        (
            "parked/retry",
            json!({"aggregate_id": "x".repeat(101)}),
            "/aggregate_id",
            "too_long",
        ),
        ("parked/retry", json!({"every": true}), "/every", "unknown_field"),
        (
            "failed-steps/retry",
            json!({"order_id": "' or 1=1"}),
            "/order_id",
            "wrong_type",
        ),
        ("failed-steps/retry", json!({"all": "yes"}), "/all", "wrong_type"),
    ] {
        let told = refused(path, body.clone()).await;
        assert_eq!((told.0.as_str(), told.1.as_str()), (pointer, code), "{path} {body}");
    }
    for query in [
        "parked?projection=sails",
        "parked?limit=0",
        "failed-steps?order_id=7",
        "failed-steps?limit=1001",
    ] {
        let asked = web.get(format!("/api/v1/admin/{query}")).admin().send().await;
        asked.refused(422, "validation_failed");
    }
    for path in ["parked", "failed-steps"] {
        web.get(format!("/api/v1/admin/{path}"))
            .send()
            .await
            .refused(401, "unauthenticated");
        let nothing = web
            .get(format!("/api/v1/admin/{path}"))
            .admin()
            .send()
            .await
            .expect(200);
        assert_eq!(nothing.body, json!({"data": [], "more": false}));
        let again = web
            .post(format!("/api/v1/admin/{path}/retry"))
            .admin()
            .json(&json!({"all": true}));
        assert_eq!(again.send().await.expect(200).body, json!({"data": [], "more": false}));
    }
}

#[tokio::test]
async fn the_command_line_lists_and_retries() {
    let (place, database) = (Place::new(), Database::create().await);
    let url = servers::url(&database);
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("JANGBU_JWT_SECRET", JWT_SECRET),
        ("JANGBU_MASTER_KEY", KEY),
    ];
    let ask = async |arguments: &[&str]| jangbu(&place, arguments, &environment).await;
    let none = ask(&["parked", "list"]).await;
    assert_eq!(
        (none.code, none.stdout.as_str()),
        (0, "nothing is parked\n"),
        "{}",
        none.stderr
    );

    let db = &database.pool;
    let projections: Vec<_> = jangbu_projections::all().iter().collect();
    workers::drive_once(db, &projections, 4, &surroundings())
        .await
        .expect("builds are made");
    run(
        db,
        "insert into parked_aggregates (projection, code_version, build, partition, aggregate_type, aggregate_id,
            position, sequence, error, parked_at, tried_at)
        values ('sales', 1, 1, 2, 'product', 'prd_1', 7, 1, 'a check refuses it', now(), now());
        update checkpoints set parked = 1 where projection = 'sales' and partition = 2",
    )
    .await;
    let listed = ask(&["parked", "list", "--projection", "sales"]).await;
    assert!(
        listed.stdout.starts_with("sales prd_1 from position 7 on, since "),
        "{}",
        listed.stdout
    );
    let json: serde_json::Value =
        serde_json::from_str(ask(&["parked", "list", "--json"]).await.stdout.trim()).expect("JSON");
    assert_eq!((&json["build"], &json["attempts"]), (&json!("v1_b1"), &json!(1)));
    let doctor = ask(&["doctor"]).await;
    assert!(
        doctor.stdout.contains("1 aggregates are missing from sales"),
        "{}",
        doctor.stdout
    );
    let retried = ask(&["parked", "retry", "prd_1"]).await;
    assert_eq!(
        (retried.code, retried.stdout.as_str()),
        (0, "applied  sales prd_1\n"),
        "{}",
        retried.stderr
    );
    let again = ask(&["parked", "retry", "prd_1"]).await;
    assert_eq!(
        (again.code, again.stdout.as_str()),
        (0, "nothing like that is parked\n")
    );

    run(
        db,
        "insert into process_failures (command_id, process, key, position, step, error, failed_at)
        values (gen_random_uuid(), 'checkout', 'ord_0190f1e2a3b47c5d8e9f0a1b2c3d4e5f', 1, 'commit:A', 'no hold', now())",
    )
    .await;
    let failed = ask(&["processes", "list"]).await;
    assert!(
        failed.stdout.starts_with("commit:A of ord_0190"),
        "{}{}",
        failed.stdout,
        failed.stderr
    );
    let retried = ask(&["processes", "retry", "--all", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(retried.stdout.trim()).expect("JSON");
    assert_eq!((retried.code, &json["outcome"]), (1, &json!("obsolete")));
    // A newer program may know it: only a person takes it out of the list.
    let left = ask(&["processes", "list", "--json"]).await;
    let left: serde_json::Value = serde_json::from_str(left.stdout.trim()).expect("JSON");
    let step = left["command_id"].as_str().expect("it is named").to_owned();
    assert_eq!(ask(&["processes", "dismiss", &step]).await.code, 0);
    let gone = ask(&["processes", "dismiss", &step]).await;
    assert_eq!(
        (gone.code, gone.stderr.contains("no such step has failed")),
        (1, true),
        "{}",
        gone.stderr
    );
    let none = ask(&["processes", "list"]).await;
    assert_eq!(none.stdout, "every step of every order went through\n");
}
