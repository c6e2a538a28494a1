//! Network families: their sizes in config.json, and what each accepts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Config, FeatureType, FlowMatchingConfig, Normalization, Objective};
use crate::fields::Fields;
use crate::flow::FlowConfig;
use crate::kernels::activation::Activation;
use crate::kernels::time_embedding::TimeFeatures;
use crate::{Error, Result};

/// The network family and its sizes.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// Seed 000's network.
    PatchDecoder(PatchDecoderConfig),
    /// Seed 001's network.
    FlowMatching(FlowMatchingConfig),
    /// Seed 002's and seed 004's networks.
    VelocityMlp(VelocityMlpConfig),
}

/// What a family's policies are where config.json says nothing.
pub(super) struct Defaults {
    pub chunk_size: usize,
    pub dropout: f32,
    pub flow: FlowConfig,
}

/// Sizes of a `patch_decoder`.
#[derive(Debug, Clone, PartialEq)]
pub struct PatchDecoderConfig {
    /// Side of a square patch, pixels.
    pub patch_size: usize,
    /// Width of every token.
    pub d_model: usize,
    /// Layers over image tokens; with none, action tokens look at the patches themselves.
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
    /// What its image tokens start from.
    pub initial_values: InitialValues,
}

/// What a `patch_decoder`'s positions and patch product start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialValues {
    /// Sines and cosines of row and column, a patch's mean colours, and white as zero.
    Grid,
    /// PyTorch's: positions of N(0, 0.02), a convolution's own values.
    Pytorch,
}

impl InitialValues {
    /// Where config.json says nothing.
    fn default_for(action_pos_embed: bool) -> Self {
        if action_pos_embed { Self::Grid } else { Self::Pytorch }
    }
}

/// How a `velocity_mlp` is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Seed 002's: layers over [x_t, time features, state].
    Concat,
    /// Seed 004's: the sum of three embeddings, then residual blocks.
    Residual,
}

/// Sizes of a `velocity_mlp`.
#[derive(Debug, Clone, PartialEq)]
pub struct VelocityMlpConfig {
    /// How it is laid out.
    pub layout: Layout,
    /// Width of every hidden layer.
    pub hidden_dim: usize,
    /// Linear layers (`concat`) or residual blocks (`residual`).
    pub num_layers: usize,
    /// Between layers.
    pub activation: Activation,
    /// Frequencies of the time features.
    pub time_features: TimeFeatures,
    /// Time features; those of `residual` are as wide as the hidden layers.
    pub time_dim: usize,
}

/// What is wrong with config.json.
pub(super) fn wrong<T>(what: impl AsRef<str>) -> Result<T> {
    Err(Error::input(format!("config.json: {}", what.as_ref())))
}

/// Checks that tokens of a width can be shared out to attention heads: keys and values of both.
pub(super) fn check_heads((tokens, width): (&str, usize), (what, heads): (&str, usize)) -> Result<()> {
    if heads == 0 || !width.is_multiple_of(heads) {
        return wrong(format!("`{tokens}` {width} is no multiple of `{what}` {heads}"));
    }
    let width = width / heads;
    if !(8..=128).contains(&width) || !width.is_multiple_of(4) {
        return wrong(format!(
            "`{what}` {heads} gives heads of width {width}: use 8 to 128, a multiple of 4"
        ));
    }
    Ok(())
}

/// Checks that the slots of a chunk can differ where noise does not tell them apart.
pub(super) fn check_slots(config: &Config, action_pos_embed: bool) -> Result<()> {
    if config.objective != Objective::Flow && !action_pos_embed && config.chunk_size > 1 {
        return wrong(
            "without `action_pos_embed` every slot of a chunk starts alike and answers alike: set it to true, or keep \
             the objective flow",
        );
    }
    Ok(())
}

impl Family {
    /// Names that `type` may have.
    pub const NAMES: [&str; 3] = ["patch_decoder", "flowmatching", "velocity_mlp"];

