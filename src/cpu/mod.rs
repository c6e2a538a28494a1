//! The CPU device: runs the twins, with fast bodies for the few blocks that matter.

mod attention;
mod fast;
mod product;
mod program;
mod rows;
mod simd;

pub use program::{Bank, Buffer, Data, Program};
