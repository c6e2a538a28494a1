//! `flowgpu train --reflow-from` and `--learning-curve`, and pictures of a pendulum, as a user gets them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

/// Ten episodes of a pendulum, and a small policy that learnt from them.
struct Desk {
    _folder: tempfile::TempDir,
    data: PathBuf,
    teacher: PathBuf,
}

static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, teacher) = (folder.path().join("data"), folder.path().join("teacher"));
    good(&["collect", "--env", "pendulum", "--max-frames", "2000", "--output-dir", text(&data)]);
    let small = ["--preset", "pendulum", "--set", "hidden_dim=32", "--steps", "300", "--device", "cpu"];
    let to = ["--dataset-root", text(&data), "--output-dir", text(&teacher)];
    good(&[&["train"], &small[..], &to].concat());
    Desk { _folder: folder, data, teacher }
});

fn flowgpu(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command.args(arguments);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a run that goes well prints on stderr.
fn good(arguments: &[&str]) -> String {
    let output = flowgpu(arguments).output().expect("the program starts");
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

/// The arguments of a run that straightens the desk's teacher.
fn reflow<'a>(run: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let from = ["train", "--device", "cpu", "--reflow-from", text(&DESK.teacher)];
    let to = ["--dataset-root", text(&DESK.data), "--output-dir", text(run)];
    [&from[..], &to, more].concat()
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/last/pretrained_model/model.safetensors")).expect("a checkpoint")
}

#[test]
fn paths_become_straighter_and_one_step_is_worth_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let told = good(&reflow(&run, &["--steps", "400"]));
    assert!(told.contains("2000 frames, 50 solver steps each (euler), 0.0 MB in memory"), "{told}");
    assert!(told.contains("return, 1 step"), "{told}");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
    let last: Value = serde_json::from_str(metrics.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["step"], 400);
    let value = |when: &str, place: &str| last["reflow"][when].pointer(place).and_then(Value::as_f64);
    for place in ["/straightness", "/steps/1/error", "/steps/2/error"] {
        let [before, after] = ["before", "after"].map(|when| value(when, place).expect("measured"));
        assert!(after < 0.5 * before, "{place}: {before} before, {after} after");
    }
    assert!(value("after", "/steps/1/eval/return").is_some_and(|total| total < 0.0), "{last}");
}

#[test]
fn a_killed_run_makes_the_same_pairs_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));
    let settings = ["--steps", "6000", "--batch-size", "64", "--log-freq", "200", "--save-freq", "500"];
    let more = [&settings[..], &["--reflow-steps", "7", "--dataset-episodes", "4"]].concat();
    let told = good(&reflow(&whole, &more));
    assert!(told.contains("800 frames, 7 solver steps each"), "{told}");
    assert!(told.contains("800 frames in 4 episodes"), "{told}");

    let mut child = flowgpu(&reflow(&killed, &more)).stderr(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.into_iter().any(|line| line.starts_with("step 800/")));
    child.kill().expect("killed");
    child.wait().expect("reaped");

    let told = good(&["train", "--device", "cpu", "--resume", "--output-dir", text(&killed)]);
    assert!(told.contains("800 frames, 7 solver steps each"), "{told}");
    assert!(weights(&killed) == weights(&whole), "other bytes than the run left alone");
}

#[test]
fn a_teacher_that_chooses_its_steps_is_told_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let (teacher, run) = (folder.path().join("teacher"), folder.path().join("run"));
    let small = ["--preset", "pendulum", "--set", "hidden_dim=8", "--set", "flow.solver=dopri5"];
    let data = ["--device", "cpu", "--steps", "1", "--dataset-root", text(&DESK.data)];
    good(&[&["train"], &small[..], &data, &["--output-dir", text(&teacher)]].concat());
    let from = ["--reflow-from", text(&teacher), "--reflow-steps", "7", "--dataset-episodes", "2"];
    let told = good(&[&["train"], &from[..], &data, &["--output-dir", text(&run)]].concat());
    assert!(told.contains("400 frames, dopri5, 0.0 MB"), "{told}");
    assert!(told.contains("dopri5, chooses its own steps; --reflow-steps"), "{told}");
    assert!(!told.contains("solver steps each"), "{told}");
}

