//! Normalisation, as LeRobot computes it (`processor/normalize_processor.py`).
//!
//! | mode | forward | inverse |
//! |---|---|---|
//! | IDENTITY | x | y |
//! | MEAN_STD | (x − mean) / (std + eps) | y · std + mean |
//! | MIN_MAX | 2 (x − min) / (max − min) − 1 | (y + 1) / 2 · (max − min) + min |
//! | QUANTILES | as MIN_MAX with q01 and q99 | |
//!
//! Where max equals min, eps stands for their difference. eps is 1e-8. All arithmetic is in f32, as there.

use super::{Config, Feature, FeatureType, Normalization, Stats};
use crate::{Error, Result};

/// LeRobot's guard against division by zero.
pub const EPS: f32 = 1e-8;

/// What a feature's values go through, per dimension.
#[derive(Debug, Clone, PartialEq)]
enum Scale {
    Identity,
    MeanStd { mean: Vec<f32>, std: Vec<f32> },
    Range { low: Vec<f32>, span: Vec<f32> },
}

/// One feature: its scale, and how its values are laid out.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: String,
    scale: Scale,
    /// Statistics: the values of a vector, the channels of an image.
    dims: usize,
    /// Values that share a statistic: 1, or an image's H·W.
    inner: usize,
}

/// Normalises what goes into a policy, and brings back what comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizer {
    inputs: Vec<Entry>,
    action: Entry,
    bounds: Option<(Vec<f32>, Vec<f32>)>,
}

impl Normalizer {
    /// Finds the statistics of every feature that needs some.
    ///
    /// # Errors
    /// If a statistic is missing, of another width, or not finite; if bounds make no sense.
    pub fn new(config: &Config, stats: &Stats) -> Result<Self> {
        let entry = |(key, feature): &(String, Feature)| Entry::new(key, feature, config, stats);
        let inputs = config.input_features.iter().map(entry).collect::<Result<_>>()?;
        let (key, width) = config.action();
        let bounds = stats.bounds(key, width)?.map(|(low, high)| (low.to_vec(), high.to_vec()));
        Ok(Self { inputs, action: entry(&config.output_features[0])?, bounds })
    }

    /// Normalises an input feature in place: \[.., D\], or \[.., C, H, W\] for an image.
    ///
    /// # Errors
    /// If the policy has no such input, or the values are no whole number of it.
    pub fn normalize_input(&self, key: &str, values: &mut [f32]) -> Result<()> {
        match self.inputs.iter().find(|entry| entry.key == key) {
            Some(entry) => entry.forward(values),
            None => Err(Error::input(format!("the policy has no input feature `{key}`"))),
        }
    }

    /// Normalises the state vectors in place: \[.., S\], concatenated in the configuration's order.
    ///
    /// # Errors
    /// If there is no whole number of them.
    pub fn normalize_states(&self, values: &mut [f32]) -> Result<()> {
        let states = || self.inputs.iter().filter(|entry| entry.inner == 1);
        let size: usize = states().map(|entry| entry.dims).sum();
        if !values.len().is_multiple_of(size.max(1)) {
            return Err(Error::input(format!(
                "the state has {} values, no multiple of {size}",
                values.len()
            )));
        }
        for row in values.chunks_mut(size.max(1)) {
            let mut rest = row;
            for entry in states() {
                let (state, after) = rest.split_at_mut(entry.dims);
                entry.forward(state)?;
                rest = after;
            }
        }
        Ok(())
    }

    /// Normalises actions in place: \[.., A\].
    ///
    /// # Errors
    /// If there is no whole number of actions.
    pub fn normalize_actions(&self, actions: &mut [f32]) -> Result<()> {
        self.action.forward(actions)
    }

    /// The inverse of [`Self::normalize_actions`]: \[.., A\] in place, not clamped.
    ///
    /// # Errors
    /// If there is no whole number of actions.
    pub fn unnormalize_actions(&self, actions: &mut [f32]) -> Result<()> {
        self.action.inverse(actions)
    }

