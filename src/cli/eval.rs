//! `flowgpu eval`: a policy or a rule in closed loop.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::{DeviceArgs, note};
use crate::eval::metrics::Summary;
use crate::eval::{self, Options, Report};
use crate::policy::{BUILT_IN, Noise, Policy, resolve_policy};
use crate::report::gif::animate;
use crate::sim::{self, Environment, Scripted};
use crate::{Error, Result};

/// Flags of the subcommand. With none, the built-in policy is evaluated as pi-e publishes its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The environment
    #[arg(long, default_value = "pursuit")]
    env: String,
    /// expert, noop, random, a built-in policy, or a pretrained_model, checkpoint or run folder
    #[arg(long, alias = "policy-path", value_name = "NAME|DIR", default_value = "pursuit")]
    policy: String,
    /// Episodes, in lockstep
    #[arg(long, default_value_t = 100)]
    episodes: usize,
    /// Episode i starts from numpy's default_rng(seed + i)
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Actions of a chunk that are executed before the next is made [default: the policy's]
    #[arg(long, value_name = "K")]
    n_action_steps: Option<usize>,
    /// Solver steps of a chunk [default: the policy's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// What a chunk starts from
    #[arg(long, value_enum, default_value_t = NoiseKind::Seeded)]
    noise: NoiseKind,
    /// Another seed, other noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    noise_seed: u64,
    /// Prints one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Writes the first episodes, six at most, as an animation
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NoiseKind {
    Seeded,
    Zero,
}

/// Evaluates.
///
/// # Errors
/// If the environment or the policy is unknown, they do not fit, a flag makes no sense, or the work fails.
pub fn run(args: Args) -> Result<()> {
    let environment = sim::make(&args.env)?;
    let options = Options { episodes: args.episodes, seed: args.seed, ..Options::default() };
    let (report, solver) = match Scripted::named(&args.policy, args.noise_seed) {
        Some(rule) => {
            if args.n_action_steps.is_some() || args.steps.is_some() {
                note(format!("{} is a rule: it has no chunks and no solver", args.policy));
            }
            (eval::evaluate_driver(environment.as_ref(), &mut *rule.driver(), options)?, None)
        }
        None => {
            let mut policy = policy(&args)?;
            let report = eval::evaluate_watched(environment.as_ref(), &mut policy, options, &mut progress())?;
            (report, Some((policy.config().flow.num_steps, policy.device().to_string())))
        }
    };
    if args.json {
        let mut json = report.to_json(&args.policy);
        let (steps, device) = solver.unzip();
        (json["solver_steps"], json["device"]) = (json!(steps), json!(device));
        println!("{json}");
    } else {
        print(&args.policy, &report);
    }
    args.gif.as_ref().map_or(Ok(()), |file| write_gif(file, environment.as_ref(), &report))
}

/// The policy that the flags describe.
fn policy(args: &Args) -> Result<Policy> {
    if !BUILT_IN.contains(&args.policy.as_str()) && !Path::new(&args.policy).exists() {
        let known = [&Scripted::NAMES, BUILT_IN].concat().join(", ");
        return Err(Error::input(format!(
            "unknown policy `{}`: known are {known}, and folders that hold a policy",
            args.policy
        )));
    }
    let pretrained = resolve_policy(&args.policy)?;
    pretrained.notes.iter().for_each(note);
    let mut policy = Policy::from_parts(pretrained, &args.device.open()?)?;
    args.n_action_steps.map_or(Ok(()), |steps| policy.set_action_steps(steps))?;
    args.steps.map_or(Ok(()), |steps| policy.set_solver_steps(steps))?;
    policy.set_noise(match args.noise {
        NoiseKind::Seeded => Noise::Seeded(args.noise_seed),
        NoiseKind::Zero => Noise::Zero,
    });
    Ok(policy)
}

/// Says on stderr how far an evaluation is: in place on a terminal, elsewhere as a line now and then.
fn progress() -> impl FnMut(usize, usize) {
    let terminal = io::stderr().is_terminal();
    let pause = Duration::from_millis(if terminal { 200 } else { 30_000 });
    let mut told = Instant::now();
    move |steps, running| {
        if told.elapsed() >= pause {
            told = Instant::now();
            let line = format!("step {steps}: {running} episodes running");
            // The line is left by a return, so that whatever comes next is written over it.
            if terminal { eprint!("{line:<40}\r") } else { note(line) }
        }
    }
}

/// A table for people, to the digits of the published one.
fn print(policy: &str, report: &Report) {
    let Options { episodes, seed, .. } = report.options;
    println!("{}, policy {policy}, {episodes} episodes from seed {seed}", report.environment);
    for (name, Summary { mean, std }) in &report.metrics {
        let numbers = match *name {
            "completed" => format!("{mean:8.3}"),
            "steps_to_capture" => format!("{mean:8.3} ± {std:.3}"),
            "trajectory_length" => format!("{mean:7.2}  ± {std:.2}"),
            _ => format!("{mean:9.4} ± {std:.3}"),
        };
        println!("  {:<22} {numbers}", name.replace('_', " "));
    }
    match (report.usage, report.ms_per_chunk()) {
        (Some(usage), Some(ms)) => println!(
            "{} chunks, {} actions of each executed: {ms:.3} ms a chunk, {:.1} s in all",
            usage.chunks, report.n_action_steps, report.seconds
        ),
        _ => println!("{:.1} s", report.seconds),
    }
}

fn write_gif(file: &Path, environment: &dyn Environment, report: &Report) -> Result<()> {
    let clips = eval::clips(environment, report.options.seed, &report.episodes)?;
    let bytes = animate(&clips, environment.spec().fps)?;
    fs::write(file, bytes).map_err(|e| Error::failure(format!("cannot write {}: {e}", file.display())))?;
    note(format!("{} episodes: {}", clips.len(), file.display()));
    Ok(())
}
