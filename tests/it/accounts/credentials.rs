//! Password hashes; they are set by the append that says so (`log::refusals`).

use jangbu::accounts::credentials;

use super::Fixture;

const OLD: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$b2xk";
const NEW: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$bmV3";

#[tokio::test]
async fn a_hash_is_replaced_unless_it_was_changed_meanwhile() {
    let fixture = Fixture::create().await;
    let (customer, now) = (fixture.customer, fixture.now());
    let mut db = fixture.database.pool.acquire().await.expect("a connection");
    let none = credentials::password_hash(&mut db, customer).await.expect("an answer");
    assert_eq!(none, None);
    sqlx::query("insert into credentials (customer_id, password_hash, changed_at) values ($1, $2, $3)")
        .bind(customer.to_string())
        .bind(OLD)
        .bind(now)
        .execute(&mut *db)
        .await
        .expect("it is set");
    let replaced = credentials::replace_hash(&mut db, customer, OLD, NEW).await;
    assert!(replaced.expect("an answer"));
    let replaced = credentials::replace_hash(&mut db, customer, OLD, OLD).await;
    assert!(!replaced.expect("an answer"), "changed meanwhile");
    for hash in [
        credentials::password_hash(&mut db, customer).await,
        credentials::lock(&mut db, customer).await,
    ] {
        assert_eq!(hash.expect("an answer").as_deref(), Some(NEW));
    }
}
