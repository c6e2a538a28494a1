//! An adapter for the WGSL tests: the machine's own, or a software one.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Failure, spelled, succeed};

const DEBIAN_PACKAGE: &str = "mesa-vulkan-drivers";

/// Sees to it that there is an adapter, as `flowgpu devices` finds them.
///
/// Debian and Ubuntu get a software one, as root or where sudo asks for no password. Elsewhere the failure says
/// what to install.
pub fn ensure_adapter(program: &Path) -> Result<(), Failure> {
    if has_adapter(program)? {
        return Ok(());
    }
    let install = install_by_hand();
    if !cfg!(target_os = "linux") {
        return Err(format!("no adapter was found, which the WGSL tests need: {install}"));
    }
    let Some(privilege) = apt_privilege() else {
        return Err(format!("no Vulkan adapter was found, which the WGSL tests need: {install}"));
    };
    println!("no Vulkan adapter was found: installing {DEBIAN_PACKAGE}");
    // Old lists may do: only the installation must succeed.
    if let Err(failure) = succeed(&mut apt(privilege, &["update"])) {
        println!("warning: {failure}");
    }
    succeed(&mut apt(privilege, &["install", "--yes", DEBIAN_PACKAGE]))
        .map_err(|failure| format!("{failure}; {install}"))?;
    match has_adapter(program)? {
        true => Ok(()),
        false => Err(format!("{DEBIAN_PACKAGE} is installed, but `flowgpu devices` still lists no adapter")),
    }
}

/// Whether `flowgpu devices` lists anything beside the CPU.
fn has_adapter(program: &Path) -> Result<bool, Failure> {
    let mut command = Command::new(program);
    command.arg("devices").stderr(Stdio::null());
    let output = command.output().map_err(|e| format!("{} cannot be started: {e}", spelled(&command)))?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", spelled(&command), output.status));
    }
    // A line of headings, a line for the CPU, a line for every adapter.
    let list = String::from_utf8_lossy(&output.stdout);
    print!("{list}");
    Ok(list.lines().count() > 2)
}

/// What goes in front of `apt-get`: nothing as root, sudo where it asks for no password; none where neither helps.
fn apt_privilege() -> Option<&'static [&'static str]> {
    let quiet = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()
    };
    quiet("apt-get", &["--version"])?;
    if quiet("id", &["-u"])?.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    quiet("sudo", &["-n", "true"])?.status.success().then_some(&["sudo", "-n"])
}

fn apt(privilege: &[&str], arguments: &[&str]) -> Command {
    let words = [privilege, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// What a person can do.
fn install_by_hand() -> &'static str {
    if cfg!(target_os = "linux") {
        "install the Vulkan driver of your GPU, or a software one (Debian, Ubuntu: `sudo apt-get install \
         mesa-vulkan-drivers`; Fedora: `sudo dnf install mesa-vulkan-drivers`; Arch: `sudo pacman -S \
         vulkan-swrast`), and run this again"
    } else {
        "install the driver of your GPU, and run this again"
    }
}
