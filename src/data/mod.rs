//! LeRobotDataset folders: v3.0 written and read, v2.1 and v2.0 read; windows, statistics and batches.
//!
//! A frame's way to a batch: [`Dataset::open`] reads a folder (flat f32 vectors, encoded images), [`Loader::new`]
//! decodes every image once, or leaves that to those who need one, a [`Sampler`] names the frames of a step,
//! [`Loader::batch`] gathers and varies them ([`Augmentation`]), ahead of the device if a [`Prefetch`] asks for them.
//! [`DatasetWriter`] goes the other way. Nothing here knows of graphs, GPUs or simulators.
//!
//! [`Features`] and [`Stats`] need no parquet, so that a policy on a robot can use them without the `data` feature.

#[cfg(feature = "data")]
mod augment;
#[cfg(feature = "data")]
mod cache;
#[cfg(feature = "data")]
mod columns;
#[cfg(feature = "data")]
mod complete;
#[cfg(feature = "data")]
mod dataset;
#[cfg(feature = "data")]
mod decode;
#[cfg(feature = "data")]
mod describe;
#[cfg(feature = "data")]
mod episodes;
mod features;
#[cfg(feature = "data")]
mod filming;
#[cfg(feature = "data")]
mod footage;
#[cfg(feature = "data")]
mod frame_files;
#[cfg(feature = "hub")]
mod hub;
#[cfg(feature = "data")]
mod import;
#[cfg(feature = "data")]
mod info;
#[cfg(feature = "data")]
mod legacy;
#[cfg(feature = "data")]
mod loader;
#[cfg(feature = "data")]
mod locate;
#[cfg(feature = "data")]
mod named_splits;
#[cfg(feature = "data")]
mod overview;
#[cfg(feature = "data")]
mod pictures;
#[cfg(feature = "data")]
mod prefetch;
#[cfg(feature = "data")]
mod rows;
#[cfg(feature = "data")]
mod split;
mod stats;
#[cfg(feature = "data")]
mod survey;
#[cfg(feature = "data")]
mod table;
#[cfg(all(test, feature = "data"))]
mod tests;
#[cfg(feature = "data")]
mod window;
#[cfg(feature = "data")]
mod writer;

#[cfg(feature = "data")]
pub use {
    augment::Augmentation,
    cache::{CacheOptions, MAX_CACHE_BYTES},
    dataset::Dataset,
    episodes::Episode,
    import::{ImportOptions, import_episodes},
    info::Info,
    loader::{Batch, Loader, Varied, check_width},
    locate::{Places, locate},
    named_splits::{NamedSplit, STRESS, TRAIN, VALIDATION},
    overview::Overview,
    prefetch::Prefetch,
    split::{Sampler, Split, split_episodes},
    survey::{Camera, Survey},
    window::{Padding, Windows},
    writer::DatasetWriter,
};
pub use {
    features::{Dtype, Feature, Features, PolicyFeature, Role},
    stats::{Stat, Stats},
};
