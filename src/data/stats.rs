//! Statistics of a dataset's columns, as LeRobot keeps them: `{feature: {stat: array}}`.
//!
//! Vectors have statistics of shape `[N]`, pictures of shape `[3, 1, 1]` in [0, 1], `count` is `[1]`.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// One statistic of one feature, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Stat {
    /// Dimensions: `[N]`, or `[3, 1, 1]` for pictures.
    pub shape: Vec<usize>,
    /// The product of `shape` values, finite.
    pub values: Vec<f64>,
}

impl Stat {
    /// A vector of values.
    pub fn vector(values: Vec<f64>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    /// The values in single precision.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }
}

/// The statistics of one feature by name.
pub type FeatureStats = BTreeMap<String, Stat>;

/// Statistics by feature and name. Every value is finite.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    features: BTreeMap<String, FeatureStats>,
    /// The file they came from, for errors.
    source: String,
}

impl Stats {
    /// No statistics yet; `source` names the place in errors.
    pub fn new(source: impl Into<String>) -> Self {
        Self { features: BTreeMap::new(), source: source.into() }
    }

    /// A statistic that must be there.
    ///
    /// # Errors
    /// If it is not: the file, the feature and the statistic are named.
    pub fn get(&self, feature: &str, stat: &str) -> Result<&Stat> {
        self.features.get(feature).and_then(|stats| stats.get(stat)).ok_or_else(|| {
            let hint = if stat.starts_with('q') {
                "; older datasets have no quantiles: choose another normalisation, or record again"
            } else {
                ""
            };
            Error::input(format!("{}: no statistic `{stat}` of feature `{feature}`{hint}", self.source))
        })
    }

    /// Sets a statistic, replacing one of that name.
    ///
    /// # Errors
    /// If a value is not finite, or if there are not as many as the shape says.
    pub fn set(&mut self, feature: &str, stat: &str, value: Stat) -> Result<()> {
        let here = || format!("{}: statistic `{stat}` of feature `{feature}`", self.source);
        if let Some(bad) = value.values.iter().find(|v| !v.is_finite()) {
            let what = format!("{} holds {bad}; compute the dataset's statistics again", here());
            return Err(Error::input(what));
        }
        if value.values.len() != value.shape.iter().product::<usize>() || value.values.is_empty() {
            let (count, shape) = (value.values.len(), &value.shape);
            return Err(Error::input(format!("{} has {count} values in shape {shape:?}", here())));
        }
        self.features.entry(feature.into()).or_default().insert(stat.into(), value);
        Ok(())
    }

