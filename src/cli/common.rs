//! What subcommands share: spellings of flags, the choice of a device, notes on stderr.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::data::Places;
use crate::graph::{Device, Program};
use crate::{Error, Result};

/// The arguments with LeRobot's spellings of flags (`--policy.path`, `--batch_size`) turned into ours
/// (`--policy-path`, `--batch-size`). Values are left alone.
pub fn arguments(raw: impl Iterator<Item = OsString>) -> Vec<OsString> {
    raw.map(|argument| match argument.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(flag) => {
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let name = spelled(name);
            OsString::from(value.map_or(format!("--{name}"), |value| format!("--{name}={value}")))
        }
        None => argument,
    })
    .collect()
}

/// A flag's name as ours are spelled.
pub fn spelled(flag: &str) -> String {
    flag.replace(['.', '_'], "-")
}

/// Which device runs the work.
#[derive(Debug, Clone, clap::Args)]
pub struct DeviceArgs {
    /// auto (a real GPU, else the CPU), cpu, gpu, or a part of an adapter's name
    #[arg(long, default_value = "auto")]
    pub device: String,
}

impl DeviceArgs {
    /// Opens it and says so on stderr.
    ///
    /// # Errors
    /// If there is no such device.
    pub fn open(&self) -> Result<Device> {
        let device = Device::open(&self.device)?;
        note(format!("device: {device}"));
        if device.is_software_gpu() {
            note("warning: this adapter is software; --device cpu is faster");
        }
        Ok(device)
    }
}

/// A line for a person; results go to stdout, everything else goes here.
pub fn note(line: impl AsRef<str>) {
    eprintln!("{}", line.as_ref());
}

/// The folder of a data set that is named as on the Hub; a line says where it is.
///
/// # Errors
/// If it is neither on this machine nor on the Hub.
pub fn dataset_folder(repo_id: &str) -> Result<PathBuf> {
    let folder = Places::from_env()?.locate(repo_id, &mut |line| note(line))?;
    note(format!("data set {repo_id}: {}", folder.display()));
    Ok(folder)
}

/// Writes a file that was asked for, and says so.
///
/// # Errors
/// If the disk refuses.
pub fn write_file(file: &Path, bytes: &[u8]) -> Result<()> {
    let written = std::fs::write(file, bytes);
    written.map_err(|e| Error::failure(format!("cannot write {}: {e}", file.display())))?;
    note(format!("wrote {}", file.display()));
    Ok(())
}

/// Prints where a program's time goes, the largest share first.
///
/// # Errors
/// If the device cannot measure time.
pub fn print_profile(program: &Program) -> Result<()> {
    let sums = program.profile_by_kernel()?;
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let total: f64 = sums.iter().map(|(_, sum, _)| milliseconds(sum)).sum();
    for (name, sum, count) in &sums {
        let sum = milliseconds(sum);
        println!("{sum:9.3} ms {:5.1} % {count:5} x {name}", 100.0 * sum / total);
    }
    println!("{total:9.3} ms in all; {} of the launches wait for an earlier one", program.barriers());
    Ok(())
}

/// Rows under one another, columns aligned, a line each.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> =
        (0..N).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
