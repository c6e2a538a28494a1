//! The golden's weights in a network of Burn's modules.

use burn::store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::golden::{Golden, Tensor};
use crate::network::PatchDecoder;
use crate::protocol::Result;

/// What the modules are called in PyTorch and in Burn, in the order of replacement.
const NAMES: [(&str, &str); 9] = [
    ("patch_embed.0", "patch_embed"),
    ("transformer_decoder.layers", "transformer_decoder"),
    ("linear1", "pwff.linear_inner"),
    ("linear2", "pwff.linear_outer"),
    ("norm", "norm_"),
    ("multihead_attn", "cross_attn"),
    ("out_proj", "output"),
    ("in_proj_weight", "in_proj.weight"),
    ("in_proj_bias", "in_proj.bias"),
];

/// Fills in all parameters.
pub fn load(network: &mut PatchDecoder, golden: &Golden) -> Result<()> {
    let mut tensors = Vec::new();
    for name in golden.parameters()? {
        let tensor = golden.tensor(&format!("param/{name}"))?;
        let mut name = NAMES.iter().fold(name, |name, (theirs, burns)| name.replace(theirs, burns));
        if name.starts_with("transformer_encoder") {
            name = name.replace("self_attn", "mha");
        }
        if name.contains("in_proj") {
            tensors.extend(split(&name, tensor));
        } else {
            tensors.push((name, tensor));
        }
    }
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, t)| (name, t.shape, t.values.iter().flat_map(|x| x.to_le_bytes()).collect()))
        .collect();
    let mut views = Vec::new();
    for (name, shape, bytes) in &bytes {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|error| error.to_string())?;
        views.push((name.as_str(), view));
    }
    let file = safetensors::serialize(views, None).map_err(|error| error.to_string())?;
    let mut store = SafetensorsStore::from_bytes(Some(file)).with_from_adapter(PyTorchToBurnAdapter);
    let loaded = network.load_from(&mut store).map_err(|error| error.to_string())?;
    if !loaded.unused.is_empty() {
        return Err(format!("no such parameters: {:?}", loaded.unused));
    }
    Ok(())
}

/// PyTorch stacks the projections to queries, keys and values.
fn split(name: &str, stacked: Tensor) -> Vec<(String, Tensor)> {
    let mut shape = stacked.shape;
    shape[0] /= 3;
    let parts = stacked.values.chunks(stacked.values.len() / 3);
    let part = |(part, values): (&str, &[f32])| {
        (name.replace("in_proj", part), Tensor { shape: shape.clone(), values: values.to_vec() })
    };
    ["query", "key", "value"].into_iter().zip(parts).map(part).collect()
}
