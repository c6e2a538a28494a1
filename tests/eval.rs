//! `flowgpu eval`, as someone meets it who compares policies.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use flowgpu::policy::presets::preset;
use flowgpu::policy::{Config, Network, Parts, Stats, save_pretrained};
use serde_json::Value;

fn flowgpu(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output();
    output.expect("the program starts")
}

/// What `eval --json` prints with these arguments.
fn eval(arguments: &[&str]) -> Value {
    let output = flowgpu(&[&["eval", "--json"], arguments].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn mean(report: &Value, metric: &str) -> f64 {
    report["metrics"][metric]["mean"].as_f64().expect("a number")
}

/// The sentence with which the program refuses.
fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty() && !told.contains("panicked"), "{arguments:?}: {told}");
    told
}

#[test]
fn the_expert_earns_the_published_row_to_every_printed_digit() {
    let report = eval(&["--env", "pursuit", "--policy", "expert", "--episodes", "300", "--seed", "42"]);
    let row = |name: &str, digits: usize, spread: usize| {
        let std = report["metrics"][name]["std"].as_f64().expect("a number");
        format!("{:.digits$} ± {std:.spread$}", mean(&report, name))
    };
    assert_eq!(row("steps_to_capture", 3, 3), "16.833 ± 10.246");
    assert_eq!(row("path_inefficiency", 4, 3), "1.0597 ± 0.066");
    assert_eq!(row("direction_consistency", 4, 3), "0.9821 ± 0.029");
    assert_eq!(row("magnitude_continuity", 4, 3), "0.0310 ± 0.045");
    assert_eq!(row("trajectory_length", 2, 2), "103.03 ± 61.46");
    assert_eq!(row("completed", 3, 1), "1.000 ± 0.0");
    assert_eq!((&report["env"], &report["policy"]), (&"pursuit".into(), &"expert".into()));
    assert_eq!((&report["episodes"], &report["seed"]), (&300.into(), &42.into()));
}

#[test]
fn the_table_for_people_shows_the_published_digits() {
    let output = flowgpu(&["eval", "--policy", "expert", "--episodes", "300"]);
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    for row in ["16.833 ± 10.246", "1.0597 ± 0.066", "0.9821 ± 0.029", "0.0310 ± 0.045", "103.03  ± 61.46"]
    {
        assert!(table.contains(row), "no {row} in\n{table}");
    }
}

#[test]
fn standing_still_completes_what_the_ball_brings() {
    for (episodes, share) in [("300", 0.15), ("100", 0.12)] {
        let report = eval(&["--policy", "noop", "--episodes", episodes]);
        assert!((mean(&report, "completed") - share).abs() < 1e-12, "{report}");
    }
}

#[test]
fn the_same_seeds_give_the_same_bits_and_others_do_not() {
    let built_in = |more: &[&str]| {
        let report = eval(&[&["--device", "cpu", "--episodes", "6", "--n-action-steps", "4"], more].concat());
        assert_eq!(report["n_action_steps"], 4);
        assert_eq!(report["device"], "cpu");
        assert!(
            report["chunks"].as_u64() >= Some(6) && report["ms_per_chunk"].as_f64() > Some(0.0),
            "{report}"
        );
        report["metrics"].clone()
    };
    let first = built_in(&[]);
    assert_eq!(built_in(&[]), first);
    assert_ne!(built_in(&["--noise-seed", "1"]), first);
    assert_ne!(built_in(&["--seed", "1000"]), first);
    assert_ne!(built_in(&["--noise", "zero"]), first);
    assert_eq!(built_in(&["--noise", "zero"]), built_in(&["--noise", "zero", "--noise-seed", "1"]));
    let random = || eval(&["--policy", "random", "--episodes", "9"])["metrics"].clone();
    assert_eq!(random(), random());
}

#[test]
fn a_folder_is_as_good_as_a_name() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/pursuit");
    let few = ["--device", "cpu", "--episodes", "2", "--steps", "2"];
    let by_name = eval(&[&["--policy", "pursuit"][..], &few].concat());
    let by_folder = eval(&[&["--policy.path", folder][..], &few].concat());
    assert_eq!(by_name["metrics"], by_folder["metrics"]);
    assert_eq!(by_name["solver_steps"], 2);
}

#[test]
fn an_animation_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("episodes.gif");
    let file = file.to_str().expect("UTF-8");
    eval(&["--policy", "expert", "--episodes", "9", "--gif", file]);
    assert!(fs::read(file).expect("written").starts_with(b"GIF89a"));
}

/// A policy for a camera that pursuit does not have.
fn save_stranger(folder: &Path) {
    let mut json = preset("pursuit").expect("known").to_json();
    json["input_features"] =
        serde_json::json!({"observation.images.top": {"type": "VISUAL", "shape": [3, 32, 32]}});
    let config = Config::parse(&json.to_string()).expect("valid");
    let (_, params) = Network::new(&config);
    let values: Vec<Vec<f32>> = params.iter().map(|(id, _)| params.initial(id, 0)).collect();
    let mut stats = Stats::new("stats");
    for (stat, value) in [("min", -5.0), ("max", 5.0), ("mean", 0.0), ("std", 1.0)] {
        stats.insert("action", stat, &[2], vec![value; 2]).expect("two");
    }
    let parts =
        Parts { config: &config, params: &params, values: &values, stats: &stats, train_config: None };
    save_pretrained(folder, &parts).expect("saved");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = folder.path().join("stranger");
    save_stranger(&stranger);
    let (empty, stranger) = (folder.path().to_str().expect("UTF-8"), stranger.to_str().expect("UTF-8"));
    let cpu = ["--device", "cpu"];
    for (arguments, sentence) in [
        (&["--env", "pong"][..], "unknown environment `pong`: known are pursuit"),
        (
            &["--policy", "nobody"],
            "unknown policy `nobody`: known are expert, expert-seed, noop, random, pursuit",
        ),
        (&["--policy", empty], "holds no policy: looked for config.json"),
        (&["--policy", "expert", "--episodes", "0"], "use at least one episode"),
        (&["--policy", "expert", "--episodes", "some"], "invalid value 'some' for '--episodes"),
        (&["--n-action-steps", "0"], "0 action steps"),
        (&["--n-action-steps", "999"], "999 action steps: this policy's chunks have"),
        (&["--steps", "0"], "0 solver steps: use 1 to 1000"),
        (&["--noise", "loud"], "invalid value 'loud' for '--noise"),
        (&["--policy", stranger], "the policy sees `observation.images.top` [3, 32, 32], which environment"),
    ] {
        let told = refusal(&[&["eval"], arguments, &cpu].concat());
        assert!(told.contains(sentence), "{arguments:?}: {told}");
    }
    let told = refusal(&["eval", "--device", "no such adapter"]);
    assert!(told.contains("no such adapter"), "{told}");
}
