//! The file `./.env`: `NAME=value` a line, as docker compose reads it, less everything that surprises: no
//! interpolation, no escapes, no values over several lines. A line that is none of this is an error.

use std::{collections::HashMap, io, path::Path};

use super::ConfigError;

/// The file's variables; none when there is no such file.
pub(super) fn read(path: &Path) -> Result<HashMap<String, String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashMap::new()),
        Err(error) => Err(ConfigError::new(".env", format!("cannot be read: {error}"))),
    }
}

pub(super) fn parse(text: &str) -> Result<HashMap<String, String>, ConfigError> {
    let mut variables = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem: &str| ConfigError::new(format!(".env line {}", number + 1), problem);
        let (name, value) = line
            .strip_prefix("export ")
            .unwrap_or(line)
            .split_once('=')
            .ok_or_else(|| wrong("must be NAME=value or begin with #"))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(wrong("must name its variable with letters, digits and underscores"));
        }
        let value = unquote(value.trim()).ok_or_else(|| wrong("has a quote without its other half"))?;
        if variables.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(wrong(&format!("sets {name} for the second time")));
        }
    }
    Ok(variables)
}

/// The text between quotes, or an unquoted text up to ` #`; `None` when a quote does not close or something follows it.
fn unquote(value: &str) -> Option<&str> {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let comment = value.starts_with('#').then_some(0).or_else(|| value.find(" #"));
        return Some(comment.map_or(value, |at| &value[..at]).trim_end());
    };
    let (inside, after) = value[1..].split_once(quote)?;
    let after = after.trim_start();
    (after.is_empty() || after.starts_with('#')).then_some(inside)
}
