//! config.json: what a policy is, in LeRobot's words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Family, Unconditional};
use crate::fields::Fields;
use crate::flow::FlowConfig;
use crate::{Error, Result};

/// Keys that every LeRobot policy may carry and that flowgpu keeps without using them.
const LEROBOT_KEYS: &[&str] = &[
    "device",
    "use_amp",
    "use_peft",
    "push_to_hub",
    "repo_id",
    "private",
    "tags",
    "license",
    "pretrained_path",
    "pretrained_revision",
];

/// What a feature is to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FeatureType {
    /// A camera image, [C, H, W].
    Visual,
    /// The robot's own state.
    State,
    /// The environment's state.
    Env,
    /// An action.
    Action,
}

/// A feature: its type and its shape for one time step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// What it is to the policy.
    #[serde(rename = "type")]
    pub kind: FeatureType,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// How a feature is normalised, as LeRobot computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// Left alone.
    Identity,
    /// Minimum and maximum to −1 and 1.
    MinMax,
    /// Mean 0, standard deviation 1.
    MeanStd,
    /// First and 99th percentile to −1 and 1.
    Quantiles,
}

impl Normalization {
    /// The two statistics that it scales by; none where values are left alone.
    pub fn statistics(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Identity => None,
            Self::MinMax => Some(["min", "max"]),
            Self::MeanStd => Some(["mean", "std"]),
            Self::Quantiles => Some(["q01", "q99"]),
        }
    }
}

/// What follows an episode's last action in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionPadding {
    /// The last action again.
    Hold,
    /// Zeros.
    Zero,
}

/// What the network is taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The flow's velocity.
    Flow,
    /// The action itself, from x = 0 at the noise's end of time.
    Regression,
    /// The action in two passes: from x = 0, then from the answer with a little noise (MIP, arXiv 2512.01809).
    Mip,
}

impl Objective {
    /// Passes through the network that a chunk takes, where the solver makes `evaluations` of a flow.
    pub fn passes(self, evaluations: usize) -> usize {
        match self {
            Self::Flow => evaluations,
            Self::Regression => 1,
            Self::Mip => 2,
        }
    }

    /// The flow times of these passes.
    pub fn times(self, flow: &FlowConfig, steps: usize) -> Vec<f64> {
        match self {
            Self::Flow => flow.evaluation_times(steps),
            Self::Regression => vec![flow.noise_time()],
            Self::Mip => vec![flow.noise_time(), (flow.noise_time() - MIP_TIME).abs()],
        }
    }
}

/// Where MIP's second pass stands on the way from noise (0) to action (1).
pub const MIP_TIME: f64 = 0.9;

/// What the loss is a mean over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossReduction {
    /// The steps that are not padding.
    Valid,
    /// Everything, with padded steps counted as zero.
    Zeroed,
    /// Everything.
    All,
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Observations a policy sees: the current one and those before it.
    pub n_obs_steps: usize,
    /// Actions in a chunk.
    pub chunk_size: usize,
    /// Actions of a chunk that are executed before the next is made.
    pub n_action_steps: usize,
    /// What goes in, in the order of the file.
    pub input_features: Vec<(String, Feature)>,
    /// What comes out.
    pub output_features: Vec<(String, Feature)>,
    /// How each type of feature is normalised.
    pub normalization: Vec<(FeatureType, Normalization)>,
    /// What follows an episode's last action.
    pub action_padding: ActionPadding,
    /// What the network is taught.
    pub objective: Objective,
    /// What the loss is a mean over.
    pub loss_reduction: LossReduction,
    /// Probability that an activation is dropped while training.
    pub dropout: f32,
    /// Share of the training samples that see [`Self::unconditional`] instead of their observation: what makes guidance
    /// at sampling time mean something.
    pub observation_dropout: f32,
    /// What stands for no observation.
    pub unconditional: Unconditional,
    /// Actions at a training chunk's start that may be given, at most: each sample draws how many, from none to this.
    /// What a policy needs for [`super::Chunking::Prefix`]; 0 trains plainly.
    pub rtc_training_max_delay: usize,
    /// The flow's conventions.
    pub flow: FlowConfig,
    /// The network.
    pub family: Family,
    /// LeRobot's other keys, kept as they were.
    pub kept: Map<String, Value>,
}

