//! `flowgpu eval`: policies and rules in closed loop, one setting or a table of many on equal resets.

mod actor;
mod evidence;
mod panel;
mod pictures;
mod table;
mod timing;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::{DeviceArgs, note};
use super::perturbing::PerturbationArgs;
use super::sampling::SamplingArgs;
use crate::eval::metrics::Summary;
use crate::eval::{Options, Report};
use crate::flow::Solver;
use crate::policy::{BUILT_IN, Policy, WeightStorage};
use crate::sim::{Environment, Perturbations};
use crate::{Error, Result};
use actor::Actor;
use timing::TimingArgs;

/// Flags of the subcommand. With none, the built-in policy is evaluated as pi-e publishes its own. Several policies,
/// solvers or steps make a table on equal resets
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The environment
    #[arg(long, default_value = "pursuit")]
    env: String,
    /// expert, expert-seed, noop, random, a built-in policy, a pretrained_model, checkpoint or run folder, or exec:COMMAND,
    /// a program that speaks JSON lines (docs/evidence.md); once more for another one, to be compared with the first [default: the environment's built-in policy]
    #[arg(long = "policy", alias = "policy-path", value_name = "NAME|DIR|exec:COMMAND")]
    policies: Vec<String>,
    /// Episodes
    #[arg(long, default_value_t = 100)]
    episodes: usize,
    /// Episodes side by side, whose chunks are made together
    #[arg(long, default_value_t = 100)]
    batch_size: usize,
    /// Episode i starts from numpy's default_rng(seed + i)
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Actions of a chunk that are executed before the next is made [default: the policy's]
    #[arg(long, value_name = "K")]
    n_action_steps: Option<usize>,
    /// Solver steps of a chunk [default: the policy's]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    steps: Vec<usize>,
    /// euler, heun, midpoint, rk4 or dopri5, which chooses its own steps [default: the policy's]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', value_parser = Solver::named)]
    solver: Vec<Solver>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What a chunk starts from
    #[arg(long, value_enum, default_value_t = NoiseKind::Seeded)]
    noise: NoiseKind,
    /// Another seed, other noise
    #[arg(long, value_name = "S", default_value_t = 0)]
    noise_seed: u64,
    /// Leaves evidence in this folder: a line an episode with failure labels, a trace, videos of the worst, LeRobot's
    /// eval_info.json. An evaluation that was interrupted goes on where it stopped
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Videos of the worst episodes in --output-dir
    #[arg(long, value_name = "N", default_value_t = 6)]
    videos: usize,
    /// What the policy is called in tables and in --output-dir [default: as --policy]
    #[arg(long, value_name = "NAME", requires = "output_dir")]
    name: Option<String>,
    /// Prints one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Draws a PNG: the first episode beside the expert's; of a table, the metric over function evaluations
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Writes the first episodes, six at most, as an animation
    #[arg(long, value_name = "FILE")]
    gif: Option<PathBuf>,
    /// What the weights are stored as: f16 halves their memory and rounds them to 11 bits; f16-products rounds what they
    /// are multiplied with as well, for a GPU's matrix units
    #[arg(long, value_name = "f32|f16|f16-products", default_value_t, value_parser = WeightStorage::named)]
    weights: WeightStorage,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    timing: TimingArgs,
    #[command(flatten)]
    perturbing: PerturbationArgs,
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
    let environment = args.perturbing.environment(&args.env, args.seed, args.noise_seed)?;
    args.check()?;
    let options = args.options();
    let is_table = args.is_table();
    if is_table && args.gif.is_some() {
        return Err(Error::input("--gif shows one policy with one solver and one number of steps"));
    }
    let panel = args.perturbing.panel;
    if args.plot.is_some() && args.timing.is_table() {
        return Err(Error::input(
            "--plot of a table is over function evaluations: give one --inference-delay and one --chunking",
        ));
    }
    if args.output_dir.is_some() && (is_table || panel || args.gif.is_some() || args.plot.is_some()) {
        return Err(Error::input(
            "--output-dir is of one policy with one setting; `flowgpu compare` compares several folders",
        ));
    }
    if panel && (is_table || args.gif.is_some() || args.plot.is_some()) {
        return Err(Error::input(
            "--perturbation-panel is of one policy with one solver and one number of steps, without pictures",
        ));
    }
    let mut actors = Actor::all(&args, environment.spec())?;
    let networks = || actors.iter().filter_map(Actor::policy);
    if is_table && args.plot.is_some() && networks().next().is_none() {
        return Err(Error::input("--plot of a table is over function evaluations, and rules make none"));
    }
    let configs: Vec<_> = networks().map(Policy::config).collect();
    args.sampling.note_idle(&configs, &args.solver, !args.steps.is_empty());
    match (is_table, &mut actors[..]) {
        (false, [actor]) if panel => panel::run(&args, environment.as_ref(), options, actor),
        (false, [actor]) => match &args.output_dir {
            Some(folder) => evidence::run(&args, folder, environment.as_ref(), options, actor),
            None => single(&args, environment.as_ref(), options, actor),
        },
        _ => table::run(&args, environment.as_ref(), options, actors),
    }
}

