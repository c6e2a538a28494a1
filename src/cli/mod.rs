//! The command line: one file per subcommand.

mod collect;
mod common;
mod devices;
mod doctor;
mod eval;
mod inspect;
mod recording;
mod sample;
mod train;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::Result;

/// Train and run flow-matching robot policies on any GPU.
#[derive(Debug, Parser)]
#[command(name = "flowgpu", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record demonstrations as a LeRobotDataset
    Collect(collect::Args),
    /// Train a policy
    Train(train::Args),
    /// Sample a chunk of actions
    Sample(sample::Args),
    /// Evaluate a policy in closed loop
    Eval(eval::Args),
    /// Compare what a device computes with golden files
    Verify(verify::Args),
    /// Run every kernel on a device against its reference
    Doctor(doctor::Args),
    /// List the devices
    Devices(devices::Args),
    /// Show what is in a checkpoint or a data set
    Inspect(inspect::Args),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(common::arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; bad usage is exit status 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Collect(args) => collect::run(args),
        Command::Train(args) => train::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Inspect(args) => inspect::run(args),
    }
}
