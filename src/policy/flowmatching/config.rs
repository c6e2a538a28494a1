//! Sizes of a `flowmatching` policy in config.json.

use serde::Serialize;

use crate::Result;
use crate::fields::Fields;
use crate::nn::VitSizes;
use crate::policy::config::decimal;
use crate::policy::family::{check_heads, check_slots, wrong};
use crate::policy::{Config, FeatureType, Normalization, Unconditional};

/// Sizes of a `flowmatching` network; keys of config.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowMatchingConfig {
    /// Columns of the state's projection: a shorter state is padded with zeros.
    pub max_state_dim: usize,
    /// Dimensions of the network's actions: the robot's own, then padding.
    pub max_action_dim: usize,
    /// Height and width that every camera's pictures are resized to.
    pub image_size: [usize; 2],
    /// Cameras that may be missing; a missing one counts as zeros behind the encoder.
    pub empty_cameras: usize,
    /// torchvision's name of the encoder, or `vit` for other sizes.
    pub vision_backbone: String,
    /// Width of the encoder's tokens.
    pub vit_embed_dim: usize,
    /// Side of a square patch, pixels.
    pub vit_patch_size: usize,
    /// The encoder's layers.
    pub vit_layers: usize,
    /// Attention heads there.
    pub vit_heads: usize,
    /// Width of its feed-forward blocks.
    pub vit_mlp_dim: usize,
    /// Whether the encoder's weights stay as they are.
    pub freeze_vision: bool,
    /// What the encoder's learning rate is, as a share of the others'.
    #[serde(serialize_with = "as_decimal")]
    pub vision_lr_scale: f32,
    /// Width of everything behind the encoder; feed-forward blocks are four times as wide.
    pub hidden_dim: usize,
    /// Layers over action tokens.
    pub denoiser_layers: usize,
    /// Attention heads there.
    pub denoiser_heads: usize,
    /// Whether action slots have a learned embedding.
    pub action_pos_embed: bool,
}

fn as_decimal<S: serde::Serializer>(value: &f32, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_f64(decimal(*value))
}

/// torchvision's encoders: name, then width, patch, layers, heads and feed-forward width.
const BACKBONES: [(&str, [usize; 5]); 5] = [
    ("vit_b_16", [768, 16, 12, 12, 3072]),
    ("vit_b_32", [768, 32, 12, 12, 3072]),
    ("vit_l_16", [1024, 16, 24, 16, 4096]),
    ("vit_l_32", [1024, 32, 24, 16, 4096]),
    ("vit", [768, 16, 12, 12, 3072]),
];

impl FlowMatchingConfig {
    /// Takes the family's keys.
    ///
    /// # Errors
    /// Names the key that is of another type, or the encoder that is unknown.
    pub(in crate::policy) fn take(fields: &mut Fields) -> Result<Self> {
        let vision_backbone = fields.or("vision_backbone", "vit_b_16".to_owned())?;
        let Some((_, [width, patch, layers, heads, mlp])) =
            BACKBONES.into_iter().find(|(name, _)| *name == vision_backbone)
        else {
            let known: Vec<_> = BACKBONES.iter().map(|(name, _)| *name).collect();
            return wrong(format!(
                "unknown `vision_backbone` `{vision_backbone}`: known are {}",
                known.join(", ")
            ));
        };
        Ok(Self {
            max_state_dim: fields.or("max_state_dim", 32)?,
            max_action_dim: fields.or("max_action_dim", 32)?,
            image_size: fields.or("image_size", [224, 224])?,
            empty_cameras: fields.or("empty_cameras", 0)?,
            vit_embed_dim: fields.or("vit_embed_dim", width)?,
            vit_patch_size: fields.or("vit_patch_size", patch)?,
            vit_layers: fields.or("vit_layers", layers)?,
            vit_heads: fields.or("vit_heads", heads)?,
            vit_mlp_dim: fields.or("vit_mlp_dim", mlp)?,
            freeze_vision: fields.or("freeze_vision", false)?,
            vision_lr_scale: fields.or("vision_lr_scale", 1.0)?,
            hidden_dim: fields.or("hidden_dim", 1024)?,
            denoiser_layers: fields.or("denoiser_layers", 6)?,
            denoiser_heads: fields.or("denoiser_heads", 8)?,
            action_pos_embed: fields.or("action_pos_embed", false)?,
            vision_backbone,
        })
    }

