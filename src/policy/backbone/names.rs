//! What three libraries call the tensors of one vision transformer.

use crate::policy::Tensors;
use crate::{Error, Result};

/// One library's names. In a name, `*` stands for `weight` and `bias`, `#` for a layer's number, and `?` for `query`,
/// `key` and `value`, whose tensors are one tensor elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// Whose names they are, for a person.
    pub library: &'static str,
    /// `[1, 1, d]`
    pub class_token: &'static str,
    /// `[1, 1 + tokens, d]`
    pub positions: &'static str,
    /// `[d, 3, p, p]` and `[d]`
    pub patches: &'static str,
    /// The norm after the last layer: `[d]` and `[d]`.
    pub norm: &'static str,
    /// What the names of a layer's tensors begin with.
    pub layer: &'static str,
    /// Of a layer: norm, query-key-value product, product after attention, norm, first and second product.
    pub parts: [&'static str; 6],
    /// How the names of tensors begin that are no part of the encoder.
    pub ignored: &'static [&'static str],
}

/// Torchvision's, which are also ours.
pub const TORCHVISION: Names = Names {
    library: "torchvision",
    class_token: "class_token",
    positions: "encoder.pos_embedding",
    patches: "conv_proj.*",
    norm: "encoder.ln.*",
    layer: "encoder.layers.encoder_layer_#.",
    parts: [
        "ln_1.*",
        "self_attention.in_proj_*",
        "self_attention.out_proj.*",
        "ln_2.*",
        "mlp.0.*",
        "mlp.3.*",
    ],
    ignored: &["heads."],
};

/// Torchvision's before version 0.13.
const TORCHVISION_OLD: Names = Names {
    parts: [
        "ln_1.*",
        "self_attention.in_proj_*",
        "self_attention.out_proj.*",
        "ln_2.*",
        "mlp.linear_1.*",
        "mlp.linear_2.*",
    ],
    ..TORCHVISION
};

const TIMM: Names = Names {
    library: "timm",
    class_token: "cls_token",
    positions: "pos_embed",
    patches: "patch_embed.proj.*",
    norm: "norm.*",
    layer: "blocks.#.",
    parts: ["norm1.*", "attn.qkv.*", "attn.proj.*", "norm2.*", "mlp.fc1.*", "mlp.fc2.*"],
    ignored: &["head.", "fc_norm."],
};

const HUGGING_FACE: Names = Names {
    library: "Hugging Face ViTModel",
    class_token: "embeddings.cls_token",
    positions: "embeddings.position_embeddings",
    patches: "embeddings.patch_embeddings.projection.*",
    norm: "layernorm.*",
    layer: "encoder.layer.#.",
    parts: [
        "layernorm_before.*",
        "attention.attention.?.*",
        "attention.output.dense.*",
        "layernorm_after.*",
        "intermediate.dense.*",
        "output.dense.*",
    ],
    ignored: &["pooler.", "classifier.", "decoder.", "embeddings.mask_token"],
};

impl Names {
    /// The names that a file uses, and what stands in front of each of them (`vit.`, or nothing).
    ///
    /// # Errors
    /// If it uses none of them.
    pub fn find(file: &Tensors) -> Result<(Self, String)> {
        // The longest name first: no library's is the end of another's.
        for names in [HUGGING_FACE, TIMM, TORCHVISION] {
            let key = weight(names.patches);
            let prefix = file.iter().filter_map(|(name, _)| name.strip_suffix(key.as_str()));
            let Some(prefix) = prefix.into_iter().find(|p| p.is_empty() || p.ends_with('.')) else {
                continue;
            };
            let old = format!("{prefix}{}", weight(&TORCHVISION_OLD.of_layer(0, 4)));
            let names = if file.shape(&old).is_some() { TORCHVISION_OLD } else { names };
            return Ok((names, prefix.to_owned()));
        }
        let known = [TORCHVISION, TIMM, HUGGING_FACE]
            .map(|names| format!("`{}` ({})", weight(names.patches), names.library));
        Err(Error::input(format!(
            "{} holds no vision transformer under names that are known: none of {} is there",
            file.place(),
            known.join(", ")
        )))
    }

    /// The pattern of a part of layer `i`, an index into [`Self::parts`].
    pub fn of_layer(&self, i: usize, part: usize) -> String {
        format!("{}{}", self.layer.replace('#', &i.to_string()), self.parts[part])
    }

    /// The number of layers: one more than the highest number in a name.
    pub fn layers(&self, file: &Tensors, prefix: &str) -> usize {
        let begin = format!("{prefix}{}", self.layer.trim_end_matches("#."));
        let number = |name: &str| name.strip_prefix(&begin)?.split_once('.')?.0.parse::<usize>().ok();
        file.iter().filter_map(|(name, _)| number(name)).max().map_or(0, |last| last.saturating_add(1))
    }
}

/// The name of a pattern's weight.
pub fn weight(pattern: &str) -> String {
    pattern.replace('*', "weight")
}
