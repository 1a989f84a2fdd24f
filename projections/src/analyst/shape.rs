//! What an event's payload holds, learnt from the samples: names, and the type each value has in SQL.

use std::collections::BTreeMap;

use chrono::DateTime;
use jangbu_events::{event::CURRENT_VERSIONS, samples};
use serde_json::Value;

/// Objects whose keys are anybody's: `:payload.attributes.brand` is a text, or null.
const FREE: &[(&str, &str)] = &[
    ("order.imported", "external_reference"),
    ("product.registered", "attributes"),
];

/// The type of a parameter in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A whole number.
    Bigint,
    /// A partition.
    Smallint,
    /// A text.
    Text,
    /// True or false.
    Boolean,
    /// A moment.
    Timestamptz,
    /// An id without a prefix.
    Uuid,
    /// An object or a list.
    Jsonb,
}

impl Type {
    /// As SQL calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bigint => "bigint",
            Self::Smallint => "smallint",
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Timestamptz => "timestamptz",
            Self::Uuid => "uuid",
            Self::Jsonb => "jsonb",
        }
    }
}

/// What stands around every event: parameters without `payload`.
pub const ENVELOPE: &[(&str, Type)] = &[
    ("position", Type::Bigint),
    ("partition", Type::Smallint),
    ("sequence", Type::Bigint),
    ("aggregate_type", Type::Text),
    ("aggregate_id", Type::Text),
    ("event_id", Type::Uuid),
    ("event_type", Type::Text),
    ("occurred_at", Type::Timestamptz),
    ("recorded_at", Type::Timestamptz),
];

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Value(Type),
    Object(BTreeMap<String, Shape>),
    /// Any key, and a text behind it.
    Free,
    List(Box<Shape>),
}

/// A path that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nowhere {
    /// The first name that is not there, from 0.
    pub at: usize,
    /// What is there instead; none if it is a list or a value.
    pub known: Vec<String>,
    /// Whether a list stands in the way.
    pub list: bool,
}

impl Shape {
    /// Of the payload of an event that this program knows, whoever it is of.
    pub fn of(event_type: &str) -> Option<Self> {
        let events = samples::all().into_iter().chain(samples::of_members());
        let mut shape: Option<Self> = None;
        for event in events.filter(|event| event.name() == event_type) {
            let value = serde_json::to_value(&event).ok()?;
            let seen = Self::from_json(&value);
            shape = Some(match shape {
                None => seen,
                Some(known) => known.or(seen),
            });
        }
        let mut shape = shape?;
        if let Self::Object(fields) = &mut shape {
            for (_, field) in FREE.iter().filter(|(of, _)| *of == event_type) {
                fields.insert((*field).to_owned(), Self::Free);
            }
        }
        Some(shape)
    }

    fn from_json(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Value(Type::Boolean),
            Value::Number(_) => Self::Value(Type::Bigint),
            Value::String(text) if DateTime::parse_from_rfc3339(text).is_ok() => Self::Value(Type::Timestamptz),
            Value::Null | Value::String(_) => Self::Value(Type::Text),
            Value::Array(values) => Self::List(Box::new(
                values.first().map_or(Self::Value(Type::Jsonb), Self::from_json),
            )),
            Value::Object(fields) => Self::Object(
                fields
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::from_json(value)))
                    .collect(),
            ),
        }
    }

    /// What either of two samples has.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Object(mut ours), Self::Object(theirs)) => {
                for (name, shape) in theirs {
                    let merged = match ours.remove(&name) {
                        None => shape,
                        Some(known) => known.or(shape),
                    };
                    ours.insert(name, merged);
                }
                Self::Object(ours)
            }
            (ours, _) => ours,
        }
    }

    /// The type of what a path leads to; without names, of the whole.
    pub fn at(&self, path: &[String]) -> Result<Type, Nowhere> {
        let mut shape = self;
        for (at, name) in path.iter().enumerate() {
            let nowhere = |known: Vec<String>, list| Nowhere { at, known, list };
            shape = match shape {
                Self::Object(fields) => fields
                    .get(name)
                    .ok_or_else(|| nowhere(fields.keys().cloned().collect(), false))?,
                Self::Free if at + 1 == path.len() => return Ok(Type::Text),
                Self::List(_) => return Err(nowhere(Vec::new(), true)),
                Self::Value(_) => return Err(nowhere(Vec::new(), false)),
                // The text behind the key has no parts.
                Self::Free => {
                    return Err(Nowhere {
                        at: at + 1,
                        known: Vec::new(),
                        list: false,
                    });
                }
            };
        }
        Ok(match shape {
            Self::Value(known) => *known,
            Self::Object(_) | Self::Free | Self::List(_) => Type::Jsonb,
        })
    }

    fn list(&self, path: &str, found: &mut Vec<(String, String)>) {
        match self {
            Self::Value(known) => found.push((path.to_owned(), known.name().to_owned())),
            Self::Free => found.push((format!("{path}.<key>"), "text, or null".to_owned())),
            Self::List(each) => {
                let keys = match &**each {
                    Self::Object(fields) => fields.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
                    Self::Value(_) | Self::Free | Self::List(_) => "values".to_owned(),
                };
                found.push((path.to_owned(), format!("jsonb, a list of {keys}")));
            }
            Self::Object(fields) => {
                for (name, shape) in fields {
                    shape.list(&format!("{path}.{name}"), found);
                }
            }
        }
    }
}

