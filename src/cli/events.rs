//! What the events of this version look like.

use std::io::{self, Write as _};

use clap::Subcommand;
use jangbu_events::{event::CURRENT_VERSIONS, schema};

use super::Usage;

/// `jangbu events …`.
#[derive(Subcommand)]
pub enum Events {
    /// Print the JSON Schema (2020-12) of an event's payload, or list the types.
    ///
    /// Of the version that this program writes; those of all released versions are in events/schemas of
    /// the source. Needs no database.
    Schema {
        /// The type: order.placed. Without it, every type with its version, one on a line.
        #[arg(value_name = "TYPE")]
        event_type: Option<String>,
    },
}

/// Prints what is asked for.
pub fn print(what: &Events) -> anyhow::Result<()> {
    let Events::Schema { event_type } = what;
    let text = match event_type {
        None => {
            let lines = CURRENT_VERSIONS
                .iter()
                .map(|(event_type, version)| format!("{event_type} {version}\n"));
            lines.collect::<Vec<_>>().concat()
        }
        Some(event_type) => {
            let unknown = || {
                Usage(format!(
                    "there is no event type `{event_type}`; see `jangbu events schema`"
                ))
            };
            let schema = schema::current(event_type).ok_or_else(unknown)?;
            serde_json::to_string_pretty(&schema)? + "\n"
        }
    };
    // Whoever reads only the beginning closes the pipe, which is no failure.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
