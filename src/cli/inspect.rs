//! `flowgpu inspect`: what is in a checkpoint or a dataset.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::common::{note, table};
use crate::data::Overview;
use crate::policy::{Network, Pretrained, resolve_policy};
use crate::{Error, Result};

/// Numbers of a statistic that are printed.
const SHOWN: usize = 8;

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A dataset folder, a built-in policy, or a pretrained_model, checkpoint or run folder
    path: String,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows it.
///
/// # Errors
/// If there is neither a dataset nor a policy, or a file of it is missing or damaged.
pub fn run(args: Args) -> Result<()> {
    let shown = if Overview::is_dataset(Path::new(&args.path)) {
        dataset(&Overview::read(&args.path)?)
    } else {
        let pretrained = resolve_policy(&args.path).map_err(|e| match Path::new(&args.path).is_dir() {
            true => Error::input(format!("{e}, and meta/info.json (a dataset)")),
            false => e,
        })?;
        checkpoint(&args.path, &pretrained)
    };
    shown.notes.iter().for_each(note);
    match args.json {
        true => println!("{:#}", shown.json),
        false => print!("{}", shown.text),
    }
    Ok(())
}

/// A thing twice: for people and for programs.
struct Shown {
    text: String,
    json: Value,
    notes: Vec<String>,
}

/// One row of statistics: feature, name, values.
type Statistic = (String, String, Vec<f64>);

fn dataset(dataset: &Overview) -> Shown {
    let info = &dataset.info;
    let (shortest, longest) = dataset.episode_lengths().unwrap_or((0, 0));
    let mut text = format!(
        "dataset {}\n{} frames in {} episodes of {shortest} to {longest}, {} frames per second, robot {}, format {}\n",
        dataset.root.display(),
        info.total_frames,
        info.total_episodes,
        info.fps,
        info.robot_type.as_deref().unwrap_or("unknown"),
        info.codebase_version,
    );
    let features = info.features.iter().map(|(key, feature)| {
        let names = if feature.names.is_null() { String::new() } else { feature.names.to_string() };
        [format!("  {key}"), feature.dtype.to_string(), format!("{:?}", feature.shape), names]
    });
    text += "features\n";
    text += &table(&features.collect::<Vec<_>>());
    text += "tasks\n";
    text.extend(dataset.tasks.iter().enumerate().map(|(i, task)| format!("  {i}  {task}\n")));
    text += "splits\n";
    text.extend(info.splits.iter().map(|(name, episodes)| format!("  {name}  {episodes}\n")));
    let statistics: Vec<Statistic> = (dataset.stats.iter())
        .flat_map(|(key, stats)| {
            stats.iter().map(move |(name, stat)| (key.to_owned(), name.clone(), stat.values.clone()))
        })
        .collect();
    text += &statistics_text(&statistics);
    let json = json!({
        "kind": "dataset", "path": dataset.root.display().to_string(), "format": info.codebase_version,
        "robot_type": info.robot_type, "fps": info.fps, "frames": info.total_frames,
        "episodes": info.total_episodes, "shortest_episode": shortest, "longest_episode": longest,
        "features": info.features, "tasks": dataset.tasks, "splits": info.splits,
        "statistics": statistics_json(&statistics),
    });
    let unknown = info.unknown_keys().map(|key| format!("meta/info.json has an unknown key `{key}`"));
    Shown { text, json, notes: unknown.collect() }
}

fn checkpoint(path: &str, pretrained: &Pretrained) -> Shown {
    let config = pretrained.config.to_json();
    let kind = config["type"].as_str().unwrap_or_default().to_owned();
    let parameters: usize = pretrained.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let count = pretrained.tensors.iter().count();
    let mut text = format!("checkpoint {path}\n{kind}, {parameters} parameters in {count} tensors\n");
    text += &format!("config.json\n{config:#}\ntensors\n");
    let rows = pretrained.tensors.iter().map(|(name, shape)| {
        [format!("  {name}"), format!("{shape:?}"), shape.iter().product::<usize>().to_string()]
    });
    text += &table(&rows.collect::<Vec<_>>());
    let statistics: Vec<Statistic> = (pretrained.stats.views())
        .filter_map(|(name, _, values)| {
            let (key, stat) = name.rsplit_once('.')?;
            Some((key.to_owned(), stat.to_owned(), values.iter().map(|&v| f64::from(v)).collect()))
        })
        .collect();
    text += &statistics_text(&statistics);
    let mut notes = pretrained.notes.clone();
    notes.extend(pretrained.check_against(&Network::new(&pretrained.config).1).err().map(|e| e.to_string()));
    notes.extend(pretrained.normalizer().err().map(|e| e.to_string()));
    let tensors: Map<_, _> =
        pretrained.tensors.iter().map(|(name, shape)| (name.to_owned(), json!(shape))).collect();
    let json = json!({
        "kind": "checkpoint", "path": path, "type": kind, "parameters": parameters, "config": config,
        "tensors": tensors, "statistics": statistics_json(&statistics),
        "train_config": pretrained.train_config, "notes": notes,
    });
    Shown { text, json, notes }
}

/// Those of what a policy sees and does; counters and flags are left to `--json`.
fn statistics_text(statistics: &[Statistic]) -> String {
    let matters = |(key, ..): &&Statistic| key.starts_with("observation") || key.starts_with("action");
    let rows = statistics.iter().filter(matters).map(|(key, name, values)| {
        let mut shown: Vec<String> = values.iter().take(SHOWN).map(|v| format!("{v:.4}")).collect();
        if values.len() > SHOWN {
            shown.push(format!("… {} in all", values.len()));
        }
        [format!("  {key}"), name.clone(), shown.join(", ")]
    });
    format!("statistics\n{}", table(&rows.collect::<Vec<_>>()))
}

fn statistics_json(statistics: &[Statistic]) -> Value {
    let mut features = Map::new();
    for (key, name, values) in statistics {
        features.entry(key).or_insert_with(|| json!({}))[name] = json!(values);
    }
    Value::Object(features)
}
