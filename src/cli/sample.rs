//! `flowgpu sample`: one observation in, one chunk of actions out.

mod inputs;
mod latency;
mod pictures;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::common::{DeviceArgs, dataset_folder, note, print_profile, write_file};
use super::sampling::SamplingArgs;
use crate::flow::Solver;
use crate::image::Image;
use crate::policy::tensors::to_safetensors;
use crate::policy::{Chunk, Config, Noise, Objective, Policy, Usage, WeightStorage, resolve_policy};
use crate::report::path::{SolverPath, noise_to_action};
use crate::{Error, Result};
use inputs::Inputs;
use latency::Latency;

/// Samples printed as tables at most.
const SHOWN: usize = 4;

/// Flags of the subcommand. With none, the built-in policy sees the first frame of pursuit's episode 42.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A built-in policy, or a pretrained_model, checkpoint or run folder
    #[arg(long, alias = "policy-path", value_name = "NAME|DIR", default_value = "pursuit")]
    policy: String,
    /// Solver steps [default: the policy's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// euler, heun, midpoint, rk4 or dopri5, which chooses its own steps [default: the policy's]
    #[arg(long, value_name = "NAME", value_parser = Solver::named)]
    solver: Option<Solver>,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// The environment whose first frame the policy sees [default: the one it was trained for]
    #[arg(long, conflicts_with_all = ["dataset_root", "observations"])]
    env: Option<String>,
    /// The policy sees the first frame of the environment's episode S
    #[arg(long, value_name = "S", default_value_t = 42, conflicts_with_all = ["dataset_root", "observations"])]
    env_seed: u64,
    /// The policy sees a frame of this dataset
    #[arg(long, value_name = "DIR", conflicts_with = "observations")]
    dataset_root: Option<PathBuf>,
    /// The same by the data set's name on the Hub, looked for in LeRobot's local cache first
    #[arg(long, value_name = "OWNER/NAME", conflicts_with_all = ["dataset_root", "observations", "env"])]
    dataset_repo_id: Option<String>,
    /// Which frame, counted from 0
    #[arg(long, value_name = "I")]
    frame: Option<usize>,
    /// The policy sees what this safetensors file holds under the names of its input features
    #[arg(long, value_name = "FILE")]
    observations: Option<PathBuf>,
    /// seeded, zero, or a safetensors file with `noise` [B, H, A], normalised
    #[arg(long, value_name = "seeded|zero|FILE", default_value = "seeded")]
    noise: String,
    /// Another seed, other noise
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Writes `actions` and `actions_normalized` [B, H, A] as .safetensors or .json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draws the way from noise to action as a PNG; of a policy whose chunks have one action, 64 ways
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Draws the velocity over flow time and torque of a policy for the pendulum, at three poses, as a PNG. It is the
    /// network's own, without guidance
    #[arg(long, value_name = "FILE", conflicts_with = "guidance_scale")]
    field: Option<PathBuf>,
    /// Measures N more runs and prints how their times spread: with one observation, what a control loop waits for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Prints one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Prints where the time goes, kernel by kernel
    #[arg(long, conflicts_with = "json")]
    profile: bool,
    /// What the weights are stored as: f16 halves their memory and rounds them to 11 bits; f16-products rounds what they
    /// are multiplied with as well, for a GPU's matrix units
    #[arg(long, value_name = "f32|f16|f16-products", default_value_t, value_parser = WeightStorage::named)]
    weights: WeightStorage,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What a chunk is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Safetensors,
    Json,
}

