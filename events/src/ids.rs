//! Typed ids. One text form everywhere: a three-letter prefix and 32 hex digits (`ord_0190…`), in
//! the log's `aggregate_id`, in event JSON, in URLs and in messages, so that an id seen anywhere
//! can be searched for everywhere.

use std::{borrow::Cow, fmt, hash::Hash, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {prefix}_ and 32 hex digits")]
pub struct IdError {
    /// What was given, cut to 64 characters.
    pub text: String,
    /// The prefix that was expected, without the underscore.
    pub prefix: &'static str,
}

/// An id that names a stream of the log.
pub trait AggregateId:
    Copy + Eq + Hash + fmt::Debug + fmt::Display + FromStr<Err = IdError> + Send + Sync + 'static
{
    /// The bare 128 bits.
    fn uuid(&self) -> Uuid;
    /// Wraps 128 bits.
    fn from_uuid(uuid: Uuid) -> Self;
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The prefix of the text form, without the underscore.
            pub const PREFIX: &'static str = $prefix;
        }

        impl AggregateId for $name {
            fn uuid(&self) -> Uuid {
                self.0
            }
            fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_prefixed(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": concat!("^", $prefix, "_[0-9a-f]{32}$") })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Reads `<prefix>_<32 lower-case hex digits>`. Only the canonical spelling is taken: two texts
/// must never name one stream.
fn parse_prefixed(text: &str, prefix: &'static str) -> Result<Uuid, IdError> {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .filter(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
        .and_then(|hex| Uuid::try_parse(hex).ok())
        .ok_or_else(|| IdError {
            text: text.chars().take(64).collect(),
            prefix,
        })
}

typed_id!(
    /// A shop. One default store for now; its id stands in every key.
    StoreId, "sto"
);
typed_id!(
    /// A cart. Its bits are also the purchase id: the cart, its orders and their payments share a slot.
    CartId, "crt"
);
typed_id!(
    /// An order: UUIDv5 of (cart, attempt), or of (source, basket) when imported.
    OrderId, "ord"
);
typed_id!(
    /// A payment: UUIDv5 of (order, attempt). PortOne knows it as the 32 hex digits alone.
    PaymentId, "pay"
);
typed_id!(
    /// A product: UUIDv5 of (store, sku).
    ProductId, "prd"
);
typed_id!(
    /// The stock of a product: the same bits as its [`ProductId`].
    StockItemId, "stk"
);
typed_id!(
    /// A registered customer.
    CustomerId, "cus"
);
typed_id!(
    /// An address that a customer keeps.
    AddressId, "adr"
);
typed_id!(
    /// A line of a cart, kept by the order made of it: UUIDv5 of (cart, sku).
    LineId, "lin"
);

impl StoreId {
    /// The store of an installation that has only one.
    pub const DEFAULT: Self = Self(Uuid::from_u128(0x6a61_6e67_6275_7000_8000_0000_0000_0001));
}

impl ProductId {
    /// The product that a sku names in a store; a sku never changes its product.
    pub fn of(store: StoreId, sku: &crate::Sku) -> Self {
        Self(Uuid::new_v5(&store.0, format!("product:{sku}").as_bytes()))
    }

    /// The stock of this product.
    pub const fn stock_item(self) -> StockItemId {
        StockItemId(self.0)
    }
}

impl StockItemId {
    /// The product whose stock this is.
    pub const fn product(self) -> ProductId {
        ProductId(self.0)
    }
}

impl LineId {
    /// The line that a sku has in a cart; adding the sku again finds the same line.
    pub fn of(cart: CartId, sku: &crate::Sku) -> Self {
        Self(Uuid::new_v5(&cart.0, format!("line:{sku}").as_bytes()))
    }
}

impl OrderId {
    /// The order that the n-th checkout of a cart makes (`attempt` counts from 1).
    pub fn of(cart: CartId, attempt: u32) -> Self {
        Self(Uuid::new_v5(&cart.0, format!("order:{attempt}").as_bytes()))
    }

    /// The order that an import makes of one basket of a source.
    pub fn imported(source: &str, basket: &str) -> Self {
        let source = Uuid::new_v5(&StoreId::DEFAULT.0, format!("import:{source}").as_bytes());
        Self(Uuid::new_v5(&source, basket.as_bytes()))
    }
}

impl PaymentId {
    /// The n-th payment asked for an order (`attempt` counts from 1).
    pub fn of(order: OrderId, attempt: u32) -> Self {
        Self(Uuid::new_v5(&order.0, format!("payment:{attempt}").as_bytes()))
    }

    /// What PortOne calls it: 32 characters of `0-9a-f`, which every PG behind it accepts
    /// (PROTOCOL A6).
    pub fn portone(&self) -> String {
        self.0.simple().to_string()
    }

    /// Reads PortOne's form; `None` for a payment that cannot be ours.
    pub fn from_portone(text: &str) -> Option<Self> {
        parse_prefixed(&format!("pay_{text}"), "pay").ok().map(Self)
    }
}

/// Partition of the log, 0 to 255, fixed for ever by the partition key of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(u8);

impl Slot {
    /// How many slots there are; partitions are ranges of them.
    pub const COUNT: u16 = 256;

    /// The slot of a partition key (a purchase, a product, a customer): FNV-1a over its 16 bytes,
    /// folded to 8 bits. Stable for ever, since old events carry it.
    pub fn of(key: Uuid) -> Self {
        let hash = key.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(hash.to_be_bytes().into_iter().fold(0, |folded, byte| folded ^ byte))
    }

    /// From the log's column.
    pub fn from_column(slot: i16) -> Option<Self> {
        u8::try_from(slot).ok().map(Self)
    }

    /// For the log's column.
    pub const fn column(self) -> i16 {
        self.0 as i16
    }

    /// Which of `partitions` equal ranges of slots it falls into, counted from 0.
    pub const fn partition(self, partitions: u16) -> u16 {
        self.0 as u16 * partitions / Self::COUNT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_own_text_only() {
        let id = CartId::from_uuid(Uuid::from_u128(7));
        assert_eq!(id.to_string(), "crt_00000000000000000000000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ord_00000000000000000000000000000007".parse::<CartId>().is_err());
        assert!("crt_0000000000000000000000000000000A".parse::<CartId>().is_err());
        assert!("crt_00000000-0000-0000-0000-000000000007".parse::<CartId>().is_err());
        assert!("".parse::<CartId>().is_err());
    }

    #[test]
    fn slots_never_move() {
        // Pinned: events in old logs carry these numbers.
        assert_eq!(Slot::of(Uuid::nil()).column(), 144);
        assert_eq!(Slot::of(Uuid::from_u128(1)).column(), 64);
        assert_eq!(Slot::of(Uuid::from_u128(u128::MAX)).column(), 34);
    }

    #[test]
    fn partitions_cover_all_slots_in_equal_ranges() {
        let of = |slot| Slot::from_column(slot).map(|s| s.partition(4));
        assert_eq!(
            [of(0), of(63), of(64), of(255), of(256)],
            [Some(0), Some(0), Some(1), Some(3), None]
        );
    }

    #[test]
    fn portone_knows_a_payment_by_its_digits() {
        let id = PaymentId::from_uuid(Uuid::from_u128(0xabc));
        assert_eq!(PaymentId::from_portone(&id.portone()), Some(id));
        assert_eq!(PaymentId::from_portone("order-0001"), None);
    }
}
