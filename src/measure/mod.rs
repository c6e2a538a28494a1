//! What things cost: times of runs, time by kernel beside the most that a device can do, shares of memory, growth.
//!
//! `flowgpu bench` and `benches/kernels.rs` measure by these.

mod buffers;
mod by_kernel;
mod ceilings;
mod growth;
mod times;

pub use buffers::{BufferUse, buffer_uses};
pub use by_kernel::{KernelCost, by_kernel, quickest_profile};
pub use ceilings::{copy_rate, multiply_add_rate};
pub use growth::exponent;
pub use times::{Times, Until};
