//! `flowgpu train`: a preset or a checkpoint, a data set, settings; a run folder comes out.

use std::path::{Path, PathBuf};

use clap::ArgAction;
use serde_json::{Value, json};

use super::common::{DeviceArgs, note};
use super::recording;
use crate::data::Dataset;
use crate::eval::{Options, evaluate};
use crate::graph::Device;
use crate::policy::presets::preset;
use crate::policy::{Config, Normalizer, Policy, Pretrained, RunDir, Stats, resolve};
use crate::report::plot::{Scale, Series, curves};
use crate::train::data::{TrainingData, statistics};
use crate::train::{EvalOutcome, OptimizerKind, Outcome, Run, Schedule, TrainConfig, Trainer};
use crate::{Error, Result, sim, train};

/// Frames that are recorded where there is no data set yet.
const FRAMES: usize = 20_000;

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to start from
    #[arg(long, default_value = "pursuit")]
    preset: String,
    /// Overrides a key of the configuration, as chunk_size=4 or flow.num_steps=10
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Fine-tunes this policy: a pretrained_model, checkpoint or run folder
    #[arg(long, alias = "policy-path", value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Family the configuration must be of
    #[arg(long)]
    policy_type: Option<String>,
    /// Data set folder; may be given several times [default: outputs/data/pursuit, recorded if it is not there]
    #[arg(long, value_name = "DIR")]
    dataset_root: Vec<PathBuf>,
    /// Run folder [default: outputs/train/PRESET, or the next free name]
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Goes on with the run in --output-dir
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    resume: bool,
    /// Environment of closed-loop evaluations [default: the data set's robot_type]
    #[arg(long)]
    env: Option<String>,
    /// Prints where a step's time goes, kernel by kernel, and stops
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    settings: Settings,
}

/// Settings that are given; the others keep their values.
#[derive(Debug, Clone, clap::Args)]
struct Settings {
    /// Samples of a step [default: 64]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Optimizer steps in all [default: 18000]
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Passes over the training episodes, instead of --steps
    #[arg(long)]
    epochs: Option<u64>,
    /// adam or adamw
    #[arg(long, value_parser = optimizer)]
    optimizer: Option<OptimizerKind>,
    /// Highest learning rate
    #[arg(long)]
    lr: Option<f64>,
    /// Lowest learning rate of a cosine schedule
    #[arg(long)]
    min_lr: Option<f64>,
    /// Steps over which the learning rate rises
    #[arg(long)]
    warmup_steps: Option<u64>,
    /// constant or cosine
    #[arg(long, value_parser = schedule)]
    schedule: Option<Schedule>,
    /// Adam's beta 1
    #[arg(long)]
    beta1: Option<f64>,
    /// Adam's beta 2
    #[arg(long)]
    beta2: Option<f64>,
    /// Adam's epsilon
    #[arg(long)]
    eps: Option<f64>,
    /// Weight decay
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Largest norm of the gradient; 0 for none
    #[arg(long)]
    grad_clip_norm: Option<f64>,
    /// What the average of the weights keeps at each step; 0 keeps no average
    #[arg(long)]
    ema_decay: Option<f64>,
    /// Probability that an activation is dropped
    #[arg(long)]
    dropout: Option<f64>,
    /// Keys all randomness
    #[arg(long)]
    seed: Option<u64>,
    /// Share of the episodes kept for the validation loss
    #[arg(long)]
    eval_split: Option<f64>,
    /// Steps between two lines of metrics
    #[arg(long)]
    log_freq: Option<u64>,
    /// Steps between two checkpoints
    #[arg(long)]
    save_freq: Option<u64>,
    /// Steps between two validation losses; 0 for none
    #[arg(long)]
    eval_freq: Option<u64>,
    /// Steps between two closed-loop evaluations, which decide what is best; 0 for none
    #[arg(long)]
    env_eval_freq: Option<u64>,
    /// Episodes of such an evaluation
    #[arg(long)]
    env_eval_episodes: Option<usize>,
    /// Stops once the smoothed training loss is at most this
    #[arg(long)]
    target_loss: Option<f64>,
    /// Stops after so many minutes, with the schedule fitted to them
    #[arg(long)]
    max_minutes: Option<f64>,
}

