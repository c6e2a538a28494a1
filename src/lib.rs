//! Train and run flow-matching robot policies on any GPU, with hand-written WGSL kernels and no ML framework.

#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
#[cfg(feature = "data")]
pub mod data;
pub mod error;
pub mod eval;
pub mod fields;
pub mod flow;
pub mod gpu;
pub mod graph;
pub mod image;
pub mod kernels;
pub mod measure;
pub mod memory;
pub mod nn;
pub mod policy;
#[cfg(feature = "report")]
pub mod report;
pub mod rng;
pub mod sim;
pub mod train;
#[cfg(feature = "video")]
pub mod video;

pub use error::{Error, ErrorKind, Result};