    /// Features with their statistics, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FeatureStats)> {
        self.features.iter().map(|(key, stats)| (key.as_str(), stats))
    }

    /// Checks that a feature has `min`, `max`, `mean` and `std` with `width` values each.
    ///
    /// # Errors
    /// If one is missing or of another size.
    pub fn check(&self, feature: &str, width: usize) -> Result<()> {
        for name in ["min", "max", "mean", "std"] {
            let stat = self.get(feature, name)?;
            if stat.values.len() != width {
                return Err(Error::input(format!(
                    "{}: statistic `{name}` of feature `{feature}` has shape {:?}, but the feature has {width} values",
                    self.source, stat.shape
                )));
            }
        }
        Ok(())
    }

    /// Statistics of several parts (episodes, datasets) as one, as LeRobot aggregates them: mean and variance
    /// weighted by count, the envelope of quantiles (lowest up to q50, highest above).
    /// A statistic that one part lacks is left out.
    ///
    /// # Errors
    /// If shapes differ between parts.
    pub fn aggregate(parts: &[Self]) -> Result<Self> {
        let mut whole = Self::new(parts.first().map_or("", |p| &p.source));
        let keys: std::collections::BTreeSet<_> = parts.iter().flat_map(|p| p.features.keys()).collect();
        for key in keys {
            let parts: Vec<_> = parts.iter().filter(|p| p.features.contains_key(key)).collect();
            whole.merge(key, &parts)?;
        }
        Ok(whole)
    }

    /// Sets a feature's statistics from those of its parts.
    fn merge(&mut self, key: &str, parts: &[&Self]) -> Result<()> {
        let all = |name: &str| parts.iter().map(|p| p.get(key, name)).collect::<Result<Vec<_>>>();
        let (means, stds, counts) = (all("mean")?, all("std")?, all("count")?);
        let shape = means[0].shape.clone();
        for part in parts {
            let odd = part.features[key].iter().find(|(name, stat)| *name != "count" && stat.shape != shape);
            if let Some((name, stat)) = odd {
                return Err(Error::input(format!(
                    "{}: statistic `{name}` of feature `{key}` has shape {:?}, expected {shape:?}",
                    part.source, stat.shape
                )));
            }
        }
        let total: f64 = counts.iter().map(|c| c.values[0]).sum();
        let (mut mean, mut std) = (means[0].clone(), stds[0].clone());
        for i in 0..mean.values.len() {
            let weigh = |f: &dyn Fn(f64, f64) -> f64| {
                let parts = means.iter().zip(&stds).zip(&counts);
                parts.map(|((m, s), c)| f(m.values[i], s.values[i]) * c.values[0]).sum::<f64>() / total
            };
            let middle = weigh(&|mean, _| mean);
            let variance = weigh(&|mean, std| std * std + (mean - middle) * (mean - middle));
            (mean.values[i], std.values[i]) = (middle, variance.sqrt());
        }
        self.set(key, "mean", mean)?;
        self.set(key, "std", std)?;
        self.set(key, "count", Stat::vector(vec![total]))?;
        for name in ["min", "q01", "q10", "q50", "q90", "q99", "max"] {
            let pick = if ["q90", "q99", "max"].contains(&name) { f64::max } else { f64::min };
            let Ok(stats) = all(name) else { continue };
            let mut extreme = stats[0].clone();
            for stat in stats {
                extreme.values.iter_mut().zip(&stat.values).for_each(|(e, &v)| *e = pick(*e, v));
            }
            self.set(key, name, extreme)?;
        }
        Ok(())
    }

    /// Reads a `stats.json`.
    ///
    /// # Errors
    /// If the file is missing or broken, or if a value is not a finite number.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::input(format!("cannot read {}: {e}", path.display())))?;
        let broken = |e| Error::input(format!("{}: {e}", path.display()));
        let json: Map<String, Value> = serde_json::from_str(&spell_nulls(&text)).map_err(broken)?;
        Self::from_json(&json, &path.display().to_string())
    }

    /// The statistics of a JSON map, `{feature: {stat: nested list}}`; `source` names the file in errors.
    ///
    /// # Errors
    /// If a value is not a finite number.
    pub(super) fn from_json(json: &Map<String, Value>, source: &str) -> Result<Self> {
        let mut stats = Self::new(source);
        for (feature, entries) in json {
            let Some(entries) = entries.as_object() else {
                return Err(Error::input(format!("{source}: `{feature}` is not a map")));
            };
            for (name, value) in entries {
                let stat = from_json(value).ok_or_else(|| {
                    Error::input(format!(
                        "{source}: statistic `{name}` of feature `{feature}` is not an array of finite numbers; \
                         compute the dataset's statistics again"
                    ))
                })?;
                stats.set(feature, name, stat)?;
            }
        }
        Ok(stats)
    }

    /// Writes a `stats.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let feature = |stats: &FeatureStats| -> Map<String, Value> {
            stats.iter().map(|(name, stat)| (name.clone(), to_json(name, stat))).collect()
        };
        let json: Map<String, Value> =
            self.features.iter().map(|(key, stats)| (key.clone(), feature(stats).into())).collect();
        std::fs::write(path, format!("{:#}", Value::from(json)))
            .map_err(|e| Error::failure(format!("cannot write {}: {e}", path.display())))
    }

    /// The bytes of a safetensors file with a tensor `"{feature}.{stat}"` (F32) each, as LeRobot's normaliser saves them.
    ///
    /// # Errors
    /// If the tensors cannot be laid out.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut tensors = Vec::new();
        for (key, stats) in &self.features {
            for (name, stat) in stats {
                let bytes: Vec<u8> = stat.to_f32().iter().flat_map(|v| v.to_le_bytes()).collect();
                tensors.push((format!("{key}.{name}"), stat.shape.clone(), bytes));
            }
        }
        let failed = |e| Error::failure(format!("cannot save statistics: {e}"));
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(failed)?;
        safetensors::serialize(views, None).map_err(failed)
    }

    /// Statistics from the bytes of a safetensors file as [`Self::to_safetensors`] makes it; `source` names the file.
    ///
    /// # Errors
    /// If the bytes are no safetensors file, or a tensor is not F32, not finite, or not named `feature.stat`.
    pub fn from_safetensors(bytes: &[u8], source: &str) -> Result<Self> {
        let bad = |what: String| Error::input(format!("{source}: {what}"));
        let file = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        let mut stats = Self::new(source);
        for (name, tensor) in file.iter() {
            let Some((feature, stat)) = name.rsplit_once('.') else {
                return Err(bad(format!("tensor `{name}` is not named feature.statistic")));
            };
            if tensor.dtype() != Dtype::F32 {
                return Err(bad(format!("tensor `{name}` is {:?}; statistics are F32", tensor.dtype())));
            }
            let (words, _) = tensor.data().as_chunks::<4>();
            let values = words.iter().map(|&w| f64::from(f32::from_le_bytes(w))).collect();
            let mut shape = tensor.shape().to_vec();
            if shape.is_empty() {
                shape.push(1);
            }
            stats.set(feature, stat, Stat { shape, values })?;
        }
        Ok(stats)
    }
}