fn optimizer(name: &str) -> Result<OptimizerKind, String> {
    serde_json::from_value(json!(name)).map_err(|_| "use adam or adamw".to_owned())
}

fn schedule(name: &str) -> Result<Schedule, String> {
    serde_json::from_value(json!(name)).map_err(|_| "use constant or cosine".to_owned())
}

impl Settings {
    /// Puts what is given over `base`.
    fn over(&self, base: TrainConfig) -> TrainConfig {
        TrainConfig {
            batch_size: self.batch_size.unwrap_or(base.batch_size),
            steps: self.steps.unwrap_or(base.steps),
            optimizer: self.optimizer.unwrap_or(base.optimizer),
            lr: self.lr.unwrap_or(base.lr),
            min_lr: self.min_lr.unwrap_or(base.min_lr),
            warmup_steps: self.warmup_steps.unwrap_or(base.warmup_steps),
            schedule: self.schedule.unwrap_or(base.schedule),
            betas: [self.beta1.unwrap_or(base.betas[0]), self.beta2.unwrap_or(base.betas[1])],
            eps: self.eps.unwrap_or(base.eps),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            grad_clip_norm: self.grad_clip_norm.unwrap_or(base.grad_clip_norm),
            ema_decay: self.ema_decay.unwrap_or(base.ema_decay),
            seed: self.seed.unwrap_or(base.seed),
            eval_split: self.eval_split.unwrap_or(base.eval_split),
            log_freq: self.log_freq.unwrap_or(base.log_freq),
            save_freq: self.save_freq.unwrap_or(base.save_freq),
            eval_freq: self.eval_freq.unwrap_or(base.eval_freq),
            env_eval_freq: self.env_eval_freq.unwrap_or(base.env_eval_freq),
            env_eval_episodes: self.env_eval_episodes.unwrap_or(base.env_eval_episodes),
            target_loss: self.target_loss.unwrap_or(base.target_loss),
            max_minutes: self.max_minutes.unwrap_or(base.max_minutes),
        }
    }
}

/// What a run is made from, new or resumed.
struct Recipe {
    config: Config,
    settings: TrainConfig,
    roots: Vec<PathBuf>,
    env: Option<String>,
    from: Option<Pretrained>,
}

/// Trains.
///
/// # Errors
/// If a setting, the configuration or the data set is of no use, or the work fails.
pub fn run(args: Args) -> Result<()> {
    let (recipe, run_dir) = if args.resume { resumed(&args)? } else { fresh(&args)? };
    let device = args.device.open()?;
    train(&args, recipe, &run_dir, &device)
}

/// The recipe of a new run, and its folder.
fn fresh(args: &Args) -> Result<(Recipe, RunDir)> {
    let from = args.policy.as_ref().map(|path| pretrained(path)).transpose()?;
    let config = match &from {
        Some(pretrained) => pretrained.config.clone(),
        None => preset(&args.preset)?,
    };
    let mut overrides = args.set.clone();
    overrides.extend(args.settings.dropout.map(|share| format!("dropout={share}")));
    let config = overridden(&config, &overrides)?;
    let family = config.to_json()["type"].as_str().unwrap_or_default().to_owned();
    if let Some(wanted) = args.policy_type.as_ref().filter(|wanted| **wanted != family) {
        return Err(Error::input(format!(
            "--policy-type is {wanted}, but the configuration's `type` is {family}"
        )));
    }
    let base = if args.preset.ends_with("-seed") { TrainConfig::seed() } else { TrainConfig::default() };
    let settings = args.settings.over(base);
    settings.check()?;
    let roots =
        if args.dataset_root.is_empty() { vec![default_dataset()?] } else { args.dataset_root.clone() };
    let run_dir = match &args.output_dir {
        Some(root) => RunDir::create(root)?,
        None => next_free(&args.preset)?,
    };
    Ok((Recipe { config, settings, roots, env: args.env.clone(), from }, run_dir))
}

fn pretrained(path: &Path) -> Result<Pretrained> {
    let found = resolve(path)?;
    if let Some(warning) = &found.warning {
        note(format!("warning: {warning}"));
    }
    note(format!("starting from {}", found.folder.display()));
    Pretrained::load(&found.folder)
}

