//! Policies: configurations, networks, normalisation, chunks and queues, checkpoints.

mod acting;
pub mod backbone;
mod builtin;
mod checkpoint;
mod config;
mod continuing;
mod family;
mod flowmatching;
mod guidance;
mod images;
pub mod manifest;
mod network;
mod normalize;
mod observations;
mod patch_decoder;
#[expect(clippy::module_inception, reason = "it is where one looks for the type")]
mod policy;
pub mod presets;
mod processor;
mod pull_back;
mod queue;
pub mod run_dir;
mod sampler;
mod sampling;
mod stats;
mod storage;
pub mod tensors;
mod velocity_mlp;

pub use acting::Noise;
pub use backbone::{Backbone, BackboneSizes};
pub use builtin::{BUILT_IN, resolve_policy, weights_sha256};
pub use checkpoint::{Parts, Pretrained, save_pretrained, write_pretrained};
pub use config::{
    ActionPadding, Config, Feature, FeatureType, LossReduction, MIP_TIME, Normalization, Objective,
};
pub use continuing::{Chunking, Continuation};
pub use family::{Family, InitialValues, Layout, PatchDecoderConfig, VelocityMlpConfig};
pub use flowmatching::FlowMatchingConfig;
pub use guidance::{Guidance, Unconditional};
pub use images::{Images, Pixels};
pub use manifest::{Folder, FolderWriter};
pub use network::{Branches, Euler, Memory, Network, Seen, Time};
pub use normalize::{EPS, Normalizer};
pub use observations::{Kept, Observations, join_states};
pub use policy::{Chunk, Policy, Usage};
pub use pull_back::PullBack;
pub use queue::ActionQueue;
pub use run_dir::{Found, Resolved, RunDir, resolve};
pub use sampler::{Evaluator, Sampler, SamplerShape, sampling_graph, sampling_parts};
pub use sampling::program_batch;
pub use stats::Stats;
pub use storage::WeightStorage;
pub use tensors::{NamedView, Tensor, Tensors};
