//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod checkpoint;
mod config;
pub mod manifest;
mod network;
mod normalize;
mod patch_decoder;
pub mod presets;
mod processor;
mod queue;
pub mod run_dir;
mod sampler;
mod stats;
pub mod tensors;

pub use checkpoint::{Parts, Pretrained, save_pretrained, write_pretrained};
pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
pub use manifest::{Folder, FolderWriter};
pub use network::Network;
pub use normalize::{EPS, Normalizer};
pub use patch_decoder::Memory;
pub use queue::ActionQueue;
pub use run_dir::{Found, Resolved, RunDir, resolve};
pub use sampler::{Sampler, SamplerShape};
pub use stats::Stats;
pub use tensors::{NamedView, Tensor, Tensors};
