//! What subcommands share: spellings of flags, the choice of a device, notes on stderr.

use std::ffi::OsString;

use crate::Result;
use crate::graph::Device;

/// The arguments with LeRobot's spellings of flags (`--policy.path`, `--batch_size`) turned into ours
/// (`--policy-path`, `--batch-size`). Values are left alone.
pub fn arguments(raw: impl Iterator<Item = OsString>) -> Vec<OsString> {
    raw.map(|argument| match argument.to_str().and_then(|text| text.strip_prefix("--")) {
        Some(flag) => {
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let name = name.replace(['.', '_'], "-");
            OsString::from(value.map_or(format!("--{name}"), |value| format!("--{name}={value}")))
        }
        None => argument,
    })
    .collect()
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
