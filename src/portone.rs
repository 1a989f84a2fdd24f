//! The shop's side of `PortOne` V2: a REST client, webhook signatures, and what the browser needs for a payment window.
//!
//! Nothing here knows of orders, events or tables: the module speaks `PortOne`'s language in plain types of its own and
//! leaves every decision to its caller. Three rules shape it.
//!
//! - **A webhook is a hint.** [`webhook`] says who sent it and which payment it is about; [`Rereader`] reads that payment.
//! - **Answers grow.** Fields, enum values and union cases may appear at any time, so unknown ones are carried, never fatal.
//!   Amounts and times are the exception: one that cannot be read is an error, because a guessed amount is worse.
//! - **An unknown outcome is not a failure.** After a lost reply a cancel is repeated under the same key, never anew.

mod cancel;
mod changes;
mod client;
mod error;
mod payment;
mod request_payment;
mod rereader;
mod transport;
pub mod webhook;

#[cfg(test)]
mod tests;

use std::fmt;

pub use cancel::{
    CancelError, CancelRequest, IDEMPOTENCY_KEY_CHARS, IdempotencyKey, InvalidIdempotencyKey, RefundAccount, Requester,
};
pub use changes::{Changes, ChangesPage};
pub use client::{Client, ClientConfig, ConfigError, VirtualAccountClosure};
pub use error::{Error, PgRefusal, Refusal, Unreachable};
pub use payment::{
    Amount, Cancellation, CancellationStatus, ChannelType, Failure, Method, Payment, PaymentStatus, VirtualAccount,
};
pub use request_payment::{
    AccountExpiry, EasyPayOptions, FULL_NAME_BYTES_MAX, PayMethod, RequestCustomer, RequestPayment,
    VirtualAccountOptions,
};
pub use rereader::{Rereader, RereaderConfig};

/// A text that must not reach logs, answers or the browser. Its `Debug` is `[redacted]`, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret as it was configured.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Redacted.fmt(f)
    }
}

/// Stands in for secret or personal text in `Debug` output.
pub(crate) struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
