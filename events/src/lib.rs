//! The published language of Jangbu: every event that can stand in the log, the envelope around
//! it, and the small types both sides share (money, ids, sealed personal data).
//!
//! The write side (`domain`) and the read side (`projections`) both depend on this crate and never
//! on each other. Names and JSON shapes here are for ever: add variants and optional fields, or
//! write an upcaster; never change what an old event says.

pub mod cart;
pub mod customer;
pub mod envelope;
pub mod event;
pub mod hashed;
pub mod ids;
pub mod money;
pub mod order;
pub mod payment;
pub mod personal;
pub mod product;
pub mod samples;
pub mod schema;
pub mod sealed;
pub mod sku;
pub mod stock;
pub mod text;
pub mod upcast;

pub use cart::{CartEvent, ReopenReason};
pub use customer::{
    AgreedText, Consent, ConsentKind, CustomerEvent, PasswordChange, Role, SignUp, SocialAccount, SocialProvider,
    SuspendReason, VerifiedBy,
};
pub use envelope::{Metadata, RawEvent, Recorded, Timestamp};
pub use event::{DecodeError, Event};
pub use hashed::Hashed;
pub use ids::{
    AddressId, AggregateId, CartId, CustomerId, LineId, OrderId, PaymentId, ProductId, Slot, StockItemId, StoreId,
};
pub use money::{Currency, Money};
pub use order::{
    CancelReason, Consents, LineShare, OrderEvent, OrderLine, OrderTotals, Owner, PayMethod, RejectReason, Shortage,
    TaxClass,
};
pub use payment::{ChannelType, PaymentEvent, PaymentMeans, RefundReason, RefuseReason};
pub use personal::{Email, Orderer, PersonName, Phone, Postcode, Recipient};
pub use product::ProductEvent;
pub use sealed::Sealed;
pub use sku::Sku;
pub use stock::{AdjustReason, ReleaseReason, StockEvent};
