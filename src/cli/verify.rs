//! `flowgpu verify`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::common::{DeviceArgs, table};
use crate::train::golden::{Golden, Quantity};
use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Golden files: safetensors with a network, inputs, and what a reference computed
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Prints one JSON array
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Computes what the files hold and compares.
///
/// # Errors
/// If a file is not golden (before anything is computed), a quantity is out of its bounds, or the device fails.
pub fn run(args: Args) -> Result<()> {
    let read = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(|e| Error::input(format!("cannot be read: {e}")));
        bytes.and_then(|bytes| Golden::parse(&bytes)).map_err(|e| e.at(path.display()))
    };
    let goldens = args.files.iter().map(read).collect::<Result<Vec<_>>>()?;
    let device = args.device.open()?;
    let mut reports = Vec::new();
    let (mut compared, mut failed) = (0, 0);
    for (path, golden) in args.files.iter().zip(goldens) {
        let quantities = golden.verify(&device).map_err(|e| e.at(path.display()))?;
        let misses = quantities.iter().filter(|quantity| !quantity.pass).count();
        (compared, failed) = (compared + quantities.len(), failed + misses);
        if args.json {
            reports.push(json!({
                "file": path.display().to_string(), "device": device.to_string(), "pass": misses == 0,
                "quantities": quantities.iter().map(Quantity::to_json).collect::<Vec<_>>(),
            }));
        } else {
            println!("{}", path.display());
            print!("{}", table(&quantities.iter().map(row).collect::<Vec<_>>()));
        }
    }
    if args.json {
        println!("{:#}", Value::Array(reports));
    } else {
        println!("{} of {compared} quantities pass on {device}", compared - failed);
    }
    match failed {
        0 => Ok(()),
        _ => Err(Error::failure(format!(
            "{failed} of {compared} quantities differ from their reference on {device}: \
             `flowgpu doctor` says which kernels a driver gets wrong"
        ))),
    }
}

fn row(quantity: &Quantity) -> [String; 4] {
    let verdict = if quantity.pass { "pass" } else { "FAIL" };
    [
        format!("  {}", quantity.name),
        format!("NMSE {:.1e}", quantity.nmse),
        format!("largest error {:.1e}", quantity.max_abs),
        verdict.to_owned(),
    ]
}
