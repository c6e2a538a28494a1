//! `flowgpu devices`.

use serde_json::{Value, json};

use super::common::table;
use crate::{Result, gpu};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prints one JSON array
    #[arg(long)]
    json: bool,
}

/// Lists the CPU device and the adapters, real ones first.
///
/// # Errors
/// None: a machine without an adapter has the CPU.
pub fn run(args: Args) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let adapters = gpu::list();
    if args.json {
        let cpu = json!({
            "name": "cpu", "backend": "cpu", "driver": "", "kind": "cpu", "threads": threads,
            "max_binding": null,
        });
        let adapters = adapters.iter().map(|adapter| {
            json!({
                "name": adapter.name, "backend": adapter.backend, "driver": adapter.driver,
                "kind": adapter.kind, "max_binding": adapter.max_binding,
            })
        });
        println!("{:#}", Value::Array(std::iter::once(cpu).chain(adapters).collect()));
        return Ok(());
    }
    let mut rows = vec![["name", "backend", "kind", "largest binding", "driver"].map(String::from)];
    rows.push(["cpu", "cpu", "cpu", "-", &format!("{threads} threads")].map(String::from));
    rows.extend(adapters.into_iter().map(|adapter| {
        let binding = format!("{} MiB", adapter.max_binding >> 20);
        [adapter.name, adapter.backend, adapter.kind.to_owned(), binding, adapter.driver]
    }));
    print!("{}", table(&rows));
    Ok(())
}