    /// The encoder's.
    pub fn vit(&self) -> VitSizes {
        VitSizes {
            image: self.image_size,
            patch: self.vit_patch_size,
            width: self.vit_embed_dim,
            layers: self.vit_layers,
            heads: self.vit_heads,
            mlp: self.vit_mlp_dim,
        }
    }

    /// What the encoder's learning rate is multiplied by: 0 for one that is frozen.
    pub fn vision_rate(&self) -> f32 {
        if self.freeze_vision { 0.0 } else { self.vision_lr_scale }
    }

    /// Checks that the rest of a configuration fits.
    pub(in crate::policy) fn check(&self, config: &Config) -> Result<()> {
        if config.n_obs_steps != 1 {
            return wrong(format!("`n_obs_steps` is {}: a flowmatching policy sees 1", config.n_obs_steps));
        }
        for (key, feature) in &config.input_features {
            let fits = match feature.kind {
                FeatureType::Visual => matches!(feature.shape[..], [3, height, width] if height * width > 0),
                FeatureType::State | FeatureType::Env => matches!(feature.shape[..], [width] if width > 0),
                FeatureType::Action => false,
            };
            if !fits {
                return wrong(format!(
                    "`{key}` is {:?} of shape {:?}: a flowmatching policy takes VISUAL of shape [3, H, W], STATE and ENV \
                     of shape [D]",
                    feature.kind, feature.shape
                ));
            }
        }
        if config.input_features.is_empty() {
            return wrong("a flowmatching policy takes at least one input feature");
        }
        if config.normalization_of(FeatureType::Visual) != Normalization::Identity {
            return wrong("a flowmatching policy normalises pictures itself: VISUAL must be IDENTITY");
        }
        if config.unconditional == Unconditional::Learned {
            return wrong("`unconditional` cannot be learned by a flowmatching policy: use \"zeros\"");
        }
        for (what, dims, most) in [
            ("max_state_dim", config.state_dim(), self.max_state_dim),
            ("max_action_dim", config.action().1, self.max_action_dim),
        ] {
            if dims > most {
                return wrong(format!(
                    "`{what}` is {most}, the features have {dims} dimensions: use at least that"
                ));
            }
        }
        if self.empty_cameras > config.images().count() {
            return wrong(format!(
                "`empty_cameras` is {}, more than there are VISUAL features; name those that may be missing as well",
                self.empty_cameras
            ));
        }
        if config.state_dim() == 0 && self.empty_cameras == config.images().count() {
            return wrong(
                "`empty_cameras` lets every camera be missing, and there is no state: nothing would be seen",
            );
        }
        let patch = self.vit_patch_size;
        if patch == 0 || self.image_size.iter().any(|&side| side == 0 || side % patch != 0) {
            return wrong(format!(
                "`image_size` is {:?}: use multiples of `vit_patch_size`, which is {patch}",
                self.image_size
            ));
        }
        check_heads(("vit_embed_dim", self.vit_embed_dim), ("vit_heads", self.vit_heads))?;
        check_heads(("hidden_dim", self.hidden_dim), ("denoiser_heads", self.denoiser_heads))?;
        if self.vit_layers == 0 || self.vit_mlp_dim == 0 || self.denoiser_layers == 0 {
            return wrong("`vit_layers`, `vit_mlp_dim` and `denoiser_layers` must be at least 1");
        }
        if !(self.vision_lr_scale.is_finite() && self.vision_lr_scale >= 0.0) {
            return wrong(format!(
                "`vision_lr_scale` is {}: use a number that is not negative",
                self.vision_lr_scale
            ));
        }
        check_slots(config, self.action_pos_embed)
    }
}
