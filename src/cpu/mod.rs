//! The CPU device: runs the twins, with fast bodies for the few blocks that matter.

mod attention;
#[doc(hidden)]
pub mod ceilings;
mod decoder;
mod fast;
mod heads;
mod panel_product;
mod panels;
mod product;
mod program;
mod rows;
mod scratch;
mod simd;
mod threads;

pub use program::{Bank, Buffer, Data, Program};
pub use threads::alone;
