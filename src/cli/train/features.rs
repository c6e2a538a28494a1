//! A data set's features as a configuration's.

use serde_json::{Map, Value, json};

use crate::data::{Dataset, Role};
use crate::policy::Config;
use crate::sim::ENVIRONMENT_STATE;
use crate::{Error, Result};

/// What an additional camera that no data set has is called, as LeRobot calls it; its pictures would be of this shape.
const EMPTY_CAMERA: (&str, [usize; 3]) = ("observation.images.empty_camera_", [3, 480, 640]);

/// The configuration with what a data set has as its features: observations that are vectors, cameras where the
/// network looks at pictures, and the action. `empty_cameras` more are named that are missing here.
///
/// # Errors
/// If a picture cannot be read, or there is no observation for the network.
pub fn of_dataset(config: &Config, dataset: &Dataset, empty_cameras: usize) -> Result<Config> {
    let sees = config.images().next().is_some();
    let (mut inputs, mut outputs) = (Map::new(), Map::new());
    for feature in dataset.info.features.for_policy() {
        let vector = if feature.key == ENVIRONMENT_STATE { "ENV" } else { "STATE" };
        let (map, kind, shape) = match feature.role {
            Role::Visual if !sees => continue,
            // What is declared can be wrong; a picture is not.
            Role::Visual => (&mut inputs, "VISUAL", dataset.image_shape(&feature.key)?.to_vec()),
            Role::State => (&mut inputs, vector, feature.shape),
            Role::Action => (&mut outputs, "ACTION", feature.shape),
        };
        map.insert(feature.key, json!({"type": kind, "shape": shape}));
    }
    if inputs.is_empty() {
        return Err(Error::input(format!(
            "{}: no observation is {}: use another preset",
            dataset.roots[0].display(),
            if sees { "a picture or a vector" } else { "a vector, and this preset sees vectors" }
        )));
    }
    for camera in (0..empty_cameras).filter(|_| sees) {
        let (name, shape) = EMPTY_CAMERA;
        inputs.insert(format!("{name}{camera}"), json!({"type": "VISUAL", "shape": shape}));
    }
    let mut json = config.to_json();
    // Where a network pads vectors, it has at least room for these.
    let widths = |map: &Map<String, Value>| -> u64 {
        let vectors = map.values().filter(|feature| feature["type"] != "VISUAL");
        vectors.filter_map(|feature| feature["shape"][0].as_u64()).sum()
    };
    for (key, width) in [("max_state_dim", widths(&inputs)), ("max_action_dim", widths(&outputs))] {
        if let Some(room) = json[key].as_u64() {
            json[key] = json!(room.max(width));
        }
    }
    json["input_features"] = Value::Object(inputs);
    json["output_features"] = Value::Object(outputs);
    Config::parse(&json.to_string())
}
