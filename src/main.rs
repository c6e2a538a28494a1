//! The `flowgpu` program: parses, dispatches, prints errors; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    flowgpu::cli::main()
}