/// Every parameter of an event type with its type in SQL, envelope first; `None` if there is no such type.
pub fn parameters(event_type: &str) -> Option<Vec<(String, String)>> {
    let shape = Shape::of(event_type)?;
    let envelope = ENVELOPE
        .iter()
        .map(|(name, known)| (format!(":{name}"), known.name().to_owned()));
    let mut found: Vec<_> = envelope.collect();
    shape.list(":payload", &mut found);
    Some(found)
}

/// The version of an event type that this program tells projections; `None` if there is no such type.
pub(super) fn version(event_type: &str) -> Option<&'static str> {
    CURRENT_VERSIONS
        .iter()
        .find(|(known, _)| *known == event_type)
        .map(|(_, version)| *version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(event_type: &str, path: &str) -> Result<Type, Nowhere> {
        let path: Vec<String> = path
            .split('.')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Shape::of(event_type).expect("a known type").at(&path)
    }

    #[test]
    fn values_have_the_types_of_the_samples() {
        assert_eq!(at("order.confirmed", "paid.amount"), Ok(Type::Bigint));
        assert_eq!(at("order.confirmed", "paid_at"), Ok(Type::Timestamptz));
        assert_eq!(at("order.confirmed", "lines"), Ok(Type::Jsonb));
        assert_eq!(at("order.confirmed", ""), Ok(Type::Jsonb));
        assert_eq!(at("order.cancelled", "was_confirmed"), Ok(Type::Boolean));
        assert_eq!(at("order.imported", "external_reference.store_id"), Ok(Type::Text));
        assert_eq!(at("order.imported", "external_reference.anything"), Ok(Type::Text));
    }

    #[test]
    fn whoever_an_event_may_be_of_is_known() {
        for of in ["order.placed", "cart.opened", "cart.checked_out"] {
            assert_eq!(at(of, "owner.token_hash"), Ok(Type::Text));
            assert_eq!(at(of, "owner.customer_id"), Ok(Type::Text));
        }
    }

    #[test]
    fn a_wrong_path_is_told_from_where_it_goes_wrong() {
        let wrong = at("order.confirmed", "paid.amout").expect_err("no such field");
        assert_eq!(
            (wrong.at, wrong.known),
            (1, vec!["amount".to_owned(), "currency".to_owned()])
        );
        assert!(at("order.confirmed", "lines.sku").expect_err("a list").list);
        assert_eq!(at("order.confirmed", "paid_at.year").expect_err("a value").at, 1);
        assert_eq!(
            at("order.imported", "external_reference.a.b").expect_err("a text").at,
            2
        );
        assert_eq!(Shape::of("order.lost"), None);
    }

    #[test]
    fn every_event_has_a_shape_and_every_free_object_is_one() {
        for (event_type, _) in CURRENT_VERSIONS {
            let parameters = parameters(event_type).expect("a shape");
            assert!(parameters.len() > ENVELOPE.len(), "{event_type}");
            assert!(version(event_type).is_some());
        }
        for (event_type, field) in FREE {
            assert_eq!(at(event_type, field), Ok(Type::Jsonb), "{event_type}");
        }
    }

    /// Objects of this schema, below a path: each property, and whether any key may stand there.
    fn walk(root: &Value, schema: &Value, path: &[String], found: &mut Vec<(Vec<String>, bool)>) {
        if let Some(target) = schema["$ref"].as_str() {
            let pointer = target.strip_prefix('#').expect("it is in the same file");
            let target = root.pointer(pointer).expect("it is there");
            return walk(root, target, path, found);
        }
        for other in ["oneOf", "anyOf"]
            .iter()
            .filter_map(|key| schema[*key].as_array())
            .flatten()
        {
            walk(root, other, path, found);
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            let path = [path, std::slice::from_ref(name)].concat();
            found.push((path.clone(), below["additionalProperties"].is_object()));
            walk(root, below, &path, found);
        }
    }

    #[test]
    fn everything_that_an_event_may_hold_is_known() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/schemas");
        let mut paths = 0;
        for (event_type, version) in CURRENT_VERSIONS {
            let file = folder.join(format!("{event_type}.v{version}.json"));
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
            let shape = Shape::of(event_type).expect("a shape");
            let mut found = Vec::new();
            walk(&schema, &schema, &[], &mut found);
            for (path, is_free) in found {
                assert!(shape.at(&path).is_ok(), "{event_type} lacks {path:?} in its samples");
                let below = [&*path, &["any key".to_owned()]].concat();
                assert_eq!(shape.at(&below).is_ok(), is_free, "{event_type}: {path:?}");
                paths += 1;
            }
        }
        assert!(paths > 200, "{paths}");
    }
}
