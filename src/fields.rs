//! Reading a JSON object key by key, so that every error names its key and no key is overlooked.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A JSON object whose keys are taken one after the other; what is left over at the end is unknown.
#[derive(Debug)]
pub struct Fields {
    place: String,
    map: Map<String, Value>,
}

impl Fields {
    /// The object in `value`; `place` says where it stands, for errors.
    ///
    /// # Errors
    /// If it is no object.
    pub fn of(value: Value, place: impl Into<String>) -> Result<Self> {
        let place = place.into();
        match value {
            Value::Object(map) => Ok(Self { place, map }),
            _ => Err(Error::input(format!("{place} must be a JSON object"))),
        }
    }

    /// Takes a key that must be there.
    ///
    /// # Errors
    /// If it is missing or of another type.
    pub fn required<T: DeserializeOwned>(&mut self, key: &str) -> Result<T> {
        self.optional(key)?.ok_or_else(|| Error::input(format!("{} lacks `{key}`", self.place)))
    }

    /// Takes a key that may be missing.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn optional<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>> {
        match self.map.shift_remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let shown = value.to_string();
                serde_json::from_value(value)
                    .map(Some)
                    .map_err(|e| Error::input(format!("{}: `{key}` is {shown}: {e}", self.place)))
            }
        }
    }

    /// Takes a key that may be missing, or a default.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn or<T: DeserializeOwned>(&mut self, key: &str, default: T) -> Result<T> {
        Ok(self.optional(key)?.unwrap_or(default))
    }

    /// What is left, if every remaining key is one of `kept`.
    ///
    /// # Errors
    /// Names the first key that is not.
    pub fn finish(self, kept: &[&str]) -> Result<Map<String, Value>> {
        match self.map.keys().find(|key| !kept.contains(&key.as_str())) {
            Some(key) => Err(Error::input(format!(
                "{} has an unknown key `{key}`: check its spelling, or remove it",
                self.place
            ))),
            None => Ok(self.map),
        }
    }
}