    /// Clamps actions in the robot's units, \[.., A\], to the bounds saved with the feature, if there are any.
    pub fn clamp_actions(&self, actions: &mut [f32]) {
        let Some((low, high)) = &self.bounds else { return };
        for action in actions.chunks_mut(self.action.dims) {
            for ((value, &low), &high) in action.iter_mut().zip(low).zip(high) {
                *value = value.clamp(low, high);
            }
        }
    }

    /// Makes a network's output fit to leave the policy, \[.., A\]: unnormalised, checked, clamped.
    ///
    /// # Errors
    /// If a value is not finite; it names where. Nothing of these actions may be sent then.
    pub fn finish_actions(&self, actions: &mut [f32]) -> Result<()> {
        self.unnormalize_actions(actions)?;
        if let Some(i) = actions.iter().position(|value| !value.is_finite()) {
            let (step, dim) = (i / self.action.dims, i % self.action.dims);
            return Err(Error::failure(format!(
                "`{}` is {} at step {step}, dimension {dim}: it is not sent",
                self.action.key, actions[i]
            )));
        }
        self.clamp_actions(actions);
        Ok(())
    }

    /// The bounds (lower, upper) actions are clamped to, \[A\] each.
    pub fn bounds(&self) -> Option<(&[f32], &[f32])> {
        self.bounds.as_ref().map(|(low, high)| (low.as_slice(), high.as_slice()))
    }
}

impl Entry {
    fn new(key: &str, feature: &Feature, config: &Config, stats: &Stats) -> Result<Self> {
        let size: usize = feature.shape.iter().product();
        let dims = match (feature.kind, feature.shape.first()) {
            (FeatureType::Visual, Some(&channels)) => channels,
            _ => size,
        };
        if size == 0 {
            return Err(Error::input(format!(
                "config.json: `{key}` has shape {:?}, no value",
                feature.shape
            )));
        }
        let mode = config.normalization_of(feature.kind);
        if mode != Normalization::Identity && stats.is_empty() {
            return Err(Error::input(format!(
                "{}: no statistics, and `{key}` cannot be sampled without statistics: save the policy with \
                 those of its dataset (policy_preprocessor.json and its state file)",
                stats.place()
            )));
        }
        let scale = match mode.statistics() {
            None => Scale::Identity,
            Some([first, second]) => {
                let first = stats.required(key, first, dims)?;
                let second = stats.required(key, second, dims)?;
                match mode {
                    Normalization::MeanStd => Scale::MeanStd { mean: first.to_vec(), std: second.to_vec() },
                    _ => {
                        let span = |(low, high): (&f32, &f32)| if low == high { EPS } else { high - low };
                        let span = first.iter().zip(second).map(span).collect();
                        Scale::Range { low: first.to_vec(), span }
                    }
                }
            }
        };
        Ok(Self { key: key.to_owned(), scale, dims, inner: size / dims })
    }

    fn forward(&self, values: &mut [f32]) -> Result<()> {
        match &self.scale {
            Scale::Identity => self.each(values, |_, x| x),
            Scale::MeanStd { mean, std } => self.each(values, |i, x| (x - mean[i]) / (std[i] + EPS)),
            Scale::Range { low, span } => self.each(values, |i, x| 2.0 * (x - low[i]) / span[i] - 1.0),
        }
    }

    fn inverse(&self, values: &mut [f32]) -> Result<()> {
        match &self.scale {
            Scale::Identity => self.each(values, |_, y| y),
            Scale::MeanStd { mean, std } => self.each(values, |i, y| y * std[i] + mean[i]),
            Scale::Range { low, span } => self.each(values, |i, y| (y + 1.0) / 2.0 * span[i] + low[i]),
        }
    }

