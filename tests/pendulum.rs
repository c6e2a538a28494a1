//! A pendulum from recording to closed loop, as a user does it, and what is refused on the way.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::Value;

fn flowgpu(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output().expect("the program starts")
}

fn done(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    told
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A folder with a few episodes of some environments, recorded once for all tests.
static DATA: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    for (env, frames) in [("pendulum", "4000"), ("pendulum-goal", "1000"), ("command", "8000")] {
        let root = folder.path().join(env);
        done(&["collect", "--env", env, "--max-frames", frames, "--output-dir", text(&root)]);
    }
    let root = folder.path().to_path_buf();
    (folder, root)
});

/// A short training of a small network.
fn train(preset: &str, data: &str, run: &Path, more: &[&str]) -> String {
    let root = DATA.1.join(data);
    let mut arguments = vec!["train", "--preset", preset, "--dataset-root", text(&root)];
    arguments.extend(["--output-dir", text(run), "--device", "cpu", "--batch-size", "64"]);
    arguments.extend(["--eval-freq", "0", "--warmup-steps", "10"]);
    arguments.extend(more);
    done(&arguments)
}

fn eval(env: &str, policy: &str, more: &[&str]) -> Value {
    let mut arguments = vec!["eval", "--env", env, "--policy", policy, "--device", "cpu", "--json"];
    arguments.extend(more);
    serde_json::from_str(&done(&arguments)).expect("one JSON object")
}

fn mean(report: &Value, metric: &str) -> f64 {
    report["metrics"][metric]["mean"].as_f64().unwrap_or_else(|| panic!("no {metric} in {report}"))
}

#[test]
fn twenty_demonstrations_and_a_few_seconds_teach_to_swing_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let more = ["--steps", "4000", "--batch-size", "128", "--set", "hidden_dim=96", "--log-freq", "1000"];
    train("pendulum", "pendulum", &run, &more);
    let episodes = ["--episodes", "20", "--seed", "200"];
    let learnt = mean(&eval("pendulum", text(&run), &episodes), "return");
    let seed = mean(&eval("pendulum", "expert-seed", &episodes), "return");
    assert!(learnt > seed, "{learnt} after training, {seed} by the published expert");
    let chunk: Value = serde_json::from_str(&done(&[
        "sample",
        "--policy",
        text(&run),
        "--steps",
        "20",
        "--device",
        "cpu",
        "--json",
    ]))
    .expect("one JSON object");
    let torque = chunk["actions"][0][0][0].as_f64().expect("a number");
    assert!((-2.0..=2.0).contains(&torque), "{torque}");
}

#[test]
fn the_built_in_pendulum_keeps_up_with_its_expert() {
    let all = ["--episodes", "100", "--seed", "200"];
    let expert = mean(&eval("pendulum", "expert", &all), "return");
    for (solver, steps, margin) in [("euler", "10", 8.0), ("euler", "2", 15.0), ("midpoint", "2", 15.0)] {
        let report =
            eval("pendulum", "pendulum", &[&all[..], &["--steps", steps, "--solver", solver]].concat());
        assert!(mean(&report, "upright") >= 0.99, "{solver} {steps}: {report}");
        let behind = expert - mean(&report, "return");
        assert!(behind < margin, "{solver} {steps}: {behind} behind the expert");
    }
}

#[test]
fn a_policy_of_two_hundred_numbers_follows_a_command_that_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    // A regression learns this in seconds; a flow takes the preset's minutes.
    let small =
        ["--set", "hidden_dim=128", "--set", "num_layers=2", "--batch-size", "128", "--steps", "1500"];
    train("command", "command", &run, &[&small[..], &["--objective", "regression"]].concat());
    let report = eval("command", text(&run), &["--episodes", "20"]);
    // Whoever keeps to the first command is off by 1.07 after the change, and stands still at 0.84.
    let (before, after) = (mean(&report, "tracking_error_before"), mean(&report, "tracking_error"));
    assert!(after < 0.3 && after < 2.0 * before, "{report}");
}

