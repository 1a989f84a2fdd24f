//! The rules of the shop: aggregates that decide, and the process manager that leads a checkout
//! from cart to sale. Pure: nothing in here awaits, reads a clock, draws a random number or knows
//! where events are kept. Times, new ids and sealed personal data arrive in commands.
//!
//! Every aggregate is one file with its state, its commands, its errors, `decide` and `apply`. A
//! repeat of what already happened yields no events; a contradiction is an error. The commands that
//! [`checkout`] sends by itself are lenient where another of its commands may have won a race.

pub mod cart;
pub mod checkout;
pub mod customer;
#[cfg(test)]
mod fixtures;
pub mod order;
pub mod order_name;
pub mod payment;
pub mod pricing;
pub mod product;
pub mod stock_item;

use cqrs_es::Aggregate;
use jangbu_events::{AggregateId, Event, Timestamp};
use uuid::Uuid;

pub use cart::{Cart, CartCommand, CartError};
pub use checkout::{Action, AnyCommand, Checkout, Timer, command_id};
pub use customer::{CancellablePeriod, Customer, CustomerCommand, CustomerError, ProofOfBoth, Register};
pub use order::{Order, OrderCommand, OrderError};
pub use order_name::order_name;
pub use payment::{Observation, Observed, Payment, PaymentCommand, PaymentError, Refunding, refund_id};
pub use pricing::{PricingError, line_total, totals};
pub use product::{Product, ProductCommand, ProductError, ProductStatus};
pub use stock_item::{StockCommand, StockError, StockItem};

/// What the executor needs of an aggregate, beyond cqrs-es. The bounds on the associated types are
/// part of the trait, so that `A: Decide` says it all.
pub trait Decide:
    Aggregate<
        Services = (),
        Command: Clone + std::fmt::Debug + Send + Sync + 'static,
        Event: Into<Event> + TryFrom<Event> + Send + Sync + 'static,
        Error: Clone + PartialEq + Send + Sync + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
    /// What names a stream of this aggregate.
    type Id: AggregateId;

    /// Of the snapshots of streams that grow without end, `None` where streams stay short. To be raised
    /// with every change of `apply` or of the state's JSON: snapshots of other versions are passed over.
    const SNAPSHOT_VERSION: Option<i32> = None;

    /// What follows from `command` in this state: events, in order, to be folded by
    /// [`Aggregate::apply`]. Depends on nothing but its arguments.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// When an event happened in the world, where its payload knows better than the command's time.
    fn happened_at(_event: &Self::Event) -> Option<Timestamp> {
        None
    }

    /// What the slot of a stream is made of (`Slot::of`), asked when `command` begins that stream.
    /// The streams of one purchase share the cart's bits, those of one product the product's.
    fn partition_key(id: Self::Id, command: &Self::Command) -> Uuid;
}
