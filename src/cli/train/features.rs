//! A data set's features as a configuration's.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::data::{Dataset, Role};
use crate::policy::Config;
use crate::sim::ENVIRONMENT_STATE;
use crate::{Error, Result};

/// The configuration with the vectors of a data set as its features: all observations that are vectors, and the action.
///
/// # Errors
/// If the data set cannot be read, or has no such observation.
pub fn of_dataset(config: &Config, roots: &[PathBuf]) -> Result<Config> {
    let Some(root) = roots.first() else { return Ok(config.clone()) };
    let dataset = Dataset::open(root)?;
    let (mut inputs, mut outputs) = (Map::new(), Map::new());
    for feature in dataset.info.features.for_policy() {
        let kind = if feature.key == ENVIRONMENT_STATE { "ENV" } else { "STATE" };
        match feature.role {
            Role::Visual => {}
            Role::State => drop(inputs.insert(feature.key, json!({"type": kind, "shape": feature.shape}))),
            Role::Action => {
                drop(outputs.insert(feature.key, json!({"type": "ACTION", "shape": feature.shape})))
            }
        }
    }
    if inputs.is_empty() {
        return Err(Error::input(format!(
            "{}: no observation is a vector, and this preset sees vectors: use a preset with a camera",
            root.display()
        )));
    }
    let mut json = config.to_json();
    json["input_features"] = Value::Object(inputs);
    json["output_features"] = Value::Object(outputs);
    Config::parse(&json.to_string())
}
