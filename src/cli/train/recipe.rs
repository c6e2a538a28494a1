//! What a run is made from: a preset or a checkpoint, flags over it, and where its data is.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::reflow::Reflow;
use super::{Args, features};
use crate::cli::common::note;
use crate::cli::recording::{self, Part, Plan};
use crate::data::Dataset;
use crate::policy::presets::{self, Preset};
use crate::policy::{Config, Objective, Pretrained, RunDir, Stats, resolve};
use crate::sim::record::{self, Labels};
use crate::sim::{self, Scripted};
use crate::train::TrainConfig;
use crate::{Error, Result};

/// The preset where neither the user nor a policy names one.
const DEFAULT: &str = "pursuit";

/// Frames that are recorded where there is no data set yet.
const FRAMES: usize = 20_000;

/// What a run is made from, new or resumed.
#[derive(Clone)]
pub struct Recipe {
    pub config: Config,
    pub settings: TrainConfig,
    pub roots: Vec<PathBuf>,
    /// What is there, where it has been read already.
    pub dataset: Option<Dataset>,
    pub env: Option<String>,
    /// The first episodes, where not all are used.
    pub episodes: Option<usize>,
    /// Whose weights it starts from.
    pub from: Option<Pretrained>,
    /// Those of the policy that goes on learning; the data set's for a new one.
    pub stats: Option<Stats>,
    /// Whose paths it straightens.
    pub reflow: Option<Reflow>,
    /// Where its vision transformer started from.
    pub vision_weights: Option<PathBuf>,
}

/// The recipe of a new run, and its folder.
pub fn fresh(args: &Args) -> Result<(Recipe, RunDir)> {
    // LeRobot's way of asking for a family is enough to ask for its preset.
    let family = args.policy_type.as_deref().filter(|name| presets::find(name).is_ok());
    let family = family.filter(|_| args.policy.is_none() && args.reflow_from.is_none());
    let named = args.preset.as_deref().or(family).map(presets::find).transpose()?;
    let reflow = args.reflow_from.as_ref().map(|from| Reflow::new(from, args.reflow_steps)).transpose()?;
    let from = match &reflow {
        Some(reflow) => Some(reflow.teacher.clone()),
        None => args.policy.as_ref().map(|path| pretrained(path)).transpose()?,
    };
    let mut dataset = None;
    let (preset, config) = match &from {
        Some(pretrained) => (named.or_else(|| trained_for(pretrained)), pretrained.config.clone()),
        None => {
            let preset = named.map_or_else(|| presets::find(DEFAULT), Ok)?;
            let config = preset.config()?;
            let own = if preset.env.is_some() || args.dataset_root.is_empty() {
                config
            } else {
                let empty = args.set.iter().find_map(|set| set.strip_prefix("empty_cameras="));
                let empty = empty.and_then(|count| count.parse().ok()).unwrap_or(0);
                let found = dataset.insert(Dataset::open_all(&args.dataset_root)?);
                features::of_dataset(&config, found, empty)?
            };
            (Some(preset), own)
        }
    };
    let mut overrides = args.set.clone();
    overrides.extend(args.settings.dropout.map(|share| format!("dropout={share}")));
    overrides.extend(args.settings.objective.map(|objective| format!("objective={}", json!(objective))));
    let config = overridden(&config, &overrides)?;
    let family = config.family.name();
    if let Some(wanted) = args.policy_type.as_ref().filter(|wanted| *wanted != family) {
        return Err(Error::input(format!(
            "--policy-type is {wanted}, but the configuration's `type` is {family}"
        )));
    }
    if let Some(reflow) = &reflow {
        if config.objective != Objective::Flow {
            return Err(Error::input("--reflow-from straightens paths, which only objective flow has"));
        }
        reflow.check_student(&config)?;
    }
    let base = match (preset, &from) {
        (None, Some(pretrained)) => saved_settings(pretrained)?,
        (preset, _) => TrainConfig::of_preset(preset.map_or(DEFAULT, |preset| preset.name)),
    };
    let settings = args.settings.over(base);
    settings.check()?;
    let most = args.learning_curve.iter().flatten().max().copied();
    let roots = match preset {
        _ if !args.dataset_root.is_empty() => args.dataset_root.clone(),
        Some(preset) => vec![default_dataset(preset, most)?],
        None => return Err(no_data(from.as_ref().and_then(Pretrained::env))),
    };
    let name = preset.map_or("policy", |preset| preset.name);
    let run_dir = match &args.output_dir {
        Some(root) => RunDir::create(root)?,
        None if args.learning_curve.is_some() => next_free(&format!("{name}-learning-curve"))?,
        None if reflow.is_some() => next_free(&format!("{name}-reflow"))?,
        None => next_free(name)?,
    };
    let (env, episodes) = (args.env.clone(), args.dataset_episodes);
    let stats = from.as_ref().map(|pretrained| pretrained.stats.clone());
    let vision_weights = args.vision_weights.clone();
    Ok((
        Recipe { config, settings, roots, dataset, env, episodes, from, stats, reflow, vision_weights },
        run_dir,
    ))
}