/// Samples.
///
/// # Errors
/// If the policy or an input is of no use, a file cannot be written, or the device fails.
pub fn run(args: Args) -> Result<()> {
    let out = args.out.as_deref().map(|file| Ok((file, Format::of(file)?))).transpose()?;
    args.sampling.check()?;
    let pretrained = resolve_policy(&args.policy)?;
    pretrained.notes.iter().for_each(note);
    let env = args.env.clone().or_else(|| pretrained.env()).unwrap_or_else(|| "pursuit".to_owned());
    let mut policy = Policy::from_parts_as(pretrained, &args.device.open()?, args.weights)?;
    args.steps.map_or(Ok(()), |steps| policy.set_solver_steps(steps))?;
    args.solver.into_iter().for_each(|solver| policy.set_solver(solver));
    args.sampling.apply(&mut policy)?;
    args.sampling.note_idle(&[policy.config()], args.solver.as_slice(), args.steps.is_some());
    let root = match &args.dataset_repo_id {
        Some(repo_id) => Some(dataset_folder(repo_id)?),
        None => args.dataset_root.clone(),
    };
    if args.frame.is_some() && root.is_none() {
        return Err(Error::input(
            "--frame is one of a data set: name it with --dataset-root or --dataset-repo-id",
        ));
    }
    let inputs = match (&args.observations, &root) {
        (Some(file), _) => inputs::from_file(&policy, file)?,
        (None, Some(root)) => inputs::from_dataset(&policy, root, args.frame.unwrap_or(0))?,
        (None, None) => inputs::from_environment(&policy, &env, args.env_seed)?,
    };
    let noise = args.noise(&policy, inputs.batch)?;
    let observations = inputs.seen.observations();

    let start = Instant::now();
    let chunk = policy.predict_chunk(&observations, &noise)?;
    let first_ms = milliseconds(start);
    let Usage { evaluations, batches, .. } = policy.usage();
    let evaluations = evaluations as f64 / batches as f64;
    let mut once = || {
        let start = Instant::now();
        policy.predict_chunk(&observations, &noise)?;
        Ok(milliseconds(start))
    };
    let ms = once()?;
    let latency = args.repeat.map(|runs| Latency::measure(runs, &mut once)).transpose()?;

    let flow = (policy.config().objective == Objective::Flow).then(|| policy.config().flow);
    // Normalised actions and noise are as wide as the network's, which may pad the robot's.
    let widths = [policy.config().action().1, policy.config().network_action_dim()];
    let [shape, wide] = widths.map(|width| [inputs.batch, policy.config().chunk_size, width]);
    if args.json {
        let mut json = json!({
            "policy": args.policy,
            "device": policy.device().to_string(),
            "solver": flow.map(|flow| flow.solver.name()),
            "solver_steps": flow.filter(|flow| flow.solver != Solver::Dopri5).map(|flow| flow.num_steps),
            "evaluations": evaluations,
            "first_ms": first_ms,
            "ms": ms,
        });
        if let Some(latency) = &latency {
            json["latency_ms"] = latency.to_json(inputs.batch);
        }
        (json["actions"], json["actions_normalized"]) =
            (nested(&chunk.actions, &shape), nested(&chunk.normalized, &wide));
        println!("{json}");
    } else {
        print(&args.policy, &policy, &inputs, &chunk, evaluations);
        println!("{ms:.2} ms; the first time, with compiling, {first_ms:.0} ms");
        latency.iter().for_each(|latency| println!("{}", latency.line(inputs.batch)));
    }
    if args.profile {
        match policy.last_program() {
            Some(program) => print_profile(program)?,
            None => note(
                "note: an adaptive solver has no single program to profile: use --profile with --solver euler, heun, \
                 midpoint or rk4",
            ),
        }
    }
    if let Some((file, format)) = out {
        write_file(file, &format.encode(&chunk, &noise, [&shape, &wide])?)?;
    }
    if let Some(file) = &args.plot {
        let image = if pictures::is_single(&policy, &inputs) {
            pictures::ways(&mut policy, &inputs, args.seed)?
        } else {
            let path = policy.predict_path(&observations, &noise)?;
            plot(&policy, &path, &inputs.names)?
        };
        write_file(file, &image.to_png()?)?;
    }
    args.field.as_ref().map_or(Ok(()), |file| write_file(file, &pictures::field(&mut policy)?.to_png()?))
}

impl Args {
    /// The noise [B, H, A] that the flags ask for.
    fn noise(&self, policy: &Policy, batch: usize) -> Result<Vec<f32>> {
        let kind = match self.noise.as_str() {
            "seeded" => Noise::Seeded(self.seed),
            "zero" => Noise::Zero,
            file => return inputs::noise_from_file(policy, Path::new(file), batch),
        };
        let len = policy.config().noise_len();
        Ok((0..batch).flat_map(|sample| kind.draw(sample, 0, len)).collect())
    }
}

