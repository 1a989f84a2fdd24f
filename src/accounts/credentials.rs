//! Password hashes by customer. They are written in the caller's transaction, together with whatever
//! says that they were.

use jangbu_events::CustomerId;
use sqlx::PgConnection;

/// The PHC string of a customer; `None` if the customer has no password.
pub async fn password_hash(db: &mut PgConnection, customer: CustomerId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select password_hash from credentials where customer_id = $1",
        customer.to_string()
    )
    .fetch_optional(db)
    .await
}

/// The same, and nobody changes it before the caller's transaction ends. Setting it goes with the event that says
/// so: [`crate::log::PasswordRow`].
pub async fn lock(db: &mut PgConnection, customer: CustomerId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select password_hash from credentials where customer_id = $1 for share",
        customer.to_string()
    )
    .fetch_optional(db)
    .await
}

/// Puts another hash of the same password in the place of `old`. Does nothing, and says so, if the
/// password was changed meanwhile.
pub async fn replace_hash(db: &mut PgConnection, customer: CustomerId, old: &str, new: &str) -> sqlx::Result<bool> {
    let replaced = sqlx::query!(
        "update credentials set password_hash = $3 where customer_id = $1 and password_hash = $2",
        customer.to_string(),
        old,
        new
    )
    .execute(db)
    .await?;
    Ok(replaced.rows_affected() == 1)
}
