//! Debian's and Ubuntu's package manager, where this program may use it.

use std::process::{Command, Stdio};

use super::run;

/// `apt-get`, as root or by a sudo that asks for no password.
pub struct Apt {
    root: bool,
}

impl Apt {
    /// None where there is no `apt-get`, or no right to use it.
    pub fn find() -> Option<Self> {
        let root = succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]);
        let allowed = root || succeeds("sudo", &["-n", "true"]);
        (succeeds("apt-get", &["--version"]) && allowed).then_some(Self { root })
    }

    /// Installs a package.
    pub fn install(&self, package: &str) -> Result<(), String> {
        // Package lists may be missing or stale; if they cannot be renewed, installing still may work.
        if let Err(warning) = self.run(&["update", "-qq"]) {
            eprintln!("warning: {warning}");
        }
        self.run(&["install", "-y", "-qq", package])
    }

    fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(if self.root { "apt-get" } else { "sudo" });
        if !self.root {
            command.args(["-n", "apt-get"]);
        }
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    }
}

/// Whether a command ends well; what it prints is not shown.
pub fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let quiet = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
