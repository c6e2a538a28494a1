//! The panel of an environment: every method on the same episodes, and what they decide.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Args, print_rows};
use crate::cli::common::note;
use crate::eval::artifact::Artifact;
use crate::eval::compare::{Summarised, compare, corrected, to_json};
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

/// Actions of a chunk that are executed, one row each.
const REPLANNING: [usize; 3] = [8, 4, 1];
/// Folders with policies, the first that holds one counts: the repository's, then what was trained here.
const PLACES: [&str; 2] = ["weights/panel", "outputs/panel/policies"];

/// What is asked, and the pairs that answer it: ours, theirs.
fn questions() -> [(&'static str, Vec<(String, String)>); 7] {
    let each = |ours: &str, theirs: &str| -> Vec<(String, String)> {
        REPLANNING.iter().map(|&every| (named(ours, every), named(theirs, every))).collect()
    };
    let some = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect()
    };
    [
        ("Does regression beat the flow?", each("regression", "flow")),
        ("Does slot embedding help the flow?", each("flow", "flow-no-slots")),
        ("Is normalising actions necessary?", each("flow", "flow-raw")),
        ("Does MIP beat the flow?", each("mip", "flow")),
        ("Does a decoder alone do as well as an encoder before it?", each("regression-act", "regression")),
        (
            "Is it worth replanning more often, and are two solver steps enough?",
            some(&[("flow-4", "flow-8"), ("flow-1", "flow-4"), ("flow-4-euler-2", "flow-4")]),
        ),
        ("Do they reach the expert?", some(&[("flow-1", "expert"), ("regression-1", "expert")])),
    ]
}

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
    let found = |name: &str| {
        let found = artifacts.iter().find(|artifact| artifact.run.policy.name == name);
        found.ok_or_else(|| Error::failure(format!("the panel has no row {name}")))
    };
    let (mut pairs, mut asked) = (Vec::new(), Vec::new());
    for (question, answers) in questions() {
        let first = pairs.len();
        for (ours, theirs) in answers {
            pairs.extend(compare(found(&ours)?, found(&theirs)?)?);
        }
        asked.push((question, first..pairs.len()));
    }
    let pairs = corrected(pairs);
    let rows: Vec<Summarised> = artifacts.iter().map(Summarised::of).collect();
    if args.json {
        println!("{}", to_json(&rows, &pairs));
        return Ok(());
    }
    print_rows(&artifacts, &rows);
    for (question, answers) in asked {
        println!("\n{question}");
        pairs[answers].iter().for_each(|pair| println!("  {}.", pair.in_words()));
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
        for every in REPLANNING {
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
