//! What a task promises, in numbers and words: two results can be compared if their contracts agree.

use serde::{Deserialize, Serialize};

use super::{Feature, Spec};

/// What an environment's numbers leave unsaid, as sentences without a full stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contract {
    /// Changes whenever anything changes that a result depends on: dynamics, draws, pictures, success, reward.
    pub version: u32,
    /// What a reset draws, in the order of the draws.
    pub reset: &'static str,
    /// When the task is solved.
    pub success: &'static str,
    /// When an episode has failed.
    pub failure: &'static str,
    /// What ends an episode.
    pub termination: &'static str,
    /// The reward of a step, with its unit.
    pub reward: &'static str,
}

/// An environment's contract as it is printed, and saved with data sets, checkpoints and results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskContract {
    /// The name [`make`](super::make) knows it by.
    pub environment: String,
    /// See [`Contract::version`].
    pub version: u32,
    /// What to do, as a sentence.
    pub task: String,
    /// Steps, and decisions, per second.
    pub rate_hz: u32,
    /// When an evaluation stops an episode.
    pub horizon: Horizon,
    /// What a policy sees.
    pub observations: Vec<FeatureContract>,
    /// What a policy decides.
    pub action: FeatureContract,
    /// See [`Contract::reset`].
    pub reset: String,
    /// See [`Contract::success`].
    pub success: String,
    /// See [`Contract::failure`].
    pub failure: String,
    /// See [`Contract::termination`].
    pub termination: String,
    /// See [`Contract::reward`].
    pub reward: String,
}

/// The longest episode of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    /// In steps.
    pub steps: usize,
    /// The same in simulated seconds.
    pub seconds: f64,
}

/// A [`Feature`] in a contract, by the same rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureContract {
    /// LeRobot's key.
    pub key: String,
    /// `[3, height, width]` or `[dim]`.
    pub shape: Vec<usize>,
    /// Of a picture's axes or a vector's components.
    pub names: Vec<String>,
    /// Of a vector's components; of a picture one.
    pub units: Vec<String>,
    /// Least values, as many as there are units.
    pub low: Vec<f64>,
    /// Greatest values, as many as there are units.
    pub high: Vec<f64>,
}

impl Spec {
    /// The whole contract.
    pub fn contract(&self) -> TaskContract {
        let Contract { version, reset, success, failure, termination, reward } = self.contract;
        TaskContract {
            environment: self.name.into(),
            version,
            task: self.task.into(),
            rate_hz: self.fps,
            horizon: Horizon { steps: self.horizon, seconds: self.horizon as f64 / f64::from(self.fps) },
            observations: self.observations.iter().map(FeatureContract::of).collect(),
            action: FeatureContract::of(&self.action),
            reset: reset.into(),
            success: success.into(),
            failure: failure.into(),
            termination: termination.into(),
            reward: reward.into(),
        }
    }
}

impl FeatureContract {
    fn of(feature: &Feature) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self {
            key: feature.key.into(),
            shape: feature.shape.to_vec(),
            names: owned(feature.names),
            units: owned(feature.units),
            low: feature.low.to_vec(),
            high: feature.high.to_vec(),
        }
    }

    /// The names of the fields that differ.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        named([
            ("key", self.key != other.key),
            ("shape", self.shape != other.shape),
            ("names", self.names != other.names),
            ("units", self.units != other.units),
            ("low", self.low != other.low),
            ("high", self.high != other.high),
        ])
    }
}

