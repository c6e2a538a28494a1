//! The panel of an environment: every method on the same episodes, and what they decide.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Args, print_rows};
use crate::cli::common::note;
use crate::eval::artifact::Artifact;
use crate::eval::compare::{Pair, Summarised, compare, corrected, to_json};
use crate::{Error, Result};

/// One method with one way of executing its chunks.
struct Entry {
    /// What it is called; also its folder's name.
    name: String,
    /// A rule, `flow`, or a policy of [`METHODS`].
    method: &'static str,
    /// Actions of a chunk that are executed.
    every: Option<usize>,
    /// Solver steps.
    steps: Option<usize>,
}

/// A policy of the panel, and how it is trained where it is not there.
struct Method {
    name: &'static str,
    /// Optimiser steps; the built-in policy has 12,000.
    steps: usize,
    /// How it differs from preset `pursuit`.
    recipe: &'static [&'static str],
}

/// Policies of the panel beside the built-in one, which is called `flow`.
const METHODS: [Method; 5] = [
    Method { name: "regression", steps: 12_000, recipe: &["--objective=regression"] },
    Method {
        name: "regression-act",
        steps: 8_000,
        recipe: &[
            "--objective=regression",
            "--set=patch_size=8",
            "--set=d_model=32",
            "--set=encoder_layers=0",
        ],
    },
    Method { name: "mip", steps: 4_000, recipe: &["--objective=mip"] },
    Method {
        name: "flow-no-slots",
        steps: 12_000,
        recipe: &["--set=action_pos_embed=false", "--set=initial_values=grid"],
    },
    Method { name: "flow-raw", steps: 5_000, recipe: &["--set=normalization_mapping.ACTION=IDENTITY"] },
];

/// Folders with policies, the first that holds one counts: the repository's, then what was trained here.
const PLACES: [&str; 2] = ["weights/panel", "outputs/panel/policies"];

/// What is compared with what, as names without their replanning: ours, theirs, and the question.
const QUESTIONS: [(&str, &str, &str); 5] = [
    ("regression", "flow", "Does regression beat the flow?"),
    ("flow", "flow-no-slots", "Does slot embedding help the flow?"),
    ("flow", "flow-raw", "Is normalising actions necessary?"),
    ("mip", "flow", "Does MIP beat the flow?"),
    ("regression-act", "regression", "Does a decoder alone do as well as an encoder before it?"),
];

/// Evaluates what is missing, compares, and says what the episodes decide.
///
/// # Errors
/// If there is no such panel, or training or an evaluation fails.
pub fn run(args: &Args, environment: &str) -> Result<()> {
    if environment != "pursuit" {
        return Err(Error::input(format!("there is no panel of environment `{environment}`: use pursuit")));
    }
    let mut artifacts = Vec::new();
    for entry in entries() {
        artifacts.push(evaluated(args, environment, &entry).map_err(|e| e.at(&entry.name))?);
    }
    let found = |name: &str| artifacts.iter().find(|artifact| artifact.run.policy.name == name);
    let mut asked: Vec<(String, Vec<Pair>)> = Vec::new();
    for (ours, theirs, question) in QUESTIONS {
        let mut pairs = Vec::new();
        for every in [8, 4, 1] {
            if let (Some(a), Some(b)) = (found(&named(ours, every)), found(&named(theirs, every))) {
                pairs.extend(compare(a, b)?);
            }
        }
        asked.push((question.to_owned(), pairs));
    }
    let mut others = Vec::new();
    for (ours, theirs) in [("flow-4", "flow-8"), ("flow-1", "flow-4"), ("flow-4-euler-2", "flow-4")] {
        if let (Some(a), Some(b)) = (found(ours), found(theirs)) {
            others.extend(compare(a, b)?);
        }
    }
    asked.push(("Is it worth replanning more often, and are two solver steps enough?".to_owned(), others));
    let mut against = Vec::new();
    for name in ["flow-1", "regression-1"] {
        if let (Some(a), Some(b)) = (found(name), found("expert")) {
            against.extend(compare(a, b)?);
        }
    }
    asked.push(("Do they reach the expert?".to_owned(), against));
    let sizes: Vec<usize> = asked.iter().map(|(_, pairs)| pairs.len()).collect();
    let questions: Vec<String> = asked.iter().map(|(question, _)| question.clone()).collect();
    let pairs = corrected(asked.into_iter().flat_map(|(_, pairs)| pairs).collect());
    let rows: Vec<Summarised> = artifacts.iter().map(Summarised::of).collect();
    if args.json {
        println!("{}", to_json(&rows, &pairs));
        return Ok(());
    }
    print_rows(&artifacts, &rows)?;
    let mut left = &pairs[..];
    for (question, size) in questions.iter().zip(sizes) {
        let (ours, rest) = left.split_at(size);
        left = rest;
        println!("\n{question}");
        ours.iter().for_each(|pair| println!("  {}.", pair.in_words()));
    }
    Ok(())
}