/// Python writes bare `NaN` and `Infinity` into JSON; as nulls they can be parsed and named.
pub(super) fn spell_nulls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('"').enumerate() {
        if i > 0 {
            out.push('"');
        }
        // Every second part lies between quotes (feature names with escaped quotes are not in use).
        if i % 2 == 0 {
            out += &part.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null");
        } else {
            out += part;
        }
    }
    out
}

/// A nested list, a number or a truth value as a row-major array.
fn from_json(value: &Value) -> Option<Stat> {
    match value {
        Value::Number(number) => Some(Stat { shape: vec![1], values: vec![number.as_f64()?] }),
        Value::Bool(truth) => Some(Stat { shape: vec![1], values: vec![f64::from(u8::from(*truth))] }),
        Value::Array(items) => {
            let items: Vec<Stat> = items.iter().map(from_json).collect::<Option<_>>()?;
            let leaf = value.get(0).is_none_or(|v| !v.is_array());
            let inner = if leaf { Vec::new() } else { items.first()?.shape.clone() };
            if items.iter().any(|item| if leaf { item.shape != [1] } else { item.shape != inner }) {
                return None;
            }
            let shape = [vec![items.len()], inner].concat();
            Some(Stat { shape, values: items.into_iter().flat_map(|item| item.values).collect() })
        }
        _ => None,
    }
}

/// The array as nested lists; counts are whole.
fn to_json(name: &str, stat: &Stat) -> Value {
    let number = |&v: &f64| if name == "count" { Value::from(v as u64) } else { Value::from(v) };
    let mut level: Vec<Value> = stat.values.iter().map(number).collect();
    for &size in stat.shape.iter().skip(1).rev() {
        level = level.chunks(size.max(1)).map(|chunk| Value::from(chunk.to_vec())).collect();
    }
    Value::from(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn part(mean: f64, std: f64, count: f64, q10: f64, q90: f64) -> Stats {
        let mut stats = Stats::new("part");
        let all = [("min", mean - 1.0), ("max", mean + 1.0), ("mean", mean), ("std", std), ("count", count)];
        for (name, value) in all.into_iter().chain([("q10", q10), ("q90", q90)]) {
            stats.set("action", name, Stat::vector(vec![value])).expect("finite");
        }
        stats
    }

    #[test]
    fn parts_aggregate_as_if_their_frames_were_one_set() {
        // {0, 2} and {4, 4, 4, 10}: mean 4, variance (16 + 4 + 36) / 6.
        let parts = [part(1.0, 1.0, 2.0, 0.1, 1.9), part(5.5, 6.75f64.sqrt(), 4.0, 4.0, 9.0)];
        let whole = Stats::aggregate(&parts).expect("same shapes");
        let get = |name| whole.get("action", name).expect("there").values[0];
        assert_relative_eq!(get("mean"), 4.0, max_relative = 1e-12);
        assert_relative_eq!(get("std"), (56.0f64 / 6.0).sqrt(), max_relative = 1e-12);
        assert_eq!((get("count"), get("min"), get("max")), (6.0, 0.0, 6.5));
        assert_eq!((get("q10"), get("q90")), (0.1, 9.0), "the envelope");
    }

    #[test]
    fn json_and_safetensors_give_back_what_was_written() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("stats.json");
        let mut stats = part(1.0, 0.5, 3.0, 0.25, 1.75);
        let image = Stat { shape: vec![3, 1, 1], values: vec![0.25, 0.5, 1.0] };
        stats.set("observation.image", "mean", image.clone()).expect("finite");
        stats.write(&path).expect("writes");
        let text = std::fs::read_to_string(&path).expect("reads");
        let json: Value = serde_json::from_str(&text).expect("parses");
        assert_eq!(json["observation.image"]["mean"], serde_json::json!([[[0.25]], [[0.5]], [[1.0]]]));
        assert_eq!(json["action"]["count"], serde_json::json!([3]));
        assert_eq!(Stats::read(&path).expect("reads").features, stats.features);
        let bytes = stats.to_safetensors().expect("saves");
        assert_eq!(Stats::from_safetensors(&bytes, "file").expect("loads").features, stats.features);
    }

    #[test]
    fn bad_statistics_are_named_with_file_feature_and_statistic() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("stats.json");
        let cases = [
            r#"{"action": {"std": [0.5, NaN]}}"#,
            r#"{"action": {"std": [-Infinity]}}"#,
            r#"{"action": {"std": [null]}}"#,
            r#"{"action": {"std": [[1, 2], [3]]}}"#,
            r#"{"action": {"std": []}}"#,
            r#"{"action": {"std": "NaN"}}"#,
            r#"{"action": {"mean": [false], "min": 1}}"#,
        ];
        for text in cases {
            std::fs::write(&path, text).expect("writes");
            let error = Stats::read(&path).and_then(|s| s.check("action", 1)).expect_err(text).to_string();
            for part in ["stats.json", "`action`", "`std`"] {
                assert!(error.contains(part) || error.contains("`max`"), "{text}: {error}");
            }
        }
    }
}
