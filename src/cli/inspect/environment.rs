//! An environment's contract.

use super::Shown;
use crate::cli::contract::in_words;
use crate::{Result, sim};

/// What it promises; as JSON, what data sets and checkpoints carry.
///
/// # Errors
/// If there is no such environment; the known ones are named.
pub fn shown(name: &str) -> Result<Shown> {
    let contract = sim::make(name)?.spec().contract();
    let json = serde_json::to_value(&contract).map_err(|e| {
        crate::Error::failure(format!("the contract of `{name}` cannot be written as JSON: {e}"))
    })?;
    Ok(Shown { text: in_words(&contract), json, notes: Vec::new() })
}