#[test]
fn misuse_is_one_clear_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let regression = folder.path().join("regression");
    let preset =
        ["--preset", "pendulum", "--set", "hidden_dim=8", "--objective", "regression", "--steps", "1"];
    let to = ["--device", "cpu", "--dataset-root", text(&DESK.data), "--output-dir", text(&regression)];
    good(&[&["train"], &preset[..], &to].concat());
    let run = folder.path().join("run");
    for (more, sentence) in [
        (vec!["--reflow-from", text(&regression)], "its objective is regression, which has no paths"),
        (vec!["--reflow-from", text(&DESK.teacher), "--objective", "mip"], "only objective flow has"),
        (vec!["--reflow-from", "nobody"], "unknown policy `nobody`"),
        (
            vec!["--reflow-from", text(&DESK.teacher), "--set", "normalization_mapping.ACTION=MEAN_STD"],
            "`normalization_mapping.ACTION` is \"MIN_MAX\", not \"MEAN_STD\": leave it out",
        ),
        (
            vec!["--reflow-from", text(&DESK.teacher), "--set", "chunk_size=2"],
            "`chunk_size` is 1, not 2: leave it out",
        ),
        (
            vec!["--reflow-from", text(&DESK.teacher), "--set", "output_features.action.shape=[2]"],
            "--set output_features: ",
        ),
        (vec!["--reflow-from", text(&DESK.teacher), "--reflow-steps", "0"], "0 solver steps"),
        (
            vec!["--preset", "pendulum", "--dataset-episodes", "11"],
            "the data set has 10 episodes to train on, use 1 to 10",
        ),
        (vec!["--preset", "pendulum", "--dataset-episodes", "0"], "use 1 to 10"),
        (vec!["--preset", "pendulum", "--learning-curve", "5,2"], "numbers of episodes that rise"),
        (vec!["--preset", "pendulum", "--learning-curve", "0,2"], "numbers of episodes that rise"),
    ] {
        let to = ["train", "--device", "cpu", "--dataset-root", text(&DESK.data), "--output-dir", text(&run)];
        let output = flowgpu(&[&to[..], &more].concat()).output().expect("starts");
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(sentence), "{more:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{more:?}: {}", stderr(&output));
    }
}

#[test]
fn a_learning_curve_has_a_policy_for_every_number_of_episodes() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    let small =
        ["train", "--preset", "pendulum", "--set", "hidden_dim=8", "--steps", "20", "--device", "cpu"];
    let to = ["--dataset-root", text(&DESK.data), "--output-dir", text(&run)];
    let told = good(&[&small[..], &to, &["--learning-curve", "2,10"]].concat());
    assert!(
        told.contains("400 frames in 2 episodes") && told.contains("2000 frames in 10 episodes"),
        "{told}"
    );
    let json = std::fs::read_to_string(run.join("learning_curve.json")).expect("written");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    for (point, episodes) in [(0, 2), (1, 10)] {
        let point = &json["points"][point];
        assert_eq!(point["demonstrations"], episodes);
        let [low, mean, high] =
            ["low", "mean", "high"].map(|key| point["return"][key].as_f64().expect("a number"));
        assert!(low < mean && mean < high && high < 0.0, "{point}");
        assert!(run.join(format!("episodes-{episodes}/checkpoints/last")).exists());
    }
    assert!(json["expert"].as_f64().is_some_and(|total| (total + 142.7).abs() < 0.1), "{json}");
    assert!(run.join("learning_curve.png").is_file());
    let many = folder.path().join("many");
    let to = ["--dataset-root", text(&DESK.data), "--output-dir", text(&many)];
    let output =
        flowgpu(&[&small[..], &to, &["--learning-curve", "2,11"]].concat()).output().expect("starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--learning-curve 11: the data set has 10 episodes"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn pictures_are_drawn_of_a_pendulums_recording_and_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let [episode, ways, field] = ["episode", "ways", "field"].map(|name| folder.path().join(name));
    let data = folder.path().join("data");
    let plot = ["--plot", text(&episode)];
    good(
        &[&["collect", "--env", "pendulum", "--episodes", "1", "--output-dir", text(&data)], &plot[..]]
            .concat(),
    );
    let pictures = ["--plot", text(&ways), "--field", text(&field)];
    good(&[&["sample", "--device", "cpu", "--policy", text(&DESK.teacher)], &pictures[..]].concat());
    for (file, wide) in [(&episode, 900), (&ways, 900), (&field, 1074)] {
        let image = flowgpu::image::Image::from_png(&std::fs::read(file).expect("written")).expect("a PNG");
        assert_eq!(image.width, wide, "{}", file.display());
    }
    let output = flowgpu(&["sample", "--device", "cpu", "--field", text(&field)]).output().expect("starts");
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--field draws policies of environment pendulum"),
        "{}",
        stderr(&output)
    );
}
