//! Configurations by name.

use super::Config;
use crate::{Error, Result};

/// Names of the presets, the default first.
pub const PRESETS: &[&str] = &["pursuit", "pursuit-seed"];

/// The configuration of that name.
///
/// # Errors
/// If there is none.
pub fn preset(name: &str) -> Result<Config> {
    match name {
        "pursuit" => Config::parse(include_str!("presets/pursuit.json")),
        "pursuit-seed" => Config::parse(include_str!("presets/pursuit-seed.json")),
        other => Err(Error::input(format!("unknown preset `{other}`: known are {}", PRESETS.join(", ")))),
    }
}