impl Config {
    /// Reads config.json's text.
    ///
    /// # Errors
    /// Names the key that is missing, unknown, of another type, or of no use.
    pub fn parse(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| Error::input(format!("config.json is not JSON: {e}")))?;
        let mut fields = Fields::of(value, "config.json")?;
        let family: String = fields.required("type")?;
        let defaults = Family::defaults(&family);
        let chunk_size = fields.or("chunk_size", defaults.chunk_size)?;
        let mut config = Self {
            n_obs_steps: fields.or("n_obs_steps", 1)?,
            chunk_size,
            n_action_steps: fields.or("n_action_steps", chunk_size)?,
            input_features: features(&mut fields, "input_features")?,
            output_features: features(&mut fields, "output_features")?,
            normalization: normalization(&mut fields)?,
            action_padding: fields.or("action_padding", ActionPadding::Hold)?,
            objective: fields.or("objective", Objective::Flow)?,
            loss_reduction: fields.or("loss_reduction", LossReduction::Valid)?,
            dropout: fields.or("dropout", defaults.dropout)?,
            observation_dropout: fields.or("observation_dropout", 0.0)?,
            unconditional: fields
                .optional("unconditional")?
                .map_or(Ok(Unconditional::Zeros), Unconditional::from_json)?,
            rtc_training_max_delay: fields.or("rtc_training_max_delay", 0)?,
            flow: (fields.optional("flow")?)
                .map_or(Ok(defaults.flow), |value| FlowConfig::from_json(value, &defaults.flow))?,
            family: Family::take(&family, &mut fields)?,
            kept: Map::new(),
        };
        config.kept = fields.finish(LEROBOT_KEYS)?;
        config.check()?;
        Ok(config)
    }

    /// config.json's text.
    pub fn to_json(&self) -> Value {
        let features = |list: &[(String, Feature)]| {
            list.iter().map(|(key, feature)| (key.clone(), json!(feature))).collect::<Map<_, _>>()
        };
        let name = |kind: &FeatureType| json!(kind).as_str().unwrap_or_default().to_owned();
        let mut json = json!({
            "type": self.family.name(),
            "n_obs_steps": self.n_obs_steps,
            "chunk_size": self.chunk_size,
            "n_action_steps": self.n_action_steps,
            "input_features": features(&self.input_features),
            "output_features": features(&self.output_features),
            "normalization_mapping":
                self.normalization.iter().map(|(kind, mode)| (name(kind), json!(mode))).collect::<Map<_, _>>(),
            "action_padding": self.action_padding,
            "dropout": decimal(self.dropout),
            "objective": self.objective,
            "loss_reduction": self.loss_reduction,
            "flow": self.flow.to_json(),
        });
        if self.observation_dropout > 0.0 || self.unconditional != Unconditional::Zeros {
            json["observation_dropout"] = json!(decimal(self.observation_dropout));
            json["unconditional"] = self.unconditional.to_json();
        }
        if self.rtc_training_max_delay > 0 {
            json["rtc_training_max_delay"] = json!(self.rtc_training_max_delay);
        }
        if let Value::Object(map) = &mut json {
            map.extend(self.family.to_json());
            map.extend(self.kept.clone());
        }
        json
    }

    /// The action feature: its key and its width.
    pub fn action(&self) -> (&str, usize) {
        let (key, feature) = &self.output_features[0];
        (key, feature.shape[0])
    }

    /// The camera images, in order.
    pub fn images(&self) -> impl Iterator<Item = (&str, &Feature)> {
        let visual = self.input_features.iter().filter(|(_, feature)| feature.kind == FeatureType::Visual);
        visual.map(|(key, feature)| (key.as_str(), feature))
    }

    /// The state vectors, in order: what they are concatenated in.
    pub fn states(&self) -> impl Iterator<Item = (&str, &Feature)> {
        let vector = |kind| matches!(kind, FeatureType::State | FeatureType::Env);
        let states = self.input_features.iter().filter(move |(_, feature)| vector(feature.kind));
        states.map(|(key, feature)| (key.as_str(), feature))
    }

    /// S: values of all state vectors at one time step.
    pub fn state_dim(&self) -> usize {
        self.states().map(|(_, feature)| feature.shape.iter().product::<usize>()).sum()
    }

    /// Height and width at which the network sees a camera; pictures of another size are resized.
    pub fn seen_size(&self, image: &Feature) -> [usize; 2] {
        self.family.image_size().unwrap_or([image.shape[1], image.shape[2]])
    }

    /// Values of a camera's picture as the network sees it: 3 · H · W.
    pub fn seen_len(&self, image: &Feature) -> usize {
        image.shape[0] * self.seen_size(image).iter().product::<usize>()
    }

    /// Cameras that may be missing: what they would say is zeros.
    pub fn empty_cameras(&self) -> usize {
        self.family.empty_cameras()
    }

    /// Whether each camera is to be read where only some are `shown`: all but as many missing ones as the policy can do
    /// without.
    pub fn cameras_to_read(&self, shown: impl Fn(&str) -> bool) -> Vec<bool> {
        let mut spare = self.empty_cameras();
        let mut read = |key: &str| {
            let left_out = !shown(key) && spare > 0;
            spare -= usize::from(left_out);
            !left_out
        };
        self.images().map(|(key, _)| read(key)).collect()
    }

    /// Values of one chunk's noise: H · N.
    pub fn noise_len(&self) -> usize {
        self.chunk_size * self.network_action_dim()
    }

    /// N: numbers of an action as the network has it, padding included.
    pub fn network_action_dim(&self) -> usize {
        self.family.action_dim().unwrap_or(self.action().1)
    }

    /// How a type of feature is normalised; left alone where nothing is said.
    pub fn normalization_of(&self, kind: FeatureType) -> Normalization {
        let entry = self.normalization.iter().find(|(known, _)| *known == kind);
        entry.map_or(Normalization::Identity, |(_, mode)| *mode)
    }

    /// Checks that a chunk can be trained with its first actions given.
    fn check_prefix(&self) -> Result<()> {
        let delay = self.rtc_training_max_delay;
        let why = match &self.family {
            _ if delay == 0 => return Ok(()),
            _ if self.objective != Objective::Flow => {
                "only the objective flow has a time at which an action is clean".to_owned()
            }
            Family::VelocityMlp(_) => {
                "a velocity_mlp has one flow time for a whole chunk, not one for each action: remove the key, or \
                 use a patch_decoder or a flowmatching policy"
                    .to_owned()
            }
            _ if delay >= self.chunk_size => {
                format!("use less than `chunk_size`, which is {}", self.chunk_size)
            }
            _ => return Ok(()),
        };
        Err(Error::input(format!("config.json: `rtc_training_max_delay` is {delay}: {why}")))
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::input(format!("config.json: {what}")));
        let positive = |key: &str, value: usize| match value {
            0 => wrong(format!("`{key}` is 0: use at least 1")),
            _ => Ok(()),
        };
        positive("n_obs_steps", self.n_obs_steps)?;
        positive("chunk_size", self.chunk_size)?;
        positive("n_action_steps", self.n_action_steps)?;
        if self.n_action_steps > self.chunk_size {
            return wrong(format!(
                "`n_action_steps` is {}, more than `chunk_size`, which is {}",
                self.n_action_steps, self.chunk_size
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong(format!(
                "`dropout` is {}: use a value from 0 up to, not including, 1",
                self.dropout
            ));
        }
        let [(_, Feature { kind: FeatureType::Action, shape })] = self.output_features.as_slice() else {
            return wrong("`output_features` must hold one feature of type ACTION".to_owned());
        };
        if shape.len() != 1 || shape[0] == 0 {
            return wrong(format!("the action's shape is {shape:?}: use [A], A at least 1"));
        }
        let share = self.observation_dropout;
        if !(0.0..1.0).contains(&share) {
            return wrong(format!(
                "`observation_dropout` is {share}: use a share from 0 up to, not including, 1"
            ));
        }
        self.check_prefix()?;
        self.unconditional.check(self)?;
        self.family.check(self)
    }
}

