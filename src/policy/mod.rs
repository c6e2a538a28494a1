//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod acting;
mod builtin;
mod checkpoint;
mod config;
mod images;
pub mod manifest;
mod network;
mod normalize;
mod patch_decoder;
#[expect(clippy::module_inception, reason = "it is where one looks for the type")]
mod policy;
pub mod presets;
mod processor;
mod queue;
pub mod run_dir;
mod sampler;
mod stats;
pub mod tensors;

pub use acting::Noise;
pub use builtin::{BUILT_IN, resolve_policy};
pub use checkpoint::{Parts, Pretrained, save_pretrained, write_pretrained};
pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
pub use images::{Images, Pixels};
pub use manifest::{Folder, FolderWriter};
pub use network::Network;
pub use normalize::{EPS, Normalizer};
pub use patch_decoder::Memory;
pub use policy::{Chunk, Observations, Policy, Usage};
pub use queue::ActionQueue;
pub use run_dir::{Found, Resolved, RunDir, resolve};
pub use sampler::{Sampler, SamplerShape};
pub use stats::Stats;
pub use tensors::{NamedView, Tensor, Tensors};
