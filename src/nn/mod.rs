//! Layers made of ops. A layer declares its parameters once, under PyTorch's names, and is applied to any graph.

mod attention;
mod linear;
mod transformer;
mod vit;

pub use attention::{Attended, CrossAttention, KeysValues, SelfAttention};
pub use linear::{Norm, Projection};
pub use transformer::{DecoderLayer, EncoderLayer, LayerSizes};
pub use vit::{IMAGENET, Vit, VitSizes, grid_positions, patch_weights};
