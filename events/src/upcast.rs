//! Upcasters: how an event written by an older version is read today. The log is never rewritten.

use serde_json::Value;

use crate::envelope::Stored;

/// Turns one stored event of an old version into the events it means today (1 to n).
pub struct Upcaster {
    /// The type it reads.
    pub event_type: &'static str,
    /// The version it reads.
    pub event_version: &'static str,
    /// From the old payload to (type, version, payload) of each event it means.
    pub apply: fn(Value) -> Vec<(&'static str, &'static str, Value)>,
}

/// All upcasters; none yet, since every event still has its first version.
pub const UPCASTERS: &[Upcaster] = &[];

/// Upcasters that do not come to an end, or a payload that is not JSON.
#[derive(Debug, thiserror::Error)]
pub enum UpcastError {
    /// More steps than any real history has.
    #[error("upcasting {event_type} version {event_version} does not come to an end")]
    Endless {
        /// `order.placed`.
        event_type: String,
        /// `1`.
        event_version: String,
    },
    /// The payload is not JSON.
    #[error("the payload of {event_type} is not JSON")]
    Payload {
        /// `order.placed`.
        event_type: String,
        /// What serde says.
        #[source]
        source: serde_json::Error,
    },
}

/// The most steps from the oldest version to today's.
const STEPS_MAX: u32 = 64;

/// Applies upcasters until none fits any more. An event that none fits comes back as it is.
pub fn upcast(upcasters: &[Upcaster], stored: &Stored) -> Result<Vec<Stored>, UpcastError> {
    let fits = |s: &Stored| {
        upcasters
            .iter()
            .find(|u| u.event_type == s.event_type && u.event_version == s.event_version)
    };
    let mut done = Vec::new();
    let mut todo = vec![(stored.clone(), 0)];
    while let Some((event, steps)) = todo.pop() {
        let Some(upcaster) = fits(&event) else {
            done.push(event);
            continue;
        };
        if steps == STEPS_MAX {
            return Err(UpcastError::Endless {
                event_type: event.event_type,
                event_version: event.event_version,
            });
        }
        let old = serde_json::from_str(&event.payload).map_err(|source| UpcastError::Payload {
            event_type: event.event_type.clone(),
            source,
        })?;
        // Pushed in reverse: the stack then yields them in order.
        for (event_type, event_version, payload) in (upcaster.apply)(old).into_iter().rev() {
            let payload = payload.to_string();
            todo.push((
                Stored {
                    event_type: event_type.into(),
                    event_version: event_version.into(),
                    payload,
                },
                steps + 1,
            ));
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Event, ProductEvent};

    const SPLIT: &[Upcaster] = &[
        Upcaster {
            event_type: "product.launched",
            event_version: "0",
            apply: |old| vec![("product.launched", "1", json!({ "title": old["name"] }))],
        },
        Upcaster {
            event_type: "product.launched",
            event_version: "1",
            apply: |old| {
                vec![
                    (
                        "product.renamed",
                        "1",
                        json!({ "type": "product.renamed", "name": old["title"] }),
                    ),
                    ("product.published", "1", json!({ "type": "product.published" })),
                ]
            },
        },
    ];

    fn stored(event_type: &str, event_version: &str, payload: &Value) -> Stored {
        Stored {
            event_type: event_type.into(),
            event_version: event_version.into(),
            payload: payload.to_string(),
        }
    }

    #[test]
    fn an_old_event_may_mean_several_today() {
        let events = Event::decode_with(SPLIT, &stored("product.launched", "0", &json!({ "name": "드라이버" })));
        let expected = [
            ProductEvent::Renamed {
                name: "드라이버".into(),
            },
            ProductEvent::Published {},
        ];
        assert_eq!(events.expect("it decodes"), expected.map(Event::from));
    }

    #[test]
    fn an_unknown_event_is_an_error_and_never_skipped() {
        for (event_type, version) in [("product.teleported", "1"), ("product.renamed", "2"), ("nonsense", "1")] {
            let error = Event::decode(&stored(event_type, version, &json!({}))).expect_err("unknown");
            assert!(error.to_string().contains(event_type), "{error}");
        }
    }

    #[test]
    fn upcasters_in_a_circle_are_found() {
        const CIRCLE: &[Upcaster] = &[Upcaster {
            event_type: "a.b",
            event_version: "1",
            apply: |old| vec![("a.b", "1", old)],
        }];
        assert!(matches!(
            upcast(CIRCLE, &stored("a.b", "1", &json!({}))),
            Err(UpcastError::Endless { .. })
        ));
    }
}
