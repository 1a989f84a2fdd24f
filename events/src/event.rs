//! Any event at all, decoded from what the log keeps.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    CartEvent, CustomerEvent, OrderEvent, PaymentEvent, ProductEvent, RawEvent, Recorded, StockEvent,
    envelope::Stored,
    upcast::{TypeVersion, UPCASTERS, UpcastError, Upcaster, upcast},
};

/// An event of any aggregate. Its JSON is the payload that the log keeps, `type` and all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Event {
    /// Of a cart.
    Cart(CartEvent),
    /// Of a customer.
    Customer(CustomerEvent),
    /// Of an order.
    Order(OrderEvent),
    /// Of a payment.
    Payment(PaymentEvent),
    /// Of a product.
    Product(ProductEvent),
    /// Of a stock item.
    Stock(StockEvent),
}

/// A stored event that this version of the program cannot read. Never skipped silently: whoever
/// meets one stops, or sets its aggregate aside.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No such event is known here: a newer version wrote it.
    #[error("unknown event type {event_type} version {event_version}")]
    UnknownType {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
    },
    /// The payload is not what the type says.
    #[error("the payload of {event_type} version {event_version} does not decode")]
    Payload {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
    /// An upcaster failed.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
}

/// Every event type that this version can read, with its current version.
pub const CURRENT_VERSIONS: &[TypeVersion] = &[
    ("cart.opened", "1"),
    ("cart.line_added", "1"),
    ("cart.line_quantity_changed", "1"),
    ("cart.line_removed", "1"),
    ("cart.cleared", "1"),
    ("cart.checked_out", "1"),
    ("cart.reopened", "1"),
    ("customer.registered", "1"),
    ("customer.email_verified", "1"),
    ("customer.phone_verified", "1"),
    ("customer.profile_changed", "1"),
    ("customer.address_added", "1"),
    ("customer.address_changed", "1"),
    ("customer.address_removed", "1"),
    ("customer.default_address_chosen", "1"),
    ("customer.consent_changed", "1"),
    ("customer.password_changed", "1"),
    ("customer.social_linked", "1"),
    ("customer.social_unlinked", "1"),
    ("customer.suspended", "1"),
    ("customer.reinstated", "1"),
    ("customer.withdrawal_requested", "1"),
    ("customer.withdrawal_cancelled", "1"),
    ("customer.withdrawal_completed", "1"),
    ("customer.role_granted", "1"),
    ("customer.role_revoked", "1"),
    ("order.placed", "1"),
    ("order.awaiting_payment", "1"),
    ("order.deadline_extended", "1"),
    ("order.confirmed", "1"),
    ("order.payment_rejected", "1"),
    ("order.refunded", "1"),
    ("order.cancelled", "1"),
    ("order.refused", "1"),
    ("order.expired", "1"),
    ("order.imported", "1"),
    ("payment.requested", "1"),
    ("payment.virtual_account_issued", "1"),
    ("payment.confirmed", "1"),
    ("payment.failed", "1"),
    ("payment.refused", "1"),
    ("payment.cancellation_requested", "1"),
    ("payment.refund_account_given", "1"),
    ("payment.cancellation_failed", "1"),
    ("payment.cancelled", "1"),
    ("product.registered", "1"),
    ("product.renamed", "1"),
    ("product.repriced", "1"),
    ("product.published", "1"),
    ("product.hidden", "1"),
    ("product.archived", "1"),
    ("stock.received", "1"),
    ("stock.adjusted", "1"),
    ("stock.held", "1"),
    ("stock.hold_refused", "1"),
    ("stock.released", "1"),
    ("stock.committed", "1"),
    ("stock.returned", "1"),
];

/// The version in which an event of this type is written today.
pub(crate) fn current_version(event_type: &str) -> &'static str {
    CURRENT_VERSIONS
        .iter()
        .find(|(name, _)| *name == event_type)
        .map(|(_, version)| *version)
        .expect("every type has a current version: there is a sample of each")
}

impl Event {
    /// Decodes one stored event, through the upcasters if it is old; usually gives one event.
    pub fn decode(stored: &Stored) -> Result<Vec<Self>, DecodeError> {
        Self::decode_with(UPCASTERS, stored)
    }

    /// As [`Event::decode`], with other upcasters.
    pub fn decode_with(upcasters: &[Upcaster], stored: &Stored) -> Result<Vec<Self>, DecodeError> {
        let current = CURRENT_VERSIONS.contains(&(stored.event_type.as_str(), stored.event_version.as_str()));
        if current {
            return Ok(vec![Self::decode_current(stored)?]);
        }
        upcast(upcasters, stored)?.iter().map(Self::decode_current).collect()
    }

    fn decode_current(stored: &Stored) -> Result<Self, DecodeError> {
        let unknown = || DecodeError::UnknownType {
            event_type: stored.event_type.clone(),
            event_version: stored.event_version.clone(),
        };
        if !CURRENT_VERSIONS.contains(&(stored.event_type.as_str(), stored.event_version.as_str())) {
            return Err(unknown());
        }
        match stored.event_type.split_once('.').map(|(family, _)| family) {
            Some("cart") => payload(stored).map(Self::Cart),
            Some("customer") => payload(stored).map(Self::Customer),
            Some("order") => payload(stored).map(Self::Order),
            Some("payment") => payload(stored).map(Self::Payment),
            Some("product") => payload(stored).map(Self::Product),
            Some("stock") => payload(stored).map(Self::Stock),
            _ => Err(unknown()),
        }
    }

    /// The stored name, as in the `event_type` column.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Cart(event) => event.name(),
            Self::Customer(event) => event.name(),
            Self::Order(event) => event.name(),
            Self::Payment(event) => event.name(),
            Self::Product(event) => event.name(),
            Self::Stock(event) => event.name(),
        }
    }
}

impl RawEvent {
    /// As [`RawEvent::decode`], of an event that is not needed any more: nothing is copied.
    pub fn into_decoded(self) -> Result<Vec<Recorded<Event>>, DecodeError> {
        let mut events = Event::decode(&self.payload)?;
        if events.len() > 1 {
            return Ok(events.into_iter().map(|event| self.clone().with(event)).collect());
        }
        Ok(events.pop().map(|event| self.with(event)).into_iter().collect())
    }

    /// The decoded event or events in the same envelope: same position, same sequence, same id, in
    /// their order.
    pub fn decode(&self) -> Result<Vec<Recorded<Event>>, DecodeError> {
        Ok(Event::decode(&self.payload)?
            .into_iter()
            .map(|event| self.clone().with(event))
            .collect())
    }
}

fn payload<E: DeserializeOwned>(stored: &Stored) -> Result<E, DecodeError> {
    serde_json::from_str(&stored.payload).map_err(|source| DecodeError::Payload {
        event_type: stored.event_type.clone(),
        event_version: stored.event_version.clone(),
        source,
    })
}

macro_rules! family {
    ($($variant:ident($event:ty)),*) => {$(
        impl From<$event> for Event {
            fn from(event: $event) -> Self {
                Self::$variant(event)
            }
        }

        impl TryFrom<Event> for $event {
            type Error = Event;
            fn try_from(event: Event) -> Result<Self, Event> {
                match event {
                    Event::$variant(event) => Ok(event),
                    other => Err(other),
                }
            }
        }
    )*};
}

family!(
    Cart(CartEvent),
    Customer(CustomerEvent),
    Order(OrderEvent),
    Payment(PaymentEvent),
    Product(ProductEvent),
    Stock(StockEvent)
);
