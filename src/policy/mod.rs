//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod config;
mod normalize;
pub mod presets;
mod queue;
mod stats;
pub mod tensors;

pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
pub use normalize::{EPS, Normalizer};
pub use queue::ActionQueue;
pub use stats::Stats;
pub use tensors::{NamedView, Tensor, Tensors};