/// The recipe of a run that goes on: as it was, with what is given put over it.
fn resumed(args: &Args) -> Result<(Recipe, RunDir)> {
    let root = args
        .output_dir
        .clone()
        .ok_or_else(|| Error::input("--resume goes on with a run: name its folder with --output-dir"))?;
    let run_dir = RunDir::resume(root)?;
    let last = run_dir.last()?;
    let folder = last.folder.join(crate::policy::run_dir::PRETRAINED);
    let loaded = Pretrained::load(&folder)?;
    let place = folder.join("train_config.json");
    let missing = |what: &str| Error::input(format!("{}: {what}", place.display()));
    let saved =
        loaded.train_config.clone().ok_or_else(|| missing("it is missing, so the run cannot go on"))?;
    let base: TrainConfig = serde_json::from_value(saved["train"].clone())
        .map_err(|e| missing(&format!("`train` cannot be read: {e}")))?;
    let roots = match saved["dataset_root"].as_array() {
        _ if !args.dataset_root.is_empty() => args.dataset_root.clone(),
        Some(roots) => roots.iter().filter_map(|root| root.as_str().map(PathBuf::from)).collect(),
        None => return Err(missing("`dataset_root` is missing: give --dataset-root")),
    };
    let env = args.env.clone().or_else(|| saved["env"].as_str().map(str::to_owned));
    let settings = args.settings.over(base);
    settings.check()?;
    Ok((Recipe { config: loaded.config, settings, roots, env, from: None }, run_dir))
}

/// A configuration with some keys replaced; a value is JSON, or else text.
fn overridden(config: &Config, overrides: &[String]) -> Result<Config> {
    let mut json = config.to_json();
    for assignment in overrides {
        let (path, text) = assignment
            .split_once('=')
            .ok_or_else(|| Error::input(format!("--set {assignment}: write it as KEY=VALUE")))?;
        let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let mut place = &mut json;
        for key in path.split('.') {
            place = match place {
                Value::Object(map) => map.entry(key).or_insert_with(|| json!({})),
                _ => {
                    return Err(Error::input(format!(
                        "--set {assignment}: `{path}` is no place in the configuration"
                    )));
                }
            };
        }
        *place = value;
    }
    Config::parse(&json.to_string())
}

/// Where data is recorded, and looked for, unless the user says otherwise.
fn default_dataset() -> Result<PathBuf> {
    let root = PathBuf::from("outputs/data/pursuit");
    if !root.join("meta/info.json").is_file() {
        note(format!("recording {FRAMES} frames of pursuit to {}", root.display()));
        let environment = sim::make("pursuit")?;
        let parts = recording::default_mixture(environment.spec(), FRAMES);
        recording::record_dataset(&root, environment.as_ref(), parts, 0)?;
    }
    Ok(root)
}

/// `outputs/train/NAME`, or that with the first number that is not taken.
fn next_free(name: &str) -> Result<RunDir> {
    let mut root = RunDir::path_of(name);
    let mut number = 1;
    while root.exists() {
        number += 1;
        root = RunDir::path_of(&format!("{name}-{number}"));
    }
    RunDir::create(root)
}

