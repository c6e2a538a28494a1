//! The ops: each appends its forward launches and records how to append its backward ones.

mod attention;
mod decoder;
mod elementwise;
mod flow;
mod linear;
mod norm;
mod rows;

pub use attention::{Attend, AttentionShape, Columns};
pub use decoder::{DecoderLaunch, DecoderShape};
pub use flow::ChannelScale;
pub use linear::{Bias, Linear, Part, Residual};
pub use rows::RowCut;