/// One policy with one setting.
fn single(args: &Args, environment: &dyn Environment, options: Options, actor: &mut Actor) -> Result<()> {
    let settings = actor.settings(args)?;
    let setting = settings[0];
    let report = actor.evaluate(environment, setting, options, &mut progress(String::new()))?;
    if args.json {
        let mut json = report.to_json(&actor.name);
        json["solver_steps"] = json!(setting.steps);
        json["solver"] = json!(setting.solver_name());
        json["device"] = json!(actor.policy().map(|policy| policy.device().to_string()));
        println!("{json}");
    } else {
        print(&actor.name, &report);
    }
    if let Some(file) = &args.plot {
        pictures::write_traces(file, environment, &actor.name, &report)?;
    }
    args.gif.as_ref().map_or(Ok(()), |file| pictures::write_gif(file, environment, &report))
}

impl Args {
    /// Checks what is the same for rules and policies, before any is made.
    fn check(&self) -> Result<()> {
        if self.policies.is_empty() && !BUILT_IN.contains(&self.env.as_str()) {
            return Err(Error::input(format!(
                "environment `{}` has no built-in policy: give --policy expert or a folder",
                self.env
            )));
        }
        self.sampling.check()
    }

    fn options(&self) -> Options {
        Options {
            episodes: self.episodes,
            seed: self.seed,
            batch_size: self.batch_size,
            ..Options::default()
        }
    }

    /// The policies by name.
    fn policies(&self) -> Vec<String> {
        if self.policies.is_empty() { vec![self.env.clone()] } else { self.policies.clone() }
    }

    /// Whether the flags name more than one thing to evaluate.
    fn is_table(&self) -> bool {
        self.policies.len() > 1 || self.steps.len() > 1 || self.solver.len() > 1 || self.timing.is_table()
    }
}

/// Which episodes, and what disturbs them.
fn described(options: &Options, perturbations: &Perturbations) -> String {
    let disturbed = if perturbations.is_none() { String::new() } else { format!(", {perturbations}") };
    format!("{} episodes from seed {}{disturbed}", options.episodes, options.seed)
}

/// Says on stderr how far an evaluation is.
fn progress(name: String) -> impl FnMut(usize, usize) {
    let mut tell = now_and_then();
    move |steps, running| tell(&|| format!("{name}step {steps}: {running} episodes running"))
}

/// Shows a line on stderr: in place on a terminal, elsewhere now and then.
fn now_and_then() -> impl FnMut(&dyn Fn() -> String) {
    let terminal = io::stderr().is_terminal();
    let pause = Duration::from_millis(if terminal { 200 } else { 30_000 });
    let mut told = Instant::now();
    move |line| {
        if told.elapsed() >= pause {
            told = Instant::now();
            // The line is left by a return, so that whatever comes next is written over it.
            if terminal { eprint!("{:<60}\r", line()) } else { note(line()) }
        }
    }
}

/// A table for people, to the digits of the published one.
fn print(policy: &str, report: &Report) {
    println!(
        "{}, policy {policy}, {}",
        report.environment,
        described(&report.options, &report.perturbations)
    );
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
