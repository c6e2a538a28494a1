//! The project's own commands: `cargo xtask test` and `cargo xtask demo`.

mod demo;
mod vulkan;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage:
  cargo xtask test [ARGUMENTS OF cargo test]   all tests; first installs a Vulkan driver where there is none
  cargo xtask demo                             collect, train, sample and evaluate, into outputs/demo/";

/// A sentence for a person.
type Failure = String;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let result = match arguments.next().as_deref() {
        Some("test") => test(&arguments.collect::<Vec<_>>()),
        Some("demo") => demo::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Every test, on a machine that has an adapter for those of WGSL.
fn test(arguments: &[String]) -> Result<(), Failure> {
    let program = build()?;
    vulkan::ensure_adapter(&program)?;
    let mut command = cargo();
    command.args(["test", "--release", "--workspace"]).args(arguments);
    succeed(&mut command)
}

/// Builds the program and says where it is.
fn build() -> Result<PathBuf, Failure> {
    succeed(cargo().args(["build", "--release", "--package", "flowgpu", "--bin", "flowgpu"]))?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(root().join(target).join("release").join(format!("flowgpu{}", env::consts::EXE_SUFFIX)))
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace's folder.
fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Runs a command to its end.
fn succeed(command: &mut Command) -> Result<(), Failure> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", spelled(command))),
        Err(e) => Err(format!("{} cannot be started: {e}", spelled(command))),
    }
}

/// A command as a person would type it.
fn spelled(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