/// The preset for the environment that a policy was trained for.
fn trained_for(pretrained: &Pretrained) -> Option<&'static Preset> {
    let env = pretrained.env()?;
    presets::PRESETS.iter().find(|preset| preset.env == Some(&env))
}

/// The settings that a policy was trained with, or the default ones where none were saved with it.
fn saved_settings(pretrained: &Pretrained) -> Result<TrainConfig> {
    let saved = pretrained.train_config.as_ref().map_or(&Value::Null, |saved| &saved["train"]);
    if saved.is_null() {
        note(
            "note: no settings were saved with this policy, and no preset is for it: taking the default ones",
        );
        return Ok(TrainConfig::default());
    }
    note("no preset is for this policy's environment: taking the settings that it was trained with");
    serde_json::from_value(saved.clone()).map_err(|e| {
        Error::input(format!("train_config.json of this policy: `train` cannot be read: {e}; give --preset"))
    })
}

/// No preset says where the data of a policy is.
fn no_data(env: Option<String>) -> Error {
    let why = match env {
        Some(env) => format!("this policy was trained for `{env}`, which no preset is for"),
        None => "what this policy was trained for was not saved with it".to_owned(),
    };
    Error::input(format!("{why}: name the data with --dataset-root"))
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
pub fn resumed(args: &Args) -> Result<(Recipe, RunDir)> {
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
    let episodes = args.dataset_episodes.or_else(|| Some(saved["dataset_episodes"].as_u64()? as usize));
    let steps = saved["reflow_steps"].as_u64().map(|steps| steps as usize);
    let reflow = saved["reflow_from"].as_str().map(|from| Reflow::new(from, steps)).transpose()?;
    let (config, stats) = (loaded.config, Some(loaded.stats));
    let vision_weights = saved["vision_weights"].as_str().map(PathBuf::from);
    Ok((
        Recipe {
            config,
            settings,
            roots,
            dataset: None,
            env,
            episodes,
            from: None,
            stats,
            reflow,
            vision_weights,
        },
        run_dir,
    ))
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

/// Where a preset's data is recorded, and looked for, unless the user says otherwise. Where more
/// episodes are wanted than it is sure to have, there is one of its own.
fn default_dataset(preset: &Preset, episodes: Option<usize>) -> Result<PathBuf> {
    let Some(env) = preset.env else {
        return Err(Error::input(format!(
            "preset `{}` is for your own data: give --dataset-root",
            preset.name
        )));
    };
    let environment = sim::make(env)?;
    // A seed's own recipe learns from its own expert.
    let published = preset.name == "pendulum-seed";
    let name = if published { preset.name } else { env };
    let (name, frames) = match episodes {
        Some(n) if n * environment.spec().horizon > FRAMES => {
            (format!("{name}-{n}-episodes"), n * environment.spec().horizon)
        }
        _ => (name.to_owned(), FRAMES),
    };
    let root: PathBuf = ["outputs", "data", &name].iter().collect();
    if !root.join("meta/info.json").is_file() {
        note(format!("recording {frames} frames of {env} to {}", root.display()));
        let plan = if published {
            let options = record::Options {
                max_frames: Some(frames),
                max_steps: environment.spec().horizon,
                labels: Labels::SeedExpert,
                ..record::Options::default()
            };
            let command = format!("flowgpu collect --env {env} --policy expert-seed --max-frames {frames}");
            Plan::of_expert(vec![Part::train(options)], Scripted::SeedExpert, "expert-seed", command)
        } else {
            let command = format!("flowgpu collect --env {env} --max-frames {frames}");
            let mixture = recording::default_mixture(environment.spec(), frames);
            Plan::of_expert(mixture, Scripted::Expert, "expert", command)
        };
        recording::record_dataset(&root, environment.as_ref(), plan)?;
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
