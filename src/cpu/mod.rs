//! The CPU device: runs the twins, with fast bodies for the few blocks that matter.

pub mod fast;
mod program;

pub use program::{Bank, Buffer, Data, Program};
