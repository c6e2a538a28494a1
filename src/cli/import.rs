//! `flowgpu import`: other people's files in this program's formats.

mod weights;

use crate::Result;

/// What is imported.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// A pretrained vision transformer, for the encoder of a `flowmatching` policy
    Weights(weights::Args),
}

/// Imports it.
///
/// # Errors
/// If the input is of no use, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    match args {
        Args::Weights(args) => weights::run(args),
    }
}
