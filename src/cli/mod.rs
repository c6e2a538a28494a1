//! The command line: one file per subcommand.

mod bench;
mod collect;
mod common;
mod compare;
mod config_file;
mod contract;
mod devices;
mod doctor;
mod eval;
mod import;
mod inspect;
mod perturbing;
mod recording;
mod report;
mod sample;
mod sampling;
mod train;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{Error, Result};

/// Train and run flow-matching robot policies on any GPU.
#[derive(Debug, Parser)]
#[command(name = "flowgpu", version, arg_required_else_help = true, args_override_self = true)]
struct Cli {
    /// A file with a table per subcommand; keys are flags. Flags on the command line win
    #[arg(long, global = true, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Record demonstrations as a LeRobotDataset
    Collect(collect::Args),
    /// Train a policy
    Train(Box<train::Args>),
    /// Sample a chunk of actions
    Sample(sample::Args),
    /// Evaluate a policy in closed loop
    Eval(eval::Args),
    /// Compare finished evaluations, episode by episode
    Compare(compare::Args),
    /// Write finished evaluations as one page for people
    Report(report::Args),
    /// Measure what a policy costs on a device: time, memory, and how they grow
    Bench(bench::Args),
    /// Compare what a device computes with golden files
    Verify(verify::Args),
    /// Run every kernel on a device against its reference
    Doctor(doctor::Args),
    /// List the devices
    Devices(devices::Args),
    /// Show what is in a checkpoint or a data set, or what an environment promises
    Inspect(inspect::Args),
    /// Bring other people's weights or recordings into this program's formats
    #[command(subcommand)]
    Import(import::Args),
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    stop_quietly_when_nobody_reads();
    let arguments = common::arguments(std::env::args_os());
    let arguments = match config_file::with_file(&Cli::command(), arguments) {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error),
    };
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; bad usage is exit status 2.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// `flowgpu inspect … | head` closes the pipe that `println!` writes to, which then panics: that is no error.
fn stop_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match info.payload_as_str() {
        Some(what) if what.starts_with("failed printing to std") => std::process::exit(1),
        _ => usual(info),
    }));
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(error.exit_code())
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Collect(args) => collect::run(args),
        Command::Train(args) => train::run(*args),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Report(args) => report::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Import(args) => import::run(args),
    }
}