fn named(method: &str, every: usize) -> String {
    format!("{method}-{every}")
}

/// Rows of the panel, in the order of the table.
fn entries() -> Vec<Entry> {
    let rule = |name: &'static str| Entry { name: name.to_owned(), method: name, every: None, steps: None };
    let mut all = vec![rule("expert")];
    let methods = ["regression", "regression-act", "mip", "flow", "flow-no-slots", "flow-raw"];
    for method in methods {
        for every in [8, 4, 1] {
            all.push(Entry { name: named(method, every), method, every: Some(every), steps: None });
        }
    }
    for steps in [1, 2, 5, 10] {
        let name = format!("flow-4-euler-{steps}");
        all.push(Entry { name, method: "flow", every: Some(4), steps: Some(steps) });
    }
    all.extend([rule("random"), rule("noop")]);
    all
}

/// The finished evaluation of an entry: as it is there, or made now by `flowgpu eval`.
fn evaluated(args: &Args, environment: &str, entry: &Entry) -> Result<Artifact> {
    let folder = args.output_dir.join(&entry.name);
    if let Ok(artifact) = Artifact::read(&folder)
        && artifact.run.episodes == args.episodes
        && artifact.run.seed == args.seed
    {
        return Ok(artifact);
    }
    let policy = match entry.method {
        "flow" => "pursuit".to_owned(),
        method => match METHODS.iter().find(|known| known.name == method) {
            Some(method) => policy_of(method, &args.device.device)?.display().to_string(),
            None => method.to_owned(),
        },
    };
    note(format!("{}: {} episodes", entry.name, args.episodes));
    let mut flags = vec![
        "eval".to_owned(),
        "--env".to_owned(),
        environment.to_owned(),
        "--policy".to_owned(),
        policy,
        "--name".to_owned(),
        entry.name.clone(),
        format!("--episodes={}", args.episodes),
        format!("--seed={}", args.seed),
        format!("--output-dir={}", folder.display()),
        format!("--device={}", args.device.device),
        "--videos=3".to_owned(),
    ];
    flags.extend(entry.every.map(|every| format!("--n-action-steps={every}")));
    flags.extend(entry.steps.map(|steps| format!("--steps={steps}")));
    flowgpu(&flags)?;
    Artifact::read(&folder)
}

/// A policy's folder: where it is, or where it was trained now.
fn policy_of(method: &Method, device: &str) -> Result<PathBuf> {
    let Method { name, steps, recipe } = *method;
    let holds = |folder: &Path| ["config.json", "checkpoints"].iter().any(|file| folder.join(file).exists());
    if let Some(folder) = PLACES.iter().map(|place| Path::new(place).join(name)).find(|f| holds(f)) {
        return Ok(folder);
    }
    let folder = Path::new(PLACES[1]).join(name);
    note(format!("{name}: is trained first, {steps} steps, into {}", folder.display()));
    let mut flags = vec![
        "train".to_owned(),
        "--preset=pursuit".to_owned(),
        format!("--steps={steps}"),
        format!("--output-dir={}", folder.display()),
        format!("--device={device}"),
    ];
    flags.extend(recipe.iter().map(|flag| (*flag).to_owned()));
    flowgpu(&flags)?;
    Ok(folder)
}

/// Runs this program with other arguments; its results go nowhere, its messages to the user.
fn flowgpu(arguments: &[String]) -> Result<()> {
    let program = std::env::current_exe()
        .map_err(|e| Error::failure(format!("this program cannot be found again: {e}")))?;
    let status = Command::new(program).args(arguments).stdout(std::process::Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error::failure(format!("`flowgpu {}` failed ({status})", arguments.join(" ")))),
        Err(e) => Err(Error::failure(format!("`flowgpu {}` does not start: {e}", arguments.join(" ")))),
    }
}