    /// Replaces every value by `f(its dimension, value)`.
    fn each(&self, values: &mut [f32], f: impl Fn(usize, f32) -> f32) -> Result<()> {
        if !values.len().is_multiple_of(self.dims * self.inner) {
            let (key, given, size) = (&self.key, values.len(), self.dims * self.inner);
            return Err(Error::input(format!("`{key}`: {given} values, no multiple of its {size}")));
        }
        for (block, shared) in values.chunks_mut(self.inner).enumerate() {
            shared.iter_mut().for_each(|value| *value = f(block % self.dims, *value));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    fn config(mode: Normalization) -> Config {
        let mut config = preset("pursuit").expect("known");
        config.normalization = vec![(FeatureType::Action, mode), (FeatureType::State, mode)];
        let state = Feature { kind: FeatureType::State, shape: vec![2] };
        config.input_features.push(("observation.state".to_owned(), state));
        config
    }

    fn stats() -> Stats {
        let json = r#"{"min": [-5, 3], "max": [5, 3], "mean": [1, 2], "std": [2, 0],
            "q01": [-4, 0], "q99": [4, 1]}"#;
        Stats::from_json(&format!(r#"{{"action": {json}, "observation.state": {json}}}"#), "s.json")
            .expect("parses")
    }

    #[test]
    fn every_mode_follows_its_formula_and_comes_back() {
        // The second dimension has no range and no spread: (x − low) / eps, as in LeRobot.
        for (mode, x, y) in [
            (Normalization::Identity, [2.5, 3.0], [2.5, 3.0]),
            (Normalization::MinMax, [2.5, 3.0], [0.5, -1.0]),
            (Normalization::MeanStd, [5.0, 2.0], [2.0, 0.0]),
            (Normalization::Quantiles, [-2.0, 0.75], [-0.5, 0.5]),
        ] {
            let normalizer = Normalizer::new(&config(mode), &stats()).expect("all there");
            let mut values = [x, x].concat();
            normalizer.normalize_actions(&mut values).expect("two actions");
            assert_eq!(values, [y, y].concat(), "{mode:?}");
            normalizer.unnormalize_actions(&mut values).expect("two actions");
            assert_eq!(values, [x, x].concat(), "{mode:?}");
            let mut state = x.to_vec();
            normalizer.normalize_input("observation.state", &mut state).expect("one state");
            assert_eq!(state, y, "{mode:?}");
        }
    }

    #[test]
    fn an_image_is_normalised_by_channel() {
        let mut config = config(Normalization::Identity);
        config.normalization.push((FeatureType::Visual, Normalization::MeanStd));
        config.input_features[0].1.shape = vec![3, 1, 2];
        let mut stats = stats();
        let key = "observation.image";
        stats.insert(key, "mean", &[3, 1, 1], vec![0.0, 0.5, 1.0]).expect("three");
        stats.insert(key, "std", &[3, 1, 1], vec![1.0, 0.5, 0.25]).expect("three");
        let mut image = [1.0; 12];
        let normalizer = Normalizer::new(&config, &stats).expect("all there");
        normalizer.normalize_input(key, &mut image).expect("two images");
        assert_eq!(image[..6], [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(image[6..], image[..6]);
    }

    #[test]
    fn actions_leave_finite_and_within_their_bounds() {
        let mut stats = stats();
        stats.set_bounds("action", &[-5.0, -5.0], &[5.0, 5.0]).expect("in order");
        let normalizer = Normalizer::new(&config(Normalization::MinMax), &stats).expect("all there");
        let mut actions = [2.0, 0.0, -0.5, 0.0];
        normalizer.finish_actions(&mut actions).expect("finite");
        assert_eq!(actions, [5.0, 3.0, -2.5, 3.0]);
        let error = normalizer.finish_actions(&mut [0.0, 0.0, f32::NAN, 0.0]).expect_err("NaN");
        assert_eq!(error.to_string(), "`action` is NaN at step 1, dimension 0: it is not sent");
    }

    #[test]
    fn statistics_are_demanded_where_a_mode_needs_them() {
        let empty = Stats::new("model/policy_preprocessor.json");
        assert!(Normalizer::new(&config(Normalization::Identity), &empty).is_ok());
        let error = Normalizer::new(&config(Normalization::MinMax), &empty).expect_err("none").to_string();
        assert!(error.contains("sampled without statistics"), "{error}");
        let mut nan = stats();
        nan.insert("action", "max", &[2], vec![1.0, f32::NAN]).expect("two");
        let error = Normalizer::new(&config(Normalization::MinMax), &nan).expect_err("NaN").to_string();
        assert!(error.starts_with("s.json: `action.max` is NaN at dimension 1"), "{error}");
        assert!(Normalizer::new(&config(Normalization::MeanStd), &nan).is_ok(), "MEAN_STD needs no maximum");
    }
}
