//! The project's own commands: `cargo xtask test` and `cargo xtask demo`.

mod apt;
mod chromium;
mod demo;
mod vulkan;

use std::process::{Command, ExitCode, exit};

const USAGE: &str = "cargo xtask <command>

  test [ARGS]  every test; on Linux a Vulkan driver and Chromium are installed first where there are none.
               ARGS go to `cargo test`.
  demo         records, trains, samples and evaluates pursuit in outputs/demo; 3 minutes on 2 cores once it is built, no GPU.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let done = match arguments.next().as_deref() {
        Some("test") => test(arguments.collect()),
        Some("demo") => demo::run(),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            if let Some(other) = other {
                eprintln!("error: no command `{other}`\n");
            }
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn test(more: Vec<String>) -> Result<(), String> {
    vulkan::ensure()?;
    chromium::ensure();
    run(cargo().args(["test", "--release", "--workspace"]).args(more))
}

/// The cargo that runs this.
fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    // Mesa's device-selection layer complains on machines without a desktop; nothing here needs it.
    cargo.env("NODEVICE_SELECT", "1");
    cargo
}

/// Runs a command to its end; an interrupted one ends this program as well.
fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{command:?} does not start: {e}"))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(_) => Err(format!("{command:?} failed ({status})")),
        None => exit(1),
    }
}
