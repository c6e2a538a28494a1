//! `flowgpu train`: a preset or a checkpoint, a data set, settings; a run folder comes out.

mod curve;
mod features;
mod recipe;
mod reflow;
mod settings;

use std::path::PathBuf;

use clap::ArgAction;
use serde_json::json;

use super::common::{DeviceArgs, dataset_folder, note, write_file};
use super::contract;
use crate::data::{Augmentation, Dataset, VALIDATION, check_width};
use crate::eval::{Options, check_contract, evaluate};
use crate::graph::Device;
use crate::memory::in_words;
use crate::policy::{Backbone, Config, FeatureType, Normalizer, Policy, RunDir, Stats};
use crate::report::plot::{Scale, Series, curves};
use crate::train::data::{TrainingData, statistics};
use crate::train::{EvalOutcome, Outcome, Run, Trainer};
use crate::{Error, Result, sim, train};
use recipe::{Recipe, fresh, resumed};
use reflow::Reflow;
use settings::Settings;

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configuration to start from [default: pursuit, or what the policy to start from was trained for]
    #[arg(long)]
    preset: Option<String>,
    /// Overrides a key of the configuration, as chunk_size=4 or flow.num_steps=10
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Fine-tunes this policy: a pretrained_model, checkpoint or run folder
    #[arg(long, alias = "policy-path", value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Starts the vision transformer from these weights: safetensors with the names of torchvision, timm or Hugging Face's
    /// ViTModel, trained on ImageNet's normalisation (for others, see `flowgpu import weights`)
    #[arg(long, value_name = "FILE")]
    vision_weights: Option<PathBuf>,
    /// Straightens this policy's paths, so that it needs fewer solver steps: a built-in name, or a folder as of
    /// --policy. Learns on its samples instead of the data set's actions
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "policy")]
    reflow_from: Option<String>,
    /// Solver steps of the samples that --reflow-from learns on [default: 50]
    #[arg(long, value_name = "N", requires = "reflow_from")]
    reflow_steps: Option<usize>,
    /// Takes the first N episodes of the data set only
    #[arg(long, value_name = "N")]
    dataset_episodes: Option<usize>,
    /// Trains a policy for each number of episodes, the data set's first ones, evaluates each in closed loop, and draws
    /// learning_curve.png: as 10,50,100,200
    #[arg(long, value_name = "N1,N2,..", value_delimiter = ',', conflicts_with_all = ["dataset_episodes", "profile"])]
    learning_curve: Option<Vec<usize>>,
    /// Family the configuration must be of
    #[arg(long)]
    policy_type: Option<String>,
    /// Data set folder; may be given several times [default: outputs/data/ENV of the preset, recorded if it
    /// is not there]
    #[arg(long, value_name = "DIR")]
    dataset_root: Vec<PathBuf>,
    /// Data set owner/name, in LeRobot's local cache or on the Hub; may be given several times. Where --dataset-root
    /// is given as well, the data set is there
    #[arg(long, value_name = "OWNER/NAME")]
    dataset_repo_id: Vec<String>,
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

/// Trains.
///
/// # Errors
/// If a setting, the configuration or the data set is of no use, or the work fails.
pub fn run(mut args: Args) -> Result<()> {
    args.check()?;
    if args.dataset_root.is_empty() {
        let roots = args.dataset_repo_id.iter().map(|repo_id| dataset_folder(repo_id));
        args.dataset_root = roots.collect::<Result<_>>()?;
    }
    if let Some(numbers) = &args.learning_curve {
        return curve::run(&args, numbers);
    }
    let (recipe, run_dir) = if args.resume { resumed(&args)? } else { fresh(&args)? };
    let device = args.device.open()?;
    if let Some(checkpoint) = train(&args, recipe, &run_dir, &device)? {
        println!("{}", checkpoint.display());
    }
    Ok(())
}

