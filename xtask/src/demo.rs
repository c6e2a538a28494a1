//! The whole job on a small scale, as a user would do it by hand: every step is a command that is printed first.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::{cargo, run as run_command};

/// Where everything goes. An earlier demo's folder is removed.
const FOLDER: &str = "outputs/demo";

/// Steps of training: enough for all of a hundred captures. A number of steps, and not of minutes, so that a busy machine ends
/// with the same policy, later.
const STEPS: &str = "3000";

/// Records, trains, samples, evaluates.
fn steps(flowgpu: &Path) -> Result<(), String> {
    let step = |arguments: &[&str]| {
        println!("\n$ flowgpu {}", arguments.join(" "));
        run_command(Command::new(flowgpu).args(arguments).env("NODEVICE_SELECT", "1"))
    };
    step(&["collect", "--output-dir", "outputs/demo/data"])?;
    step(&[
        "train",
        "--dataset-root",
        "outputs/demo/data",
        "--output-dir",
        "outputs/demo/train",
        "--steps",
        STEPS,
    ])?;
    step(&[
        "sample",
        "--policy",
        "outputs/demo/train",
        "--steps",
        "20",
        "--plot",
        "outputs/demo/noise_to_action.png",
    ])?;
    let arguments = [
        "eval",
        "--env",
        "pursuit",
        "--policy",
        "outputs/demo/train",
        "--n-action-steps",
        "4",
        "--gif",
        "outputs/demo/episodes.gif",
        "--json",
    ];
    println!("\n$ flowgpu {} > outputs/demo/metrics.json", arguments.join(" "));
    let output =
        fs::File::create(format!("{FOLDER}/metrics.json")).map_err(|e| format!("metrics.json: {e}"))?;
    run_command(Command::new(flowgpu).args(arguments).env("NODEVICE_SELECT", "1").stdout(output))
}

/// Runs the steps and says what they left.
fn tour(flowgpu: &Path) -> Result<(), String> {
    if Path::new(FOLDER).exists() {
        println!("removing the earlier demo in {FOLDER}");
        fs::remove_dir_all(FOLDER).map_err(|e| format!("{FOLDER}: {e}"))?;
    }
    fs::create_dir_all(FOLDER).map_err(|e| format!("{FOLDER}: {e}"))?;
    let start = Instant::now();
    steps(flowgpu)?;
    println!("\n{}", fs::read_to_string(format!("{FOLDER}/metrics.json")).unwrap_or_default().trim());
    println!("\nThe demo took {:.0} s and left", start.elapsed().as_secs_f64());
    for (what, path) in [
        ("data set", "data"),
        ("checkpoint", "train/checkpoints/last"),
        ("loss curve", "train/loss.png"),
        ("from noise to action", "noise_to_action.png"),
        ("episodes", "episodes.gif"),
        ("metrics", "metrics.json"),
    ] {
        let path = format!("{FOLDER}/{path}");
        if !Path::new(&path).exists() {
            return Err(format!("the demo did not leave {path}"));
        }
        println!("  {what:22}{path}");
    }
    Ok(())
}

/// Builds the program and runs the demo.
pub fn run() -> Result<(), String> {
    run_command(cargo().args(["build", "--release", "--package", "flowgpu", "--bin", "flowgpu"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    tour(&Path::new(&target).join("release").join(format!("flowgpu{}", std::env::consts::EXE_SUFFIX)))
}
