//! A Vulkan driver for the WGSL tests: found, or installed, or asked for.

use std::path::{Path, PathBuf};

use super::apt::{Apt, succeeds};

/// What a person is to install where this program cannot.
const ADVICE: &str =
    "the WGSL tests need a Vulkan driver and there is none. Install the one of your GPU, or a \
software one:
  Debian, Ubuntu  apt-get install mesa-vulkan-drivers
  Fedora          dnf install mesa-vulkan-drivers
  Arch            pacman -S vulkan-swrast
then run `cargo xtask test` again";

/// Makes sure that there is a driver. Only Linux can lack one: macOS and Windows bring Metal and DX12.
pub fn ensure() -> Result<(), String> {
    if !cfg!(target_os = "linux") || is_there() {
        return Ok(());
    }
    let Some(apt) = Apt::find() else { return Err(ADVICE.to_owned()) };
    println!("no Vulkan driver: installing mesa-vulkan-drivers");
    apt.install("mesa-vulkan-drivers").map_err(|e| format!("{e}\n{ADVICE}"))?;
    if is_there() { Ok(()) } else { Err(ADVICE.to_owned()) }
}

/// Whether a loader would find a driver: a description in one of its folders, and the loader itself.
fn is_there() -> bool {
    let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].iter().any(|name| std::env::var_os(name).is_some());
    let mut folders: Vec<PathBuf> =
        ["/usr/share", "/usr/local/share", "/etc", "/usr/local/etc"].iter().map(PathBuf::from).collect();
    folders.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")));
    let described = folders.iter().any(|folder| {
        let Ok(entries) = folder.join("vulkan/icd.d").read_dir() else { return false };
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
    });
    let loader = succeeds(
        "sh",
        &[
            "-c",
            "ldconfig -p 2>/dev/null | grep -q libvulkan.so.1 || /sbin/ldconfig -p | grep -q libvulkan.so.1",
        ],
    );
    loader && (named || described)
}