impl TaskContract {
    /// The names of the fields that differ: `rate_hz`, `action.units`; of an observation its key and the field, as
    /// `observation.state.units`, or only its key where one side lacks it, and `observations` for another order.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let before = named([
            ("environment", self.environment != other.environment),
            ("version", self.version != other.version),
            ("task", self.task != other.task),
            ("rate_hz", self.rate_hz != other.rate_hz),
            ("horizon", self.horizon != other.horizon),
        ]);
        let after = named([
            ("reset", self.reset != other.reset),
            ("success", self.success != other.success),
            ("failure", self.failure != other.failure),
            ("termination", self.termination != other.termination),
            ("reward", self.reward != other.reward),
        ]);
        let action =
            self.action.differences(&other.action).into_iter().map(|field| format!("action.{field}"));
        let mut all: Vec<String> = before.into_iter().map(str::to_owned).collect();
        all.extend(self.observations_that_differ(other));
        all.extend(action);
        all.extend(after.into_iter().map(str::to_owned));
        all
    }

    fn observations_that_differ(&self, other: &Self) -> Vec<String> {
        let mut all = Vec::new();
        for mine in &self.observations {
            match other.observation(&mine.key) {
                None => all.push(mine.key.clone()),
                Some(theirs) => {
                    all.extend(mine.differences(theirs).iter().map(|field| format!("{}.{field}", mine.key)));
                }
            }
        }
        let new = other.observations.iter().filter(|theirs| self.observation(&theirs.key).is_none());
        all.extend(new.map(|theirs| theirs.key.clone()));
        if all.is_empty() && self.observations != other.observations {
            all.push("observations".into());
        }
        all
    }

    /// The observation of that key.
    pub fn observation(&self, key: &str) -> Option<&FeatureContract> {
        self.observations.iter().find(|feature| feature.key == key)
    }
}

/// The names of those that are so.
fn named<const N: usize>(fields: [(&'static str, bool); N]) -> Vec<&'static str> {
    fields.into_iter().filter_map(|(name, so)| so.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{KNOWN, make};
    use super::*;

    fn contract(name: &str) -> TaskContract {
        make(name).expect("known").spec().contract()
    }

    #[test]
    fn every_environment_says_all_of_its_contract() {
        for name in KNOWN {
            let contract = contract(name);
            assert_eq!(contract.environment, name);
            assert!(contract.version >= 1);
            let TaskContract { reset, success, failure, termination, reward, .. } = &contract;
            for text in [reset, success, failure, termination, reward] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{name}: {text}");
            }
            for feature in contract.observations.iter().chain([&contract.action]) {
                let values = if feature.shape.len() == 3 { 1 } else { feature.shape.iter().product() };
                assert_eq!(feature.names.len(), feature.shape.len().max(values), "{name}: {}", feature.key);
                let lengths = [feature.units.len(), feature.low.len(), feature.high.len()];
                assert_eq!(lengths, [values; 3], "{name}: {}", feature.key);
                assert!(feature.low.iter().zip(&feature.high).all(|(low, high)| low < high), "{name}");
            }
        }
    }

    #[test]
    fn a_contract_comes_back_from_json_and_an_unknown_field_is_refused() {
        for name in KNOWN {
            let contract = contract(name);
            let mut json = serde_json::to_value(&contract).expect("serialises");
            let back: TaskContract = serde_json::from_value(json.clone()).expect("reads");
            assert_eq!((&back, back.differences(&contract)), (&contract, vec![]));
            json["colour"] = "red".into();
            assert!(serde_json::from_value::<TaskContract>(json).is_err());
        }
    }

    #[test]
    fn what_differs_is_named_down_to_the_field() {
        let pendulum = contract("pendulum");
        let mut other = pendulum.clone();
        other.rate_hz = 10;
        other.action.units = vec!["mN m".into()];
        other.observations[0].high[2] = 9.0;
        let expected = ["rate_hz", "observation.state.high", "action.units"];
        assert_eq!(pendulum.differences(&other), expected);

        let (one, two) = (contract("pursuit"), contract("pursuit-cameras"));
        let views = ["observation.image", "observation.images.arena", "observation.images.effector"];
        let expected = [&["environment"], &views[..], &["observation.state"]].concat();
        assert_eq!(one.differences(&two), expected);

        let mut turned = two.clone();
        turned.observations.reverse();
        assert_eq!(two.differences(&turned), ["observations"]);
    }

    #[test]
    fn horizons_are_seconds_too() {
        assert_eq!(contract("pursuit").horizon, Horizon { steps: 100, seconds: 5.0 });
        assert_eq!(contract("command").horizon, Horizon { steps: 200, seconds: 4.0 });
    }
}