/// Through a decimal, so that 0.1 is saved as 0.1.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_default()
}

fn features(fields: &mut Fields, key: &str) -> Result<Vec<(String, Feature)>> {
    let map: Map<String, Value> = fields.required(key)?;
    let feature = |(name, value): (String, Value)| match serde_json::from_value(value) {
        Ok(feature) => Ok((name, feature)),
        Err(e) => Err(Error::input(format!("config.json: `{key}`: `{name}`: {e}"))),
    };
    map.into_iter().map(feature).collect()
}

fn normalization(fields: &mut Fields) -> Result<Vec<(FeatureType, Normalization)>> {
    let map: Map<String, Value> = fields.or("normalization_mapping", Map::new())?;
    let entry = |(kind, mode): (String, Value)| {
        let wrong = |e| Error::input(format!("config.json: `normalization_mapping`: `{kind}`: {e}"));
        let kind = serde_json::from_value(json!(kind)).map_err(wrong)?;
        let mode = serde_json::from_value(mode)
            .map_err(|e| Error::input(format!("config.json: `normalization_mapping`: {e}")))?;
        Ok((kind, mode))
    };
    map.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::presets::preset;

    #[test]
    fn a_configuration_survives_saving() {
        let mut config = preset("pursuit").expect("known");
        assert_eq!(Config::parse(&config.to_json().to_string()).expect("parses"), config);
        config.rtc_training_max_delay = 4;
        assert_eq!(Config::parse(&config.to_json().to_string()).expect("parses"), config);
    }

    #[test]
    fn errors_name_the_key() {
        let good = preset("pursuit").expect("known").to_json();
        for (key, value, expected) in [
            ("patch_sise", json!(16), "unknown key `patch_sise`"),
            ("chunk_size", json!("eight"), "`chunk_size` is \"eight\""),
            ("chunk_size", json!(0), "`chunk_size` is 0"),
            ("n_action_steps", json!(9), "`n_action_steps` is 9"),
            ("type", json!("transformer"), "unknown policy type `transformer`"),
            ("dropout", json!(1.0), "`dropout` is 1"),
            ("patch_size", json!(15), "no multiple of `patch_size` 15"),
            ("decoder_heads", json!(3), "no multiple of `decoder_heads` 3"),
            ("rtc_training_max_delay", json!(8), "less than `chunk_size`, which is 8"),
            ("rtc_training_max_delay", json!(-1), "`rtc_training_max_delay` is -1"),
            ("initial_values", json!("zeros"), "`initial_values` is \"zeros\""),
            ("flow", json!({"solver": "leapfrog"}), "unknown solver `leapfrog`"),
            ("flow", json!({"noise": 1}), "unknown key `noise`"),
        ] {
            let mut json = good.clone();
            json[key] = value;
            let error = Config::parse(&json.to_string()).expect_err(key);
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn given_prefixes_are_refused_where_they_mean_nothing() {
        let refused = |name: &str, objective: &str| {
            let mut json = preset(name).expect("known").to_json();
            (json["rtc_training_max_delay"], json["objective"]) = (json!(2), json!(objective));
            json["chunk_size"] = json!(8);
            Config::parse(&json.to_string()).expect_err("refused").to_string()
        };
        assert!(refused("pendulum", "flow").contains("one flow time for a whole chunk"));
        assert!(refused("pursuit", "mip").contains("only the objective flow"));
    }

    #[test]
    fn first_values_follow_slot_embedding_unless_named() {
        let with = |keys: &[(&str, Value)]| {
            let mut json = preset("pursuit").expect("known").to_json();
            keys.iter().for_each(|(key, value)| json[*key] = value.clone());
            Config::parse(&json.to_string()).expect("valid").to_json()
        };
        let off = ("action_pos_embed", json!(false));
        assert_eq!(with(&[]).get("initial_values"), None);
        assert_eq!(with(std::slice::from_ref(&off)).get("initial_values"), None);
        assert_eq!(with(&[off.clone(), ("initial_values", json!("pytorch"))]).get("initial_values"), None);
        assert_eq!(with(&[off, ("initial_values", json!("grid"))])["initial_values"], json!("grid"));
        assert_eq!(with(&[("initial_values", json!("pytorch"))])["initial_values"], json!("pytorch"));
    }

    #[test]
    fn keys_of_lerobot_are_kept() {
        let mut json = preset("pursuit").expect("known").to_json();
        json["push_to_hub"] = json!(false);
        let config = Config::parse(&json.to_string()).expect("parses");
        assert_eq!(config.to_json()["push_to_hub"], json!(false));
    }
}
