//! Statistics of a dataset's features, as a checkpoint carries them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::tensors::{NamedView, Tensor, Tensors};
use crate::{Error, Result};

/// Names of the statistics that hold a feature's bounds. LeRobot reads past them.
const BOUNDS: [&str; 2] = ["low", "high"];

/// The statistics of every feature: `min`, `max`, `mean`, `std`, `q01`, `q10`, `q50`, `q90`, `q99`, `count`,
/// and `low`, `high` where a feature has bounds. Vectors have shape \[D\], images \[C, 1, 1\].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    place: String,
    features: BTreeMap<String, BTreeMap<String, Tensor>>,
}

impl Stats {
    /// No statistics yet; `place` (a file) opens every error about them.
    pub fn new(place: impl Into<String>) -> Self {
        Self { place: place.into(), features: BTreeMap::new() }
    }

    /// Adds a statistic, or replaces it.
    ///
    /// # Errors
    /// If there are not as many values as the shape says. Whether they are finite is asked by who needs them.
    pub fn insert(&mut self, key: &str, stat: &str, shape: &[usize], values: Vec<f32>) -> Result<()> {
        if shape.iter().product::<usize>() != values.len() {
            return Err(self.wrong(format!("`{key}.{stat}` of shape {shape:?} has {} values", values.len())));
        }
        let tensor = Tensor { shape: shape.to_vec(), values };
        self.features.entry(key.to_owned()).or_default().insert(stat.to_owned(), tensor);
        Ok(())
    }

    /// Saves the bounds of an action (or of another feature) with its statistics: D values each.
    /// `f32::MIN` and `f32::MAX` stand for a dimension without.
    ///
    /// # Errors
    /// If a lower bound is not finite, not below or at its upper bound, or the lengths differ.
    pub fn set_bounds(&mut self, key: &str, low: &[f32], high: &[f32]) -> Result<()> {
        self.insert(key, BOUNDS[0], &[low.len()], low.to_vec())?;
        self.insert(key, BOUNDS[1], &[high.len()], high.to_vec())?;
        self.bounds(key, low.len()).map(|_| ())
    }

    /// The bounds (lower, upper) of a feature of `width` values, if it has any.
    ///
    /// # Errors
    /// If they are of another width, not finite, or a lower bound exceeds its upper bound.
    pub fn bounds(&self, key: &str, width: usize) -> Result<Option<(&[f32], &[f32])>> {
        let Some(stats) = self.features.get(key) else { return Ok(None) };
        if BOUNDS.iter().all(|&name| !stats.contains_key(name)) {
            return Ok(None);
        }
        let low = self.required(key, BOUNDS[0], width)?;
        let high = self.required(key, BOUNDS[1], width)?;
        match low.iter().zip(high).position(|(low, high)| low > high) {
            Some(i) => Err(self.wrong(format!(
                "`{key}.low` is {} at dimension {i}, above `{key}.high`, which is {}",
                low[i], high[i]
            ))),
            None => Ok(Some((low, high))),
        }
    }

    /// A statistic that somebody needs: `width` finite values.
    ///
    /// # Errors
    /// Names the file and the statistic that is missing, of another width, or not finite.
    pub fn required(&self, key: &str, stat: &str, width: usize) -> Result<&[f32]> {
        let Some(tensor) = self.get(key, stat) else {
            let cure = if stat.starts_with('q') {
                "older datasets have no quantiles: compute them, or choose another normalization_mapping"
            } else {
                "save the policy with the statistics of its dataset"
            };
            return Err(self.wrong(format!("`{key}.{stat}` is missing: {cure}")));
        };
        if tensor.values.len() != width {
            return Err(self.wrong(format!(
                "`{key}.{stat}` has shape {:?}, but the feature has {width} values",
                tensor.shape
            )));
        }
        match tensor.values.iter().position(|value| !value.is_finite()) {
            Some(i) => Err(self.wrong(format!(
                "`{key}.{stat}` is {} at dimension {i}: compute the dataset's statistics again",
                tensor.values[i]
            ))),
            None => Ok(&tensor.values),
        }
    }

    /// A statistic, if it is there.
    pub fn get(&self, key: &str, stat: &str) -> Option<&Tensor> {
        self.features.get(key)?.get(stat)
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// The file they come from.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// All of them, named `<feature>.<statistic>` as LeRobot's state files have them.
    pub fn views(&self) -> impl Iterator<Item = NamedView<'_>> {
        self.features.iter().flat_map(|(key, stats)| {
            stats.iter().map(move |(stat, tensor)| {
                (format!("{key}.{stat}"), tensor.shape.as_slice(), tensor.values.as_slice())
            })
        })
    }

