//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod config;
pub mod presets;
mod stats;
pub mod tensors;

pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
pub use stats::Stats;
pub use tensors::{NamedView, Tensor, Tensors};
