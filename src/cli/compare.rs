//! `flowgpu compare`: finished evaluations, paired by seed.

mod panel;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use super::common::{DeviceArgs, table};
use crate::eval::artifact::Artifact;
use crate::eval::compare::{Summarised, compare, corrected, to_json};
use crate::eval::{Estimate, headline};
use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders that `flowgpu eval --output-dir` wrote; each is compared with the first
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Compares every folder with every other one, not only with the first
    #[arg(long)]
    all_pairs: bool,
    /// Evaluates the panel of an environment first: rules, regressions and flows on the same 300 episodes; policies that
    /// are not there are trained, a quarter of an hour each
    #[arg(long, value_name = "ENV", num_args = 0..=1, default_missing_value = "pursuit", conflicts_with_all = ["folders", "all_pairs"])]
    panel: Option<String>,
    /// Where the panel's evaluations go; those that are there are kept
    #[arg(long, value_name = "DIR", default_value = "outputs/panel", requires = "panel")]
    output_dir: PathBuf,
    /// Episodes of the panel
    #[arg(long, default_value_t = 300, requires = "panel")]
    episodes: usize,
    /// Seed of the panel's first episode
    #[arg(long, default_value_t = 42, requires = "panel")]
    seed: u64,
    /// Prints one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Compares.
///
/// # Errors
/// If a folder is no finished evaluation, or they are not of the same task and episodes.
pub fn run(args: Args) -> Result<()> {
    if let Some(environment) = &args.panel {
        return panel::run(&args, environment);
    }
    if args.folders.len() < 2 {
        return Err(Error::input(
            "give at least two folders that `flowgpu eval --output-dir` wrote, or --panel",
        ));
    }
    let mut artifacts: Vec<Artifact> = args.folders.iter().map(Artifact::read).collect::<Result<_>>()?;
    tell_apart(&mut artifacts);
    let mut pairs = Vec::new();
    for (i, ours) in artifacts.iter().enumerate() {
        let others = if args.all_pairs { &artifacts[..i] } else { &artifacts[..i.min(1)] };
        for theirs in others {
            pairs.extend(compare(ours, theirs)?);
        }
    }
    let pairs = corrected(pairs);
    let rows: Vec<Summarised> = artifacts.iter().map(Summarised::of).collect();
    if args.json {
        println!("{}", to_json(&rows, &pairs));
        return Ok(());
    }
    print_rows(&artifacts, &rows);
    note_conditions(&artifacts);
    println!();
    pairs.iter().for_each(|pair| println!("{}.", pair.in_words()));
    Ok(())
}

/// Adds folders to names that stand more than once.
fn tell_apart(artifacts: &mut [Artifact]) {
    let names: Vec<String> = artifacts.iter().map(|artifact| artifact.run.policy.name.clone()).collect();
    for artifact in artifacts {
        let name = &mut artifact.run.policy.name;
        if names.iter().filter(|other| *other == name).count() > 1 {
            *name = format!("{name} in {}", artifact.folder.display());
        }
    }
}

/// Says which conditions are not the same for all: a disturbance may be what is compared.
fn note_conditions(artifacts: &[Artifact]) {
    let Some(first) = artifacts.first() else { return };
    let conditions = |artifact: &Artifact| {
        let run = &artifact.run.conditions;
        run.perturbations.iter().chain(&run.timing).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let usual: BTreeMap<String, Value> = conditions(first);
    let mut differ: BTreeSet<String> = BTreeSet::new();
    for other in artifacts.iter().map(conditions) {
        let keys = usual.keys().chain(other.keys());
        differ.extend(keys.filter(|key| usual.get(*key) != other.get(*key)).cloned());
    }
    if !differ.is_empty() {
        println!("conditions differ: {}", differ.into_iter().collect::<Vec<_>>().join(", "));
    }
}

/// What was measured, a row an evaluation.
fn print_rows(artifacts: &[Artifact], rows: &[Summarised]) {
    let Some(first) = artifacts.first() else { return };
    let run = &first.run;
    println!(
        "{}, {} episodes, seeds {} to {}, 95 % intervals",
        run.contract.environment,
        run.episodes,
        run.seed,
        run.seed.wrapping_add(run.episodes as u64 - 1)
    );
    let metric = headline(&run.contract.environment)[0];
    let mut cells = vec![
        ["policy", "every", "success", "Jeffreys", metric, "smoothness"].map(|name| name.replace('_', " ")),
    ];
    for (artifact, row) in artifacts.iter().zip(rows) {
        let of =
            |name: &str| row.metric(name).map_or_else(|| "-".to_owned(), |estimate| estimate.to_string());
        let Estimate { low, high, .. } = row.jeffreys;
        cells.push([
            row.policy.clone(),
            artifact.run.policy.n_action_steps.to_string(),
            row.wilson.to_string(),
            format!("{low:.3} to {high:.3}"),
            of(metric),
            of("smoothness"),
        ]);
    }
    print!("{}", table(&cells));
}
