//! `flowgpu inspect`: what is in a checkpoint or a dataset, and what an environment promises.

mod dataset;
mod environment;
mod frame;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::common::{dataset_folder, note, table};
use crate::data::{Dataset, Overview, Survey};
use crate::policy::{Network, Pretrained, resolve_policy};
use crate::{Error, Result};

/// Numbers of a statistic that are printed.
const SHOWN: usize = 8;

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A dataset folder, a built-in policy, or a pretrained_model, checkpoint or run folder
    #[arg(required_unless_present_any = ["dataset_repo_id", "env"])]
    path: Option<String>,
    /// A data set by its name on the Hub, looked for in LeRobot's local cache first
    #[arg(long, value_name = "OWNER/NAME", conflicts_with = "path")]
    dataset_repo_id: Option<String>,
    /// The contract of an environment: what is seen and decided, in which units, what is drawn, when it is solved
    #[arg(long, value_name = "NAME", conflicts_with_all = ["path", "dataset_repo_id", "frame", "chunk_size"])]
    env: Option<String>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// Writes what training sees of this frame of a dataset, before normalisation
    #[arg(long, value_name = "I", requires = "out")]
    frame: Option<usize>,
    /// Actions in a chunk of that frame; of a whole dataset, episodes that are shorter are named
    #[arg(long, value_name = "N")]
    chunk_size: Option<usize>,
    /// Where to write that frame
    #[arg(long, value_name = "FILE.safetensors", requires = "frame")]
    out: Option<PathBuf>,
}

/// Shows it.
///
/// # Errors
/// If there is neither a dataset nor a policy, no such environment, or a file of it is missing or damaged; a dataset is shown as far as it
/// can be read before.
pub fn run(args: Args) -> Result<()> {
    if let Some(name) = &args.env {
        environment::shown(name)?.print(args.json);
        return Ok(());
    }
    let path = match &args.dataset_repo_id {
        Some(repo_id) => dataset_folder(repo_id)?.display().to_string(),
        None => args.path.unwrap_or_default(),
    };
    let root = Path::new(&path);
    if let (Some(frame), Some(out)) = (args.frame, &args.out) {
        let dataset = Dataset::open(root)?;
        dataset.warnings.iter().for_each(|warning| note(format!("warning: {warning}")));
        return frame::write(&dataset, frame, args.chunk_size.unwrap_or(1), out);
    }
    let (shown, fault) = if Overview::is_dataset(root) {
        let survey = Survey::of(root, args.chunk_size)?;
        (dataset::shown(&survey), survey.fault)
    } else {
        let pretrained = resolve_policy(&path).map_err(|e| match root.is_dir() {
            true => Error::input(format!("{e}, and meta/info.json (a dataset)")),
            false => e,
        })?;
        (checkpoint(&path, &pretrained), None)
    };
    shown.print(args.json);
    fault.map_or(Ok(()), Err)
}

/// A thing twice: for people and for programs.
struct Shown {
    text: String,
    json: Value,
    notes: Vec<String>,
}

impl Shown {
    fn print(&self, json: bool) {
        self.notes.iter().for_each(note);
        match json {
            true => println!("{:#}", self.json),
            false => print!("{}", self.text),
        }
    }
}

/// One row of statistics: feature, name, values.
type Statistic = (String, String, Vec<f64>);

fn checkpoint(path: &str, pretrained: &Pretrained) -> Shown {
    let config = pretrained.config.to_json();
    let kind = config["type"].as_str().unwrap_or_default().to_owned();
    let parameters: usize = pretrained.tensors.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let count = pretrained.tensors.iter().count();
    let mut text = format!("checkpoint {path}\n{kind}, {parameters} parameters in {count} tensors\n");
    let contract = pretrained.contract().map(|contract| (&contract["environment"], &contract["version"]));
    if let Some((Value::String(environment), version)) = contract {
        text += &format!("trained for environment {environment}, version {version}\n");
    }
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
