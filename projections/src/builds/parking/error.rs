//! Which failures are the data's own, and what may be said of them.

use jangbu_events::DecodeError;

/// Whether a statement failed for what it was told, and would whenever it is told so. Anything else
/// (the connection, a lock, a table that is not there, a statement that does not parse) is no reason
/// to set one aggregate aside: it would happen to all.
pub fn is_of_the_data(error: &sqlx::Error) -> bool {
    match error {
        // Cardinality, data, constraints, `raise`, limits such as that of an index entry.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["21", "22", "23", "54"].iter().any(|class| code.starts_with(class)) || code == "P0001"
        }),
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// By code and names alone: the database's own words quote values, and an aggregate's values may be
/// personal data.
pub fn of_applying(error: &sqlx::Error) -> String {
    let error = match error {
        sqlx::Error::Database(error) => error,
        sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
            return "a value in it is not what its type says".to_owned();
        }
        _ => return "the database cannot be used".to_owned(),
    };
    let code = error.code().unwrap_or_default();
    let what = match &*code {
        "22001" => "a text is too long",
        "22003" => "a number is out of range",
        "22021" | "22P05" => "a text has a character that the table cannot keep",
        "23502" => "a value is missing",
        "23503" => "what it refers to is not there",
        "23505" => "another row has the same key",
        "23514" => "a check refuses it",
        "P0001" => "the projection refuses it",
        "42P01" => "a table is not there",
        "42501" => "it touches what is not the projection's, or another partition's rows",
        "57014" => "it took too long, or somebody stopped it",
        _ => "the database refuses it",
    };
    let named = |kind: &str, name: Option<&str>| name.map_or_else(String::new, |name| format!(", {kind} {name}"));
    let (table, constraint) = (named("table", error.table()), named("constraint", error.constraint()));
    format!("{what} (SQLSTATE {code}{table}{constraint})")
}

/// As [`of_applying`]: what a decoder says quotes values too.
pub fn of_decoding(error: &DecodeError) -> String {
    match error {
        DecodeError::Payload { source, .. } => format!("{error} (column {})", source.column()),
        _ => error.to_string(),
    }
}
