//! The only place that names wgpu: adapters, buffers, pipelines, submission, readback.

mod adapter;
#[doc(hidden)]
pub mod ceilings;
mod device;
mod pipeline_cache;
mod program;

pub use adapter::{AdapterSummary, Choice, list};
pub use device::{Buffer, Checks, Gpu};
pub use program::{Bank, Program};
