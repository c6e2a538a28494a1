//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod config;
pub mod presets;

pub use config::{
    ActionPadding, Config, Family, Feature, FeatureType, LossReduction, Normalization, Objective,
    PatchDecoderConfig,
};