impl Format {
    /// What a file's name asks for.
    fn of(file: &Path) -> Result<Self> {
        match file.extension().and_then(OsStr::to_str) {
            Some("safetensors") => Ok(Self::Safetensors),
            Some("json") => Ok(Self::Json),
            _ => Err(Error::input(format!("--out {}: use .safetensors or .json", file.display()))),
        }
    }

    fn encode(self, chunk: &Chunk, noise: &[f32], [shape, wide]: [&[usize]; 2]) -> Result<Vec<u8>> {
        let tensors: [(&str, &[usize], &[f32]); 3] = [
            ("actions", shape, &chunk.actions),
            ("actions_normalized", wide, &chunk.normalized),
            ("noise", wide, noise),
        ];
        match self {
            Self::Safetensors => {
                to_safetensors(tensors.map(|(name, shape, values)| (name.to_owned(), shape, values)))
            }
            Self::Json => {
                let entry = |(name, shape, values): (&str, &[usize], &[f32])| {
                    (name.to_owned(), nested(values, shape))
                };
                Ok(Value::Object(tensors.map(entry).into_iter().collect()).to_string().into_bytes())
            }
        }
    }
}

/// Values as lists of lists, as the shape says, each in the fewest digits that bring its f32 back.
fn nested(values: &[f32], shape: &[usize]) -> Value {
    match shape {
        [] | [_] => values.iter().map(|value| json!(value.to_string().parse::<f64>().ok())).collect(),
        [first, rest @ ..] => values.chunks(values.len() / first).map(|part| nested(part, rest)).collect(),
    }
}

/// The chunks as tables for people.
fn print(name: &str, policy: &Policy, inputs: &Inputs, chunk: &Chunk, evaluations: f64) {
    let config = policy.config();
    let (slots, dims) = (config.chunk_size, config.action().1);
    let Config { objective, flow, .. } = config;
    let steps = match (objective, flow.solver, flow.num_steps) {
        (Objective::Regression, ..) => "a regression".to_owned(),
        (Objective::Mip, ..) => "MIP".to_owned(),
        (Objective::Flow, Solver::Dopri5, _) => "dopri5".to_owned(),
        (Objective::Flow, solver, 1) => format!("1 solver step ({})", solver.name()),
        (Objective::Flow, solver, steps) => format!("{steps} solver steps ({})", solver.name()),
    };
    let passes = if evaluations == 1.0 { "one pass".to_owned() } else { format!("{evaluations} passes") };
    println!("policy {name} on {}: {} x {slots} actions, {steps}, {passes}", policy.device(), inputs.batch);
    let column = |i: usize| inputs.names.get(i).cloned().unwrap_or_else(|| format!("action {i}"));
    for (sample, actions) in chunk.actions.chunks(slots * dims).enumerate().take(SHOWN) {
        let title = if inputs.batch == 1 { String::new() } else { format!("#{sample}") };
        println!("{title:<6}{}", (0..dims).map(|i| format!("{:>11}", column(i))).collect::<String>());
        for (slot, action) in actions.chunks(dims).enumerate() {
            println!("{slot:>6}{}", action.iter().map(|value| format!("{value:>11.4}")).collect::<String>());
        }
    }
    if inputs.batch > SHOWN {
        println!("... {} more: --out FILE keeps them all", inputs.batch - SHOWN);
    }
}

/// The first sample's path.
fn plot(policy: &Policy, path: &[Vec<f32>], names: &[String]) -> Result<Image> {
    let config = policy.config();
    let (slots, dim) = (config.chunk_size, config.action().1);
    let values: Vec<f32> = path.iter().flat_map(|point| &point[..slots * dim]).copied().collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
    let (low, high) = policy.normalizer().bounds().map_or((vec![], vec![]), |(l, h)| (wide(l), wide(h)));
    let flow = config.objective == Objective::Flow;
    let title = match config.flow.solver {
        Solver::Dopri5 if flow => "From noise to action: the ends of dopri5's path".to_owned(),
        solver if flow => format!("From noise to action, {} steps: {}", solver.name(), path.len() - 1),
        _ => format!("From zero to action, passes: {}", path.len() - 1),
    };
    let path = SolverPath { values: &values, slots, dim, names: &names, low: &low, high: &high };
    noise_to_action(&title, &path)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