impl Args {
    /// Refuses a mistyped environment, and what a run that goes on cannot change.
    fn check(&self) -> Result<()> {
        self.settings.check()?;
        self.env.as_deref().map_or(Ok(()), |env| sim::make(env).map(drop))?;
        if !self.resume {
            return Ok(());
        }
        let settled = [
            ("--preset", self.preset.is_some()),
            ("--set", !self.set.is_empty()),
            ("--policy", self.policy.is_some()),
            ("--policy-type", self.policy_type.is_some()),
            ("--vision-weights", self.vision_weights.is_some()),
            ("--reflow-from", self.reflow_from.is_some()),
            ("--reflow-steps", self.reflow_steps.is_some()),
            ("--learning-curve", self.learning_curve.is_some()),
            ("--objective", self.settings.objective.is_some()),
            ("--dropout", self.settings.dropout.is_some()),
        ];
        let given: Vec<_> = settled.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect();
        if given.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!(
            "--resume goes on with the run's own configuration: leave out {}",
            given.join(", ")
        )))
    }
}

/// Trains into a folder; the last checkpoint, or nothing where a step was only profiled.
fn train(args: &Args, mut recipe: Recipe, run_dir: &RunDir, device: &Device) -> Result<Option<PathBuf>> {
    // Before pictures are decoded: a mistyped name should not cost minutes.
    let backbone = args.vision_weights.as_ref().map(Backbone::read).transpose()?;
    let mut dataset = recipe.dataset.take().map_or_else(|| Dataset::open_all(&recipe.roots), Ok)?;
    for warning in &dataset.warnings {
        note(format!("warning: {warning}"));
    }
    let env = recipe.env.clone().or_else(|| dataset.info.robot_type.clone());
    let contract = contract::of_all(&dataset.roots)?;
    if let (Some(env), Some(contract), 1..) = (&env, &contract, recipe.settings.env_eval_freq) {
        check_contract(sim::make(env)?.spec(), &recipe.config, contract)?;
    }
    for (key, feature) in recipe.config.states() {
        check_width(&dataset, key, feature.shape[0])?;
    }
    // A policy that goes on learning keeps the units it learnt in.
    let stats = match &recipe.stats {
        Some(stats) => stats.clone(),
        None => {
            // Those of pictures, where the data set has none, take a while: only if the policy is scaled by them.
            if let Some(names) = recipe.config.normalization_of(FeatureType::Visual).statistics() {
                for (key, _) in recipe.config.images() {
                    dataset.complete_stats(key, &names)?;
                }
            }
            bounded(statistics(&dataset)?, &recipe.config, env.as_deref())?
        }
    };
    // Statistics are those of the whole data set, as in LeRobot.
    if let Some(episodes) = recipe.episodes {
        keep_first(&mut dataset, &recipe.settings.dataset_split, episodes)?;
    }
    told_splits(&dataset, &recipe.settings.dataset_split);
    let normalizer = Normalizer::new(&recipe.config, &stats)?;
    if recipe.reflow.is_some() && recipe.settings.augmentation() != Augmentation::NONE {
        return Err(Error::input(
            "--random-crop and --color-jitter do not go with --reflow-from: the teacher's samples are of the pictures \
             as they are",
        ));
    }
    let settings = &mut recipe.settings;
    let mut data = TrainingData::new(dataset, &recipe.config, normalizer, settings)?;
    if let Some(epochs) = args.settings.epochs {
        settings.steps = epochs * data.steps_per_epoch();
    }
    let (frames, episodes) = data.used();
    let comparison = match &recipe.reflow {
        Some(reflow) => Some(reflow.couple(&mut data, device, settings.seed, env.as_deref())?),
        None => None,
    };
    let train_config = json!({
        "flowgpu": env!("CARGO_PKG_VERSION"),
        "policy": recipe.config.to_json(),
        "train": settings,
        "dataset_root": recipe.roots,
        "dataset_episodes": recipe.episodes,
        "vision_weights": recipe.vision_weights,
        "reflow_from": recipe.reflow.as_ref().map(|reflow| &reflow.from),
        "reflow_steps": recipe.reflow.as_ref().and_then(Reflow::fixed_steps),
        "env": env,
        "contract": contract,
        "device": device.to_string(),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
    });
    let mut trainer =
        Trainer::new(device, &recipe.config, &recipe.settings, data, stats, recipe.from.as_mut())?;
    if let (Some(mut backbone), Some(file)) = (backbone, &args.vision_weights) {
        trainer.start_vision(&mut backbone)?;
        note(format!("vision starts from {} ({} names)", file.display(), backbone.library()));
    }
    if args.resume {
        let last = run_dir.last()?;
        if let Some(warning) = &last.warning {
            note(format!("warning: {warning}"));
        }
        trainer.restore(&last.folder)?;
        note(format!("going on from {}", last.folder.display()));
    }
    if recipe.config.images().next().is_some() {
        note(match trainer.image_bytes() {
            0 => "pictures are decoded as they are needed".to_owned(),
            bytes => format!("all pictures are decoded: {} of memory", in_words(bytes as u64)),
        });
    }
    note(format!(
        "{frames} frames in {episodes} episodes, {} steps an epoch; run folder {}",
        trainer.steps_per_epoch(),
        run_dir.root().display()
    ));
    if args.profile {
        profile(&mut trainer)?;
        return Ok(None);
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
    if let Some(comparison) = comparison {
        let gained = comparison.finish(&mut acting(&trainer)?)?;
        train::append_metrics(run_dir, &json!({"step": trainer.done(), "reflow": gained}))?;
    }
    draw_losses(run_dir, &outcome)?;
    Ok(Some(outcome.checkpoint))
}

/// First seed of the evaluations while training: neither a recording's nor those that results are quoted for.
const EVAL_SEED: u64 = 1 << 20;

/// How the policy does in its environment as it stands. Success comes first, then speed.
fn in_closed_loop(trainer: &Trainer, env: Option<&str>) -> Result<EvalOutcome> {
    let name = env.ok_or_else(|| {
        Error::input("--env-eval-freq needs an environment, and the data set names none: give --env")
    })?;
    let environment = sim::make(name)?;
    let options =
        Options { episodes: trainer.settings.env_eval_episodes, seed: EVAL_SEED, ..Options::default() };
    let report = evaluate(environment.as_ref(), &mut acting(trainer)?, options)?;
    Ok(EvalOutcome { score: report.score(), metrics: report.means() })
}

/// The policy as it stands, over the weights that are best to act with.
fn acting(trainer: &Trainer) -> Result<Policy> {
    let normalizer = Normalizer::new(&trainer.config, &trainer.stats)?;
    let (config, network) = (trainer.config.clone(), trainer.network().clone());
    Ok(Policy::new(config, network, trainer.acting_weights(), normalizer))
}

/// Forgets all but the first episodes of the split to train on. Statistics stay those of the whole data set, as in LeRobot.
fn keep_first(dataset: &mut Dataset, split: &str, episodes: usize) -> Result<()> {
    let all = dataset.split(split).len();
    if all > 0 && !(1..=all).contains(&episodes) {
        return Err(Error::input(format!(
            "--dataset-episodes {episodes}: the data set has {all} episodes to train on, use 1 to {all}"
        )));
    }
    dataset.keep_first(split, episodes);
    Ok(())
}

/// Says which splits are used, where the data set has more than one.
fn told_splits(dataset: &Dataset, split: &str) {
    if dataset.splits.iter().all(|known| known.name == split) {
        return;
    }
    let (train, validation) = (dataset.split(split).len(), dataset.split(VALIDATION).len());
    note(match validation {
        1.. if split != VALIDATION => format!(
            "training on split `{split}` ({train} episodes), the validation loss is of split `{VALIDATION}` \
             ({validation} episodes) instead of --eval-split's"
        ),
        _ => format!("training on split `{split}` ({train} episodes)"),
    });
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
    write_file(&run_dir.root().join("loss.png"), &image.to_png()?)
}