    /// `type` in config.json.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PatchDecoder(_) => Self::NAMES[0],
            Self::FlowMatching(_) => Self::NAMES[1],
            Self::VelocityMlp(_) => Self::NAMES[2],
        }
    }

    /// Takes the keys of the family of that name.
    ///
    /// # Errors
    /// Names the key that is missing or of no use.
    pub(super) fn take(name: &str, fields: &mut Fields) -> Result<Self> {
        match name {
            "patch_decoder" => Ok(Self::PatchDecoder(PatchDecoderConfig::take(fields)?)),
            "flowmatching" => Ok(Self::FlowMatching(FlowMatchingConfig::take(fields)?)),
            "velocity_mlp" => Ok(Self::VelocityMlp(VelocityMlpConfig::take(fields)?)),
            other => wrong(format!("unknown policy type `{other}`: known are {}", Self::NAMES.join(", "))),
        }
    }

    /// What holds for the family of that name where config.json says nothing.
    pub(super) fn defaults(name: &str) -> Defaults {
        let plain = Defaults { chunk_size: 8, dropout: 0.1, flow: FlowConfig::default() };
        match name {
            "flowmatching" => Defaults { chunk_size: 50, flow: FlowConfig::pi0(), ..plain },
            "velocity_mlp" => Defaults { dropout: 0.0, ..plain },
            _ => plain,
        }
    }

    /// The family's keys as they are saved.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let json = match self {
            Self::PatchDecoder(sizes) => sizes.to_json(),
            Self::FlowMatching(sizes) => json!(sizes),
            Self::VelocityMlp(sizes) => json!({
                "layout": sizes.layout,
                "hidden_dim": sizes.hidden_dim,
                "num_layers": sizes.num_layers,
                "activation": activation_name(sizes.activation),
                "time_features": sizes.time_features_json(),
            }),
        };
        match json {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// Checks that the rest of a configuration fits the family.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        match self {
            Self::PatchDecoder(sizes) => sizes.check(config),
            Self::FlowMatching(sizes) => sizes.check(config),
            Self::VelocityMlp(sizes) => sizes.check(config),
        }
    }

    /// Height and width that the network sees of every camera, where it is not the camera's own.
    pub(super) fn image_size(&self) -> Option<[usize; 2]> {
        match self {
            Self::FlowMatching(sizes) => Some(sizes.image_size),
            Self::PatchDecoder(_) | Self::VelocityMlp(_) => None,
        }
    }

    /// Cameras that may be missing.
    pub(super) fn empty_cameras(&self) -> usize {
        match self {
            Self::FlowMatching(sizes) => sizes.empty_cameras,
            Self::PatchDecoder(_) | Self::VelocityMlp(_) => 0,
        }
    }

    /// Dimensions of the network's actions, where they are not the robot's own.
    pub(super) fn action_dim(&self) -> Option<usize> {
        match self {
            Self::FlowMatching(sizes) => Some(sizes.max_action_dim),
            Self::PatchDecoder(_) | Self::VelocityMlp(_) => None,
        }
    }
}

impl PatchDecoderConfig {
    fn take(fields: &mut Fields) -> Result<Self> {
        let action_pos_embed = fields.or("action_pos_embed", false)?;
        Ok(Self {
            patch_size: fields.or("patch_size", 16)?,
            d_model: fields.or("d_model", 64)?,
            encoder_layers: fields.or("encoder_layers", 2)?,
            encoder_heads: fields.or("encoder_heads", 4)?,
            decoder_layers: fields.or("decoder_layers", 2)?,
            decoder_heads: fields.or("decoder_heads", 2)?,
            dim_feedforward: fields.or("dim_feedforward", 256)?,
            action_pos_embed,
            initial_values: fields.or("initial_values", InitialValues::default_for(action_pos_embed))?,
        })
    }

    /// What its image tokens start from is written where it is not the default.
    fn to_json(&self) -> Value {
        let mut json = json!({
            "patch_size": self.patch_size,
            "d_model": self.d_model,
            "encoder_layers": self.encoder_layers,
            "encoder_heads": self.encoder_heads,
            "decoder_layers": self.decoder_layers,
            "decoder_heads": self.decoder_heads,
            "dim_feedforward": self.dim_feedforward,
            "action_pos_embed": self.action_pos_embed,
        });
        if self.initial_values != InitialValues::default_for(self.action_pos_embed) {
            json["initial_values"] = json!(self.initial_values);
        }
        json
    }

    fn check(&self, config: &Config) -> Result<()> {
        let images: Vec<_> = config.images().collect();
        let ([(key, image)], 1) = (images.as_slice(), config.input_features.len()) else {
            return wrong("a patch_decoder takes one input feature, of type VISUAL");
        };
        let patch = self.patch_size;
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
        if config.normalization_of(FeatureType::Visual) != Normalization::Identity {
            return wrong("a patch_decoder reads images as they are: VISUAL must be IDENTITY");
        }
        check_heads(("d_model", self.d_model), ("decoder_heads", self.decoder_heads))?;
        if self.encoder_layers > 0 {
            check_heads(("d_model", self.d_model), ("encoder_heads", self.encoder_heads))?;
        }
        check_slots(config, self.action_pos_embed)?;
        if self.dim_feedforward == 0 || self.decoder_layers == 0 {
            return wrong("`dim_feedforward` and `decoder_layers` must be at least 1");
        }
        Ok(())
    }
}