#[test]
fn the_same_network_learns_any_objective_by_one_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    for objective in ["flow", "regression", "mip"] {
        let run = folder.path().join(objective);
        let more = ["--objective", objective, "--steps", "40", "--set", "hidden_dim=32"];
        train("pendulum", "pendulum", &run, &more);
        let last = run.join("checkpoints/000040/pretrained_model/config.json");
        let config: Value =
            serde_json::from_str(&std::fs::read_to_string(last).expect("saved")).expect("JSON");
        assert_eq!(config["objective"], objective);
    }
}

#[test]
fn a_target_and_a_command_are_seen_beside_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    for (env, chunk, width) in [("pendulum-goal", 1, 1), ("command", 8, 30)] {
        let run = folder.path().join(env);
        train(env, env, &run, &["--steps", "30", "--set", "hidden_dim=64"]);
        let sampled = done(&["sample", "--policy", text(&run), "--device", "cpu", "--json"]);
        let sampled: Value = serde_json::from_str(&sampled).expect("one JSON object");
        let actions = sampled["actions"][0].as_array().expect("a chunk");
        assert_eq!((actions.len(), actions[0].as_array().map(Vec::len)), (chunk, Some(width)));
        assert!(eval(env, text(&run), &["--episodes", "2"])["success_rate"].is_f64());
    }
}

#[test]
fn seed_004s_sizes_take_the_features_of_any_vectors() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    train("fast", "pendulum-goal", &run, &["--steps", "20"]);
    let config = run.join("checkpoints/000020/pretrained_model/config.json");
    let config: Value = serde_json::from_str(&std::fs::read_to_string(config).expect("saved")).expect("JSON");
    assert_eq!(config["input_features"]["observation.environment_state"]["type"], "ENV");
    assert_eq!(config["output_features"]["action"]["shape"], serde_json::json!([1]));
    assert!(refused(&["train", "--preset", "fast"]).contains("give --dataset-root"));
}

#[test]
fn what_nothing_looks_like_is_learned_and_guides() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let learn = ["--set", "unconditional=learned", "--set", "observation_dropout=0.3"];
    train(
        "pendulum",
        "pendulum",
        &run,
        &[&["--steps", "200", "--set", "hidden_dim=32"][..], &learn].concat(),
    );
    let weights =
        std::fs::read(run.join("checkpoints/000200/pretrained_model/model.safetensors")).expect("saved");
    let tensors = safetensors::SafeTensors::deserialize(&weights).expect("readable");
    let learned = tensors.tensor("unconditional").expect("a parameter");
    assert!(learned.data().iter().any(|&byte| byte != 0), "it began as zeros and must have moved");
    assert_eq!(learned.shape(), [3]);
}

#[test]
fn data_of_another_shape_and_settings_of_no_use_are_refused_with_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let try_with = |data: &str, more: &[&str]| {
        let root = DATA.1.join(data);
        let mut arguments = vec!["train", "--preset", "pendulum", "--dataset-root", text(&root)];
        arguments.extend(["--output-dir", text(&run), "--device", "cpu"]);
        arguments.extend(more);
        refused(&arguments)
    };
    let told = try_with("command", &[]);
    assert!(
        told.contains("`observation.state` has 200 values") && told.contains("configured for 3"),
        "{told}"
    );
    for (setting, expected) in [
        (r#"time_features={"kind": "pow2", "dim": 15}"#, "width 15"),
        ("flow.solver=leapfrog", "unknown solver `leapfrog`: known are euler"),
        ("flow.num_steps=0", "`flow.num_steps` is 0"),
        (r#"flow.time_law={"beta": [-1, 1]}"#, "time_law"),
        (r#"flow.time_law={"u_shaped": 0}"#, "time_law"),
        (r#"flow.rtol=-1"#, "rtol"),
    ] {
        let told = try_with("pendulum", &["--set", setting]);
        assert!(told.contains(expected), "{setting}: {told}");
    }
    assert!(try_with("pendulum", &["--objective", "score"]).contains("flow, regression or mip"));
}
