//! `flowgpu bench`: what a policy costs on a device. Time, memory, and how both grow.

mod dataset;
mod growth;
mod memory;
mod speed;
mod subject;

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::common::{DeviceArgs, note};
use crate::Result;
use crate::flow::{MAX_STEPS, Solver};
use crate::graph::Device;
use crate::policy::presets::preset;
use crate::policy::{Config, Objective, Pretrained, WeightStorage, resolve_policy};

/// Samples of a batch at most.
const MOST_SAMPLES: i64 = 65_536;

/// Flags of the subcommand. With none, the built-in policy makes a chunk at a time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A built-in policy, or a pretrained_model, checkpoint or run folder
    #[arg(long, alias = "policy-path", value_name = "NAME|DIR", default_value = "pursuit")]
    policy: String,
    /// A configuration of that name instead, with its first weights: what training it would cost
    #[arg(long, value_name = "NAME", conflicts_with = "policy")]
    preset: Option<String>,
    /// Observations of a run
    #[arg(
        long,
        value_name = "B",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=MOST_SAMPLES)
    )]
    batch_size: u32,
    /// Solver steps [default: the policy's]
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "train",
        value_parser = clap::value_parser!(u32).range(1..=MAX_STEPS as i64)
    )]
    steps: Option<u32>,
    /// euler, heun, midpoint, rk4 or dopri5, which chooses its own steps [default: the policy's]
    #[arg(long, value_name = "NAME", conflicts_with = "train", value_parser = Solver::named)]
    solver: Option<Solver>,
    /// What the weights are stored as: f16 halves their memory; f16-products has a GPU's matrix units multiply as well
    #[arg(
        long,
        value_name = "f32|f16|f16-products",
        default_value_t,
        conflicts_with = "train",
        value_parser = WeightStorage::named
    )]
    weights: WeightStorage,
    /// Measures a training step of that batch instead: AdamW, clipping and the average included
    #[arg(long)]
    train: bool,
    /// Runs that are counted [default: as many as fit into 3 seconds, at least 5]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Says what memory is for, buffer by buffer, and runs nothing
    #[arg(long, conflicts_with_all = ["repeat", "growth"])]
    memory: bool,
    /// Measures how the time grows with batch, tokens, width and solver steps, and draws it as a PNG; `--repeat` runs
    /// each size so often
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// With `--growth`: also what more and more of this data set costs, to open and by the batch
    #[arg(long, value_name = "DIR", requires = "growth")]
    dataset_root: Option<PathBuf>,
    /// Prints one JSON object on stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// The network that is measured.
struct Network {
    /// What a user calls it.
    name: String,
    config: Config,
    /// Its weights; none for a preset.
    pretrained: Option<Pretrained>,
}

/// What is measured of it, and where.
#[derive(Clone)]
struct Setting {
    device: Device,
    batch: usize,
    weights: WeightStorage,
    train: bool,
}

/// Measures.
///
/// # Errors
/// If the policy or the device is of no use, there is too little memory, or the device fails.
pub fn run(args: Args) -> Result<()> {
    let start = Instant::now();
    let network = args.network()?;
    let read_ms = milliseconds(start);
    let setting = Setting {
        device: args.device.open()?,
        batch: args.batch_size as usize,
        weights: args.weights,
        train: args.train,
    };
    setting.weights.check(&setting.device)?;
    let repeat = args.repeat.map(|repeat| repeat as usize);
    let mut json = setting.to_json(&network);
    if args.memory {
        memory::print(&network, &setting, args.json.then_some(&mut json))?;
    } else if let Some(file) = &args.growth {
        let dataset_root = args.dataset_root.as_deref();
        growth::run(&network, &setting, repeat, dataset_root, file, args.json.then_some(&mut json))?;
    } else {
        memory::check(&network, &setting)?;
        speed::run(network, &setting, repeat, read_ms, args.json.then_some(&mut json))?;
    }
    if args.json {
        println!("{json}");
    }
    Ok(())
}

impl Args {
    /// The network that the flags name, with the solver that they ask for.
    fn network(&self) -> Result<Network> {
        let mut network = match &self.preset {
            Some(name) => Network { name: name.clone(), config: preset(name)?, pretrained: None },
            None => {
                let pretrained = resolve_policy(&self.policy)?;
                pretrained.notes.iter().for_each(note);
                let config = pretrained.config.clone();
                Network { name: self.policy.clone(), config, pretrained: Some(pretrained) }
            }
        };
        if network.config.objective != Objective::Flow && (self.steps.is_some() || self.solver.is_some()) {
            note("note: only policies of objective flow have a solver: --solver and --steps do nothing here");
        }
        let flow = &mut network.config.flow;
        if let Some(solver) = self.solver {
            flow.solver = solver;
        }
        if let Some(steps) = self.steps {
            flow.num_steps = steps as usize;
        }
        if let Some(pretrained) = &mut network.pretrained {
            pretrained.config.flow = network.config.flow;
        }
        Ok(network)
    }
}

impl Network {
    /// How its chunks are made, for people.
    fn solver(&self) -> String {
        let flow = &self.config.flow;
        match (self.config.objective, flow.solver, flow.num_steps) {
            (Objective::Regression, ..) => "a regression".to_owned(),
            (Objective::Mip, ..) => "MIP".to_owned(),
            (Objective::Flow, Solver::Dopri5, _) => "dopri5".to_owned(),
            (Objective::Flow, solver, 1) => format!("1 solver step ({})", solver.name()),
            (Objective::Flow, solver, steps) => format!("{steps} solver steps ({})", solver.name()),
        }
    }

    /// Whether its solver asks for one velocity after the other, so that there is no program of a whole chunk.
    fn is_adaptive(&self) -> bool {
        self.config.objective == Objective::Flow && self.config.flow.solver == Solver::Dopri5
    }
}

impl Setting {
    /// What every JSON object begins with.
    fn to_json(&self, network: &Network) -> Value {
        let config = &network.config;
        let flow = (config.objective == Objective::Flow && !self.train).then_some(config.flow);
        json!({
            "policy": network.name,
            "device": self.device.to_string(),
            "measures": if self.train { "training step" } else { "chunk" },
            "batch_size": self.batch,
            "weights": self.weights.to_string(),
            "solver": flow.map(|flow| flow.solver.name()),
            "solver_steps": flow.filter(|_| !network.is_adaptive()).map(|flow| flow.num_steps),
        })
    }

    /// What is measured, for people.
    fn title(&self, network: &Network) -> String {
        let (name, device, batch) = (&network.name, &self.device, self.batch);
        if self.train {
            return format!("{name} on {device}: a training step of {batch} samples");
        }
        let (slots, solver) = (network.config.chunk_size, network.solver());
        format!("{name} on {device}: {batch} x {slots} actions, {solver}, weights {}", self.weights)
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Bytes as MiB.
fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
