//! config.json: what a policy is, in LeRobot's words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

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
}

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

/// The network family and its sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// Seed 000's network.
    PatchDecoder(PatchDecoderConfig),
}

/// Sizes of a `patch_decoder`.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchDecoderConfig {
    /// Side of a square patch, pixels.
    pub patch_size: usize,
    /// Width of every token.
    pub d_model: usize,
    /// Layers over image tokens.
    pub encoder_layers: usize,
    /// Attention heads there.
    pub encoder_heads: usize,
    /// Layers over action tokens.
    pub decoder_layers: usize,
    /// Attention heads there.
    pub decoder_heads: usize,
    /// Width of the feed-forward blocks.
    pub dim_feedforward: usize,
    /// Whether action slots have a learned embedding.
    pub action_pos_embed: bool,
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
        let chunk_size = fields.or("chunk_size", 8)?;
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
            dropout: fields.or("dropout", 0.1)?,
            flow: fields.optional("flow")?.map_or(Ok(FlowConfig::default()), FlowConfig::from_json)?,
            family: match family.as_str() {
                "patch_decoder" => Family::PatchDecoder(PatchDecoderConfig {
                    patch_size: fields.or("patch_size", 16)?,
                    d_model: fields.or("d_model", 64)?,
                    encoder_layers: fields.or("encoder_layers", 2)?,
                    encoder_heads: fields.or("encoder_heads", 4)?,
                    decoder_layers: fields.or("decoder_layers", 2)?,
                    decoder_heads: fields.or("decoder_heads", 2)?,
                    dim_feedforward: fields.or("dim_feedforward", 256)?,
                    action_pos_embed: fields.or("action_pos_embed", false)?,
                }),
                other => {
                    return Err(Error::input(format!(
                        "config.json: unknown policy type `{other}`: known are patch_decoder"
                    )));
                }
            },
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
        let Family::PatchDecoder(sizes) = &self.family;
        let name = |kind: &FeatureType| json!(kind).as_str().unwrap_or_default().to_owned();
        let mut json = json!({
            "type": "patch_decoder",
            "n_obs_steps": self.n_obs_steps,
            "chunk_size": self.chunk_size,
            "n_action_steps": self.n_action_steps,
            "input_features": features(&self.input_features),
            "output_features": features(&self.output_features),
            "normalization_mapping":
                self.normalization.iter().map(|(kind, mode)| (name(kind), json!(mode))).collect::<Map<_, _>>(),
            "action_padding": self.action_padding,
            "patch_size": sizes.patch_size,
            "d_model": sizes.d_model,
            "encoder_layers": sizes.encoder_layers,
            "encoder_heads": sizes.encoder_heads,
            "decoder_layers": sizes.decoder_layers,
            "decoder_heads": sizes.decoder_heads,
            "dim_feedforward": sizes.dim_feedforward,
            // Through a decimal, so that 0.1 is saved as 0.1.
            "dropout": self.dropout.to_string().parse::<f64>().unwrap_or_default(),
            "action_pos_embed": sizes.action_pos_embed,
            "objective": self.objective,
            "loss_reduction": self.loss_reduction,
            "flow": self.flow.to_json(),
        });
        if let Value::Object(map) = &mut json {
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

    /// How a type of feature is normalised; left alone where nothing is said.
    pub fn normalization_of(&self, kind: FeatureType) -> Normalization {
        let entry = self.normalization.iter().find(|(known, _)| *known == kind);
        entry.map_or(Normalization::Identity, |(_, mode)| *mode)
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
        let Family::PatchDecoder(sizes) = &self.family;
        self.check_patch_decoder(sizes)
    }

    fn check_patch_decoder(&self, sizes: &PatchDecoderConfig) -> Result<()> {
        let wrong = |what: String| Err(Error::input(format!("config.json: {what}")));
        let images: Vec<_> = self.images().collect();
        let ([(key, image)], 1) = (images.as_slice(), self.input_features.len()) else {
            return wrong("a patch_decoder takes one input feature, of type VISUAL".to_owned());
        };
        let patch = sizes.patch_size;
        match image.shape.as_slice() {
            &[3, height, width] if patch > 0 && height >= patch && width >= patch => {
                if height % patch != 0 || width % patch != 0 {
                    return wrong(format!(
                        "`{key}` is {height}x{width}, no multiple of `patch_size` {patch}"
                    ));
                }
            }
            shape => {
                return wrong(format!(
                    "`{key}` has shape {shape:?}: use [3, H, W], at least a patch of {patch}"
                ));
            }
        }
        if self.normalization_of(FeatureType::Visual) != Normalization::Identity {
            return wrong("a patch_decoder reads images as they are: VISUAL must be IDENTITY".to_owned());
        }
        for (what, heads) in [("encoder_heads", sizes.encoder_heads), ("decoder_heads", sizes.decoder_heads)]
        {
            if heads == 0 || !sizes.d_model.is_multiple_of(heads) {
                return wrong(format!("`d_model` {} is no multiple of `{what}` {heads}", sizes.d_model));
            }
            let width = sizes.d_model / heads;
            if !(8..=128).contains(&width) || !width.is_multiple_of(4) {
                return wrong(format!(
                    "`{what}` {heads} gives heads of width {width}: use 8 to 128, a multiple of 4"
                ));
            }
        }
        if sizes.dim_feedforward == 0 || sizes.encoder_layers == 0 || sizes.decoder_layers == 0 {
            return wrong(
                "`dim_feedforward`, `encoder_layers` and `decoder_layers` must be at least 1".to_owned(),
            );
        }
        Ok(())
    }
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
        let config = preset("pursuit").expect("known");
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
    fn keys_of_lerobot_are_kept() {
        let mut json = preset("pursuit").expect("known").to_json();
        json["push_to_hub"] = json!(false);
        let config = Config::parse(&json.to_string()).expect("parses");
        assert_eq!(config.to_json()["push_to_hub"], json!(false));
    }
}