fn train(args: &Args, mut recipe: Recipe, run_dir: &RunDir, device: &Device) -> Result<()> {
    let dataset = Dataset::open_all(&recipe.roots)?;
    for warning in &dataset.warnings {
        note(format!("warning: {warning}"));
    }
    let env = recipe.env.clone().or_else(|| dataset.info.robot_type.clone());
    // A policy that goes on learning keeps the units it learnt in.
    let stats = match &recipe.from {
        Some(pretrained) => pretrained.stats.clone(),
        None => bounded(statistics(&dataset)?, &recipe.config, env.as_deref())?,
    };
    let normalizer = Normalizer::new(&recipe.config, &stats)?;
    let (frames, episodes) = (dataset.len(), dataset.episodes.len());
    let settings = &mut recipe.settings;
    let data = TrainingData::new(
        dataset,
        &recipe.config,
        normalizer,
        settings.batch_size,
        settings.eval_split,
        settings.seed,
    )?;
    if let Some(epochs) = args.settings.epochs {
        settings.steps = epochs * data.steps_per_epoch();
    }
    let train_config = json!({
        "flowgpu": env!("CARGO_PKG_VERSION"),
        "policy": recipe.config.to_json(),
        "train": settings,
        "dataset_root": recipe.roots,
        "env": env,
        "device": device.to_string(),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
    });
    let mut trainer =
        Trainer::new(device, &recipe.config, &recipe.settings, data, stats, recipe.from.as_mut())?;
    if args.resume {
        let last = run_dir.last()?;
        if let Some(warning) = &last.warning {
            note(format!("warning: {warning}"));
        }
        trainer.restore(&last.folder)?;
        note(format!("going on from {}", last.folder.display()));
    }
    note(format!(
        "{frames} frames in {episodes} episodes, {} steps an epoch; run folder {}",
        trainer.steps_per_epoch(),
        run_dir.root().display()
    ));
    if args.profile {
        return profile(&mut trainer);
    }
    let mut evaluate = |trainer: &Trainer| in_closed_loop(trainer, env.as_deref());
    let with = Run {
        dir: run_dir,
        train_config,
        evaluate: (recipe.settings.env_eval_freq > 0).then_some(&mut evaluate),
        progress: &mut |line| note(line),
    };
    let outcome = train::run(&mut trainer, with)?;
    note(format!("{}; loss {:.4}", outcome.reason, outcome.loss));
    draw_losses(run_dir, &outcome)?;
    println!("{}", outcome.checkpoint.display());
    Ok(())
}

/// First seed of the evaluations while training: neither a recording's nor those that results are quoted for.
const EVAL_SEED: u64 = 1 << 20;

/// How the policy does in its environment as it stands. Success comes first, then speed.
fn in_closed_loop(trainer: &Trainer, env: Option<&str>) -> Result<EvalOutcome> {
    let name = env.ok_or_else(|| {
        Error::input("--env-eval-freq needs an environment, and the data set names none: give --env")
    })?;
    let environment = sim::make(name)?;
    let normalizer = Normalizer::new(&trainer.config, &trainer.stats)?;
    let (config, network) = (trainer.config.clone(), trainer.network().clone());
    let mut policy = Policy::new(config, network, trainer.acting_weights(), normalizer);
    let options =
        Options { episodes: trainer.settings.env_eval_episodes, seed: EVAL_SEED, ..Options::default() };
    let report = evaluate(environment.as_ref(), &mut policy, options)?;
    let mean = |wanted: &str| report.metrics.iter().find(|(name, _)| *name == wanted).map(|(_, s)| s.mean);
    let steps = mean("steps_to_capture").unwrap_or_default();
    let metrics = json!({"success_rate": report.success_rate, "steps_to_capture": steps});
    Ok(EvalOutcome { score: report.success_rate - steps / 1000.0, metrics })
}

/// The statistics with the environment's action bounds, where the data set is of a known environment: MIN_MAX then
/// scales by the bounds, and what a policy does stays inside them.
fn bounded(mut stats: Stats, config: &Config, env: Option<&str>) -> Result<Stats> {
    let (key, width) = config.action();
    if let Some(environment) = env.and_then(|name| sim::make(name).ok()) {
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let (low, high) = (narrow(environment.spec().low), narrow(environment.spec().high));
        if low.len() == width {
            stats.insert(key, "min", &[width], low.clone())?;
            stats.insert(key, "max", &[width], high.clone())?;
            stats.set_bounds(key, &low, &high)?;
        }
    }
    Ok(stats)
}

fn profile(trainer: &mut Trainer) -> Result<()> {
    trainer.advance(0.0)?;
    trainer.report()?;
    super::common::print_profile(trainer.program().program())
}

/// Training and validation loss over steps, `loss.png` in the run's folder.
fn draw_losses(run_dir: &RunDir, outcome: &Outcome) -> Result<()> {
    let series = |name: &str, points: &[(u64, f64)]| Series {
        name: name.to_owned(),
        points: points.iter().map(|&(step, loss)| (step as f64, loss)).collect(),
    };
    let series = [series("training", &outcome.losses), series("validation", &outcome.validations)];
    let image = curves("Loss", "optimizer step", "loss", Scale::Linear, &series)?;
    let path = run_dir.root().join("loss.png");
    std::fs::write(&path, image.to_png()?).map_err(|e| Error::failure(format!("{}: {e}", path.display())))?;
    note(format!("loss curve: {}", path.display()));
    Ok(())
}
