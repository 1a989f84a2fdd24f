//! The rules of the shop: aggregates that decide. Pure: nothing in here awaits, reads a clock, draws
//! a random number or knows where events are kept.

use cqrs_es::Aggregate;
use jangbu_events::{AggregateId, Event};
use uuid::Uuid;

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

    /// What follows from `command` in this state: events, in order, to be folded by
    /// [`Aggregate::apply`]. Depends on nothing but its arguments.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Error>;

    /// What the slot of a stream is made of (`Slot::of`), asked when `command` begins that stream.
    /// The streams of one purchase share the cart's bits, those of one product the product's.
    fn partition_key(id: Self::Id, command: &Self::Command) -> Uuid;
}
