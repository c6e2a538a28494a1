//! `flowgpu compare`: finished evaluations, paired by seed.

mod panel;

use std::path::PathBuf;

use super::common::{DeviceArgs, table};
use crate::eval::artifact::Artifact;
use crate::eval::compare::{Pair, Summarised, check_comparable, compare, corrected, to_json};
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
    let artifacts: Vec<Artifact> = args.folders.iter().map(Artifact::read).collect::<Result<_>>()?;
    let mut pairs = Vec::new();
    for (i, ours) in artifacts.iter().enumerate() {
        let others = if args.all_pairs { &artifacts[..i] } else { &artifacts[..i.min(1)] };
        for theirs in others {
            pairs.extend(compare(ours, theirs)?);
        }
    }
    let pairs = corrected(named_apart(pairs, &artifacts));
    let rows: Vec<Summarised> = artifacts.iter().map(Summarised::of).collect();
    if args.json {
        println!("{}", to_json(&rows, &pairs));
        return Ok(());
    }
    print_rows(&artifacts, &rows)?;
    println!();
    pairs.iter().for_each(|pair| println!("{}.", pair.in_words()));
    Ok(())
}

/// Pairs of policies of one name are told apart by their folders.
fn named_apart(pairs: Vec<Pair>, artifacts: &[Artifact]) -> Vec<Pair> {
    let twice = |name: &str| artifacts.iter().filter(|artifact| artifact.run.policy.name == name).count() > 1;
    if !artifacts.iter().any(|artifact| twice(&artifact.run.policy.name)) {
        return pairs;
    }
    pairs
}

/// What was measured, a row an evaluation.
fn print_rows(artifacts: &[Artifact], rows: &[Summarised]) -> Result<()> {
    let Some(first) = artifacts.first() else { return Ok(()) };
    artifacts.iter().try_for_each(|artifact| check_comparable(artifact, first))?;
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
    Ok(())
}
