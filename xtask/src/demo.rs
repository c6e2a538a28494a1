//! `cargo xtask demo`: the whole way from demonstrations to an evaluated policy, as a user would type it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{Failure, build, root, spelled, succeed};

/// What the demo's training may take; collecting, sampling and evaluating take a minute more.
const TRAINING_MINUTES: &str = "6";

/// Everything the demo leaves in `outputs/demo/`, which is made anew each time.
struct Outputs {
    data: PathBuf,
    run: PathBuf,
    path: PathBuf,
    sample: PathBuf,
    gif: PathBuf,
    metrics: PathBuf,
}

/// Builds, then runs it.
pub fn run() -> Result<(), Failure> {
    let program = build()?;
    let start = Instant::now();
    let folder = PathBuf::from("outputs/demo");
    let here = root().join(&folder);
    if here.exists() {
        fs::remove_dir_all(&here).map_err(|e| format!("cannot clear {}: {e}", here.display()))?;
    }
    fs::create_dir_all(&here).map_err(|e| format!("cannot create {}: {e}", here.display()))?;
    let outputs = Outputs {
        data: folder.join("data"),
        run: folder.join("train"),
        path: folder.join("noise_to_action.png"),
        sample: folder.join("actions.json"),
        gif: folder.join("episodes.gif"),
        metrics: folder.join("metrics.json"),
    };
    let step = |title: &str, command: &mut Command| {
        println!("\n== {title}\n$ {}", spelled(command));
        succeed(command)
    };
    let flowgpu = |subcommand: &str, flags: &[(&str, &Path)]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).arg(subcommand);
        flags.iter().for_each(|(flag, path)| _ = command.arg(flag).arg(path));
        command
    };
    step("demonstrations", &mut flowgpu("collect", &[("--output-dir", &outputs.data)]))?;
    let mut train = flowgpu("train", &[("--dataset-root", &outputs.data), ("--output-dir", &outputs.run)]);
    step("training", train.args(["--max-minutes", TRAINING_MINUTES]))?;
    let sample = [("--policy", &*outputs.run), ("--plot", &*outputs.path), ("--out", &*outputs.sample)];
    step("a sample", flowgpu("sample", &sample).args(["--steps", "20"]))?;
    let mut eval = flowgpu("eval", &[("--policy", &outputs.run), ("--gif", &outputs.gif)]);
    eval.args(["--env", "pursuit", "--episodes", "100", "--n-action-steps", "4", "--json"]);
    let metrics = File::create(root().join(&outputs.metrics))
        .map_err(|e| format!("cannot write {}: {e}", outputs.metrics.display()))?;
    step("100 episodes", eval.stdout(metrics))?;
    report(&outputs, start.elapsed().as_secs())
}

fn report(outputs: &Outputs, seconds: u64) -> Result<(), Failure> {
    let metrics = fs::read_to_string(root().join(&outputs.metrics))
        .map_err(|e| format!("cannot read {}: {e}", outputs.metrics.display()))?;
    let loss = outputs.run.join("loss.png");
    println!("\n== the demo took {seconds} s");
    for name in ["completed", "steps_to_capture"] {
        if let Some(mean) = mean_of(&metrics, name) {
            println!("{:<26}{mean}", format!("{}, mean", name.replace('_', " ")));
        }
    }
    for (what, path) in [
        ("checkpoint", &outputs.run),
        ("loss curve", &loss),
        ("path from noise to action", &outputs.path),
        ("actions", &outputs.sample),
        ("episodes", &outputs.gif),
        ("metrics", &outputs.metrics),
        ("demonstrations", &outputs.data),
    ] {
        if !root().join(path).exists() {
            return Err(format!("{what}: {} was not written", path.display()));
        }
        println!("{what:<26}{}", path.display());
    }
    Ok(())
}

/// The number behind `"<name>": {"mean":` in what `eval --json` prints.
fn mean_of<'a>(metrics: &'a str, name: &str) -> Option<&'a str> {
    let (_, metric) = metrics.split_once(&format!("\"{name}\""))?;
    let (_, mean) = metric.split_once("\"mean\":")?;
    mean.split([',', '}']).next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_found_where_eval_prints_it() {
        let metrics = r#"{"metrics": {"completed": {"mean": 0.99, "std": 0.1}, "other": {"mean": 1}}}"#;
        assert_eq!(mean_of(metrics, "completed"), Some("0.99"));
        assert_eq!(mean_of(metrics, "steps"), None);
    }
}
