//! `flowgpu import`: other people's files in this program's formats.

mod episodes;
mod weights;

use crate::Result;

/// What is imported.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// A pretrained vision transformer, for the encoder of a `flowmatching` policy
    Weights(weights::Args),
    /// A folder of NumPy arrays and PNG files, as a data set
    Episodes(episodes::Args),
}

/// Imports it.
///
/// # Errors
/// If the input is of no use, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    match args {
        Args::Weights(args) => weights::run(args),
        Args::Episodes(args) => episodes::run(args),
    }
}
