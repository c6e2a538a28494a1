//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod config;
mod network;
mod patch_decoder;
pub mod presets;
mod sampler;

pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
pub use network::Network;
pub use patch_decoder::Memory;
pub use sampler::{Sampler, SamplerShape};