    /// Reads LeRobot's state file of a normalizer step.
    ///
    /// # Errors
    /// If the file is damaged, or a name is not `<feature>.<statistic>`.
    pub fn from_safetensors(bytes: &[u8], place: impl Into<String>) -> Result<Self> {
        let mut stats = Self::new(place);
        let tensors = Tensors::parse(bytes, &stats.place)?;
        for (name, shape) in tensors.iter() {
            let Some((key, stat)) = name.rsplit_once('.') else {
                return Err(stats.wrong(format!("tensor `{name}` is not named <feature>.<statistic>")));
            };
            stats.insert(key, stat, shape, tensors.read_any(name, shape)?)?;
        }
        Ok(stats)
    }

    /// Reads a dataset's `meta/stats.json`: `{feature: {statistic: nested lists of numbers}}`.
    ///
    /// # Errors
    /// Names the statistic that is no array of numbers.
    pub fn from_json(text: &str, place: impl Into<String>) -> Result<Self> {
        let mut stats = Self::new(place);
        let features: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| stats.wrong(format!("no JSON object of features: {e}")))?;
        for (key, value) in features {
            let Value::Object(entries) = value else {
                return Err(stats.wrong(format!("`{key}` must be an object of statistics")));
            };
            for (stat, value) in entries {
                let mut values = Vec::new();
                let shape = flatten(&value, &mut values).ok_or_else(|| {
                    stats.wrong(format!("`{key}.{stat}` must be an array of numbers, every row as long"))
                })?;
                stats.insert(&key, &stat, &shape, values)?;
            }
        }
        Ok(stats)
    }

    fn wrong(&self, what: String) -> Error {
        Error::input(what).at(&self.place)
    }
}

/// Appends the numbers of nested lists to `values` and returns the shape, or nothing if rows differ in shape.
fn flatten(value: &Value, values: &mut Vec<f32>) -> Option<Vec<usize>> {
    match value {
        Value::Array(rows) => {
            let mut inner = None;
            for row in rows {
                let shape = flatten(row, values)?;
                if inner.get_or_insert_with(|| shape.clone()) != &shape {
                    return None;
                }
            }
            let mut shape = vec![rows.len()];
            shape.extend(inner.unwrap_or_default());
            Some(shape)
        }
        _ => {
            values.push(value.as_f64()? as f32);
            Some(Vec::new())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tensors::to_safetensors;

    const JSON: &str = r#"{"action": {"min": [-1, 0.5], "max": [1, 2], "count": [10]},
        "observation.image": {"mean": [[[0.1]], [[0.2]], [[0.3]]]}}"#;

    #[test]
    fn statistics_read_from_json_survive_a_state_file() {
        let stats = Stats::from_json(JSON, "meta/stats.json").expect("parses");
        assert_eq!(stats.get("observation.image", "mean").expect("there").shape, [3, 1, 1]);
        let bytes = to_safetensors(stats.views()).expect("writes");
        let again = Stats::from_safetensors(&bytes, "meta/stats.json").expect("reads");
        assert_eq!(again, stats);
    }

    #[test]
    fn errors_name_the_file_and_the_statistic() {
        let mut stats = Stats::from_json(JSON, "s.json").expect("parses");
        stats.insert("action", "std", &[2], vec![1.0, f32::NAN]).expect("as many values");
        for (stat, width, expected) in [
            ("mean", 2, "s.json: `action.mean` is missing: save the policy with"),
            ("q01", 2, "s.json: `action.q01` is missing: older datasets"),
            ("std", 2, "s.json: `action.std` is NaN at dimension 1"),
            ("min", 3, "s.json: `action.min` has shape [2], but the feature has 3 values"),
        ] {
            let error = stats.required("action", stat, width).expect_err(stat).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        for text in ["[]", r#"{"a": 1}"#, r#"{"a": {"min": ["x"]}}"#, r#"{"a": {"min": [[1], [1, 2]]}}"#] {
            assert!(Stats::from_json(text, "s.json").is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_both_or_none_and_in_order() {
        let mut stats = Stats::new("s");
        assert_eq!(stats.bounds("action", 2), Ok(None));
        stats.set_bounds("action", &[-5.0, 0.0], &[5.0, 0.0]).expect("in order");
        assert_eq!(stats.bounds("action", 2), Ok(Some((&[-5.0, 0.0][..], &[5.0, 0.0][..]))));
        assert!(stats.set_bounds("action", &[1.0], &[0.0]).is_err());
        assert!(stats.set_bounds("action", &[1.0], &[f32::INFINITY]).is_err());
    }
}
