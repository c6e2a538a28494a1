//! `flowgpu eval`.

use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
///
/// # Errors
/// Not yet.
pub fn run(_: Args) -> Result<()> {
    Err(Error::failure("not there yet"))
}