impl VelocityMlpConfig {
    fn take(fields: &mut Fields) -> Result<Self> {
        let layout = fields.or("layout", Layout::Concat)?;
        let hidden_dim = fields.or("hidden_dim", 256)?;
        let num_layers = fields.or("num_layers", if layout == Layout::Concat { 3 } else { 4 })?;
        let activation = fields.or("activation", "silu".to_owned())?;
        let (time_features, time_dim) = match fields.optional::<Value>("time_features")? {
            Some(value) => time_features(value, hidden_dim)?,
            None if layout == Layout::Concat => (TimeFeatures::Powers, 16),
            None => (TimeFeatures::Sinusoid { max_period: MAX_PERIOD }, hidden_dim),
        };
        let activation = activation_named(&activation)?;
        Ok(Self { layout, hidden_dim, num_layers, activation, time_features, time_dim })
    }

    /// A width that follows from the hidden layers' is not written: it goes on following them.
    fn time_features_json(&self) -> Value {
        let dim = self.time_dim;
        match self.time_features {
            TimeFeatures::Harmonics => json!({"kind": "harmonics", "dim": dim}),
            TimeFeatures::Sinusoid { max_period } if dim == self.hidden_dim => {
                json!({"kind": "sinusoid", "max_period": max_period})
            }
            TimeFeatures::Sinusoid { max_period } => {
                json!({"kind": "sinusoid", "dim": dim, "max_period": max_period})
            }
            _ => json!({"kind": "pow2", "dim": dim}),
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let vector = |kind| matches!(kind, FeatureType::State | FeatureType::Env);
        for (key, feature) in &config.input_features {
            if !vector(feature.kind) || feature.shape.len() != 1 || feature.shape[0] == 0 {
                return wrong(format!(
                    "`{key}` is {:?} of shape {:?}: a velocity_mlp takes vectors, STATE or ENV of shape [D]",
                    feature.kind, feature.shape
                ));
            }
        }
        if config.input_features.is_empty() {
            return wrong("a velocity_mlp takes at least one input feature, of type STATE or ENV");
        }
        if self.hidden_dim == 0 || self.num_layers == 0 {
            return wrong("`hidden_dim` and `num_layers` must be at least 1");
        }
        let dim = self.time_dim;
        if dim == 0 || !dim.is_multiple_of(2) {
            return wrong(format!(
                "time features of width {dim}: each frequency has a sine and a cosine, use an even width"
            ));
        }
        if self.time_features == TimeFeatures::Powers && dim > 64 {
            return wrong(format!(
                "`pow2` time features of width {dim}: frequencies reach 2^31 at 64, use less"
            ));
        }
        if self.layout == Layout::Residual && dim != self.hidden_dim {
            return wrong(format!(
                "a residual layout adds its time features: their width {dim} must be `hidden_dim` {}",
                self.hidden_dim
            ));
        }
        Ok(())
    }
}

/// The Transformer's.
const MAX_PERIOD: f64 = 10_000.0;

/// Activations by their names in config.json.
const ACTIVATIONS: [(&str, Activation); 4] = [
    ("silu", Activation::Silu),
    ("relu", Activation::Relu),
    ("gelu", Activation::Gelu),
    ("gelu_tanh", Activation::GeluTanh),
];

fn activation_named(name: &str) -> Result<Activation> {
    match ACTIVATIONS.iter().find(|(known, _)| *known == name) {
        Some((_, activation)) => Ok(*activation),
        None => wrong(format!("unknown activation `{name}`: known are silu, relu, gelu, gelu_tanh")),
    }
}

fn activation_name(activation: Activation) -> &'static str {
    ACTIVATIONS.iter().find(|(_, known)| *known == activation).map_or("none", |(name, _)| name)
}

fn time_features(value: Value, hidden_dim: usize) -> Result<(TimeFeatures, usize)> {
    let mut fields = Fields::of(value, "config.json: `time_features`")?;
    let kind: String = fields.required("kind")?;
    let (features, dim) = match kind.as_str() {
        "pow2" => (TimeFeatures::Powers, 16),
        "harmonics" => (TimeFeatures::Harmonics, 16),
        "sinusoid" => {
            let max_period: f64 = fields.or("max_period", MAX_PERIOD)?;
            if !(max_period.is_finite() && max_period > 1.0) {
                return wrong(format!("`time_features.max_period` is {max_period}: use a number above 1"));
            }
            (TimeFeatures::Sinusoid { max_period }, hidden_dim)
        }
        other => {
            return wrong(format!(
                "unknown `time_features.kind` `{other}`: known are pow2, harmonics, sinusoid"
            ));
        }
    };
    let dim = fields.or("dim", dim)?;
    fields.finish(&[])?;
    Ok((features, dim))
}
