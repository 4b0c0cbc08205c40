//! The local API's words as the database holds them: the same text as in JSON, so that no second table is needed.

use serde::{Serialize, de::DeserializeOwned};

/// A word of the local API as text.
#[must_use]
pub fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Reads a word; none when this version does not know it.
#[must_use]
pub fn parse<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}
