//! Training as a user lives it: with no flags, killed and resumed, out of disk, misused.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;

use flowgpu::data::Dataset;
use flowgpu::flow::interpolate;
use flowgpu::policy::{Config, Normalizer, presets::preset};
use flowgpu::train::TrainConfig;
use flowgpu::train::data::{TrainingData, statistics};

/// A network that trains in a moment.
const TINY: &[&str] = &[
    "--set",
    "patch_size=64",
    "--set",
    "d_model=16",
    "--set",
    "encoder_layers=1",
    "--set",
    "decoder_layers=1",
    "--set",
    "encoder_heads=2",
    "--set",
    "decoder_heads=1",
    "--set",
    "dim_feedforward=32",
    "--set",
    "dropout=0.1",
    "--batch-size",
    "8",
    "--log-freq",
    "5",
    "--save-freq",
    "7",
    "--eval-freq",
    "0",
    "--warmup-steps",
    "5",
];

/// 300 frames of pursuit, recorded once for all tests.
static DATA: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("data");
    let recorded = flowgpu(&["collect", "--max-frames", "300", "--output-dir", text(&root)]);
    assert!(recorded.status.success(), "{}", stderr(&recorded));
    (folder, root)
});

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_flowgpu"))
}

fn flowgpu(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the program starts")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn train(run: &Path, more: &[&str]) -> Command {
    let mut command = binary();
    command.args(["train", "--device", "cpu", "--dataset-root", text(&DATA.1), "--output-dir", text(run)]);
    command.args(TINY).args(more);
    command
}

/// Goes on with a run; the settings are the run's own.
fn resume(run: &Path, more: &[&str]) -> Output {
    let mut command = binary();
    command.args(["train", "--device", "cpu", "--resume", "--output-dir", text(run)]).args(more);
    command.output().expect("the program starts")
}

fn finished(mut command: Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

fn weights(run: &Path) -> Vec<u8> {
    let model = run.join("checkpoints/last/pretrained_model/model.safetensors");
    std::fs::read(&model).unwrap_or_else(|e| panic!("{}: {e}", model.display()))
}

/// Kills a run with SIGKILL as soon as it prints a line that begins so; says whether it was still alive.
fn kill_at(mut child: Child, beginning: &str) {
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    for line in lines.map_while(Result::ok) {
        if line.starts_with(beginning) {
            break;
        }
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn a_run_killed_at_any_point_and_resumed_ends_with_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    finished(train(&whole, &["--steps", "60"]));
    for (number, beginning) in ["step 10/", "step 15/", "step 30/", "step 45/", "step 55/"].iter().enumerate()
    {
        let run = folder.path().join(format!("killed-{number}"));
        let mut command = train(&run, &["--steps", "60"]);
        kill_at(command.stderr(Stdio::piped()).spawn().expect("starts"), beginning);
        let output = resume(&run, &[]);
        assert!(output.status.success(), "killed at {beginning}: {}", stderr(&output));
        assert!(
            weights(&run) == weights(&whole),
            "killed at {beginning}: other bytes than the run left alone"
        );
        let average =
            |run: &Path| std::fs::read(run.join("checkpoints/last/pretrained_model_ema/model.safetensors"));
        assert!(average(&run).expect("there") == average(&whole).expect("there"), "the averages differ");
        let metrics = |run: &Path| -> Vec<(u64, String)> {
            let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("there");
            let lines =
                text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            lines.map(|line| (line["step"].as_u64().expect("a step"), line["loss"].to_string())).collect()
        };
        assert_eq!(
            metrics(&run),
            metrics(&whole),
            "killed at {beginning}: a gap or a double line in the metrics"
        );
    }
}

#[test]
fn how_data_is_loaded_changes_nothing_but_the_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("cache");
    let steps = ["--steps", "14", "--random-crop", "0.8", "--color-jitter", "0.2,0.2,0.2,0.05"];
    let ways: [&[&str]; 5] = [
        &["--num-workers", "0"],
        &["--num-workers", "3"],
        &["--num-workers", "1", "--image-cache-gib", "0"],
        // Written, then read.
        &["--image-cache-gib", "0", "--decoded-cache", text(&cache)],
        &["--image-cache-gib", "0", "--decoded-cache", text(&cache)],
    ];
    let runs: Vec<(String, Vec<u8>)> = (0..)
        .zip(ways)
        .map(|(number, way)| {
            let run = folder.path().join(format!("run-{number}"));
            let told = stderr(&finished(train(&run, &[&steps[..], way].concat())));
            (told, weights(&run))
        })
        .collect();
    for ((told, trained), way) in runs.iter().zip(ways) {
        assert!(*trained == runs[0].1, "{way:?}: other bytes");
        assert!(told.contains(" data ") && told.contains(" % ETA"), "{told}");
        let on_demand = way.contains(&"--image-cache-gib");
        assert_eq!(told.contains("pictures are decoded as they are needed"), on_demand, "{told}");
    }
    assert!(std::fs::read_dir(&cache).expect("there").count() > 0);
    let plain = folder.path().join("plain");
    finished(train(&plain, &["--steps", "14"]));
    assert!(weights(&plain) != runs[0].1, "pictures were not varied");
    let metrics = std::fs::read_to_string(plain.join("metrics.jsonl")).expect("there");
    let line: serde_json::Value =
        serde_json::from_str(metrics.lines().next().expect("a line")).expect("JSON");
    assert!((0.0..1.0).contains(&line["data_share"].as_f64().expect("a share")), "{line}");
}

#[test]
fn steps_in_parts_resume_to_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let how = ["--steps", "30", "--grad-accum-steps", "2", "--random-crop", "0.8"];
    finished(train(&whole, &how));
    kill_at(train(&killed, &how).stderr(Stdio::piped()).spawn().expect("starts"), "step 15/");
    let output = resume(&killed, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(weights(&killed) == weights(&whole), "other bytes than the run left alone");
    let metrics = std::fs::read_to_string(whole.join("metrics.jsonl")).expect("there");
    let line: serde_json::Value =
        serde_json::from_str(metrics.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["step"], &line["samples"]), (&5.into(), &80.into()));
}

#[test]
fn two_halves_of_a_batch_train_as_the_batch_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let [once, twice] = ["once", "twice"].map(|name| folder.path().join(name));
    // White patches of the preset's own first values are differences of large sums, which products of other sizes round otherwise.
    let first = "initial_values=pytorch";
    let how = ["--steps", "5", "--log-freq", "1", "--set", "dropout=0", "--set", first];
    finished(train(&once, &how));
    finished(train(&twice, &[&how[..], &["--batch-size", "4", "--grad-accum-steps", "2"]].concat()));
    let losses = |run: &Path| -> Vec<f64> {
        let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("there");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    };
    let (once, twice) = (losses(&once), losses(&twice));
    assert!(once.len() >= 5 && once.len() == twice.len());
    for (a, b) in once.iter().zip(&twice) {
        assert!((a - b).abs() <= 2e-6 * a, "{once:?} {twice:?}");
    }
}

#[test]
fn given_actions_are_clean_and_are_not_taught() {
    let dataset = Dataset::open(&DATA.1).expect("opens");
    let config = Config { rtc_training_max_delay: 4, ..preset("pursuit").expect("known") };
    let normalizer = Normalizer::new(&config, &statistics(&dataset).expect("finite")).expect("complete");
    let settings = TrainConfig { batch_size: 32, ..TrainConfig::default() };
    let data = TrainingData::new(dataset, &config, normalizer, &settings).expect("fits");
    let batch = data.batch(3).expect("made");
    let (slots, size) = (config.chunk_size, config.noise_len());
    let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let (mut lengths, mut taught) = ([false; 5], 0);
    for sample in 0..32 {
        let times = &batch.times[sample * slots..][..slots];
        let given = times.iter().take_while(|&&t| t == 1.0).count();
        lengths[given] = true;
        assert!(times[given..].iter().all(|t| *t == times[slots - 1] && *t < 1.0), "{times:?}");
        let [noise, actions] = [&batch.noise, &batch.actions].map(|all| wide(&all[sample * size..][..size]));
        let each: Vec<f64> = wide(times).iter().flat_map(|&t| [t, t]).collect();
        let x = interpolate(&noise, &actions, &each).expect("fits");
        assert_eq!(x[..2 * given], actions[..2 * given]);
        let weights = &batch.weights[sample * slots..][..slots];
        assert!(weights[..given].iter().all(|&weight| weight == 0.0), "{weights:?}");
        taught += weights.iter().filter(|&&weight| weight > 0.0).count();
    }
    assert_eq!(lengths, [true; 5], "32 samples draw every length from 0 to 4");
    let sum: f32 = batch.weights.iter().sum();
    assert!(taught < 32 * slots && (sum * 2.0 - 1.0).abs() < 1e-6, "{taught} actions of two numbers: {sum}");
    let half = batch.part(1, 2);
    assert_eq!(half.times, &batch.times[16 * slots..]);
    let held_out = data.validation(4, 1).next().expect("one").expect("made");
    assert!(held_out.times.chunks(slots).all(|times| times.iter().all(|t| *t == times[0] && *t < 1.0)));
    assert_eq!(held_out.times.len(), 4 * slots);
}

#[test]
fn a_run_with_given_actions_resumes_to_the_same_bytes_and_starts_from_one_without() {
    let folder = tempfile::tempdir().expect("a folder");
    let [plain, whole, killed, tuned] =
        ["plain", "whole", "killed", "tuned"].map(|name| folder.path().join(name));
    let how = ["--steps", "30", "--grad-accum-steps", "2", "--eval-freq", "10"];
    let given = ["--set", "rtc_training_max_delay=4"];
    finished(train(&plain, &how));
    let with = [&how[..], &given].concat();
    finished(train(&whole, &with));
    kill_at(train(&killed, &with).stderr(Stdio::piped()).spawn().expect("starts"), "step 15/");
    let output = resume(&killed, &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(weights(&whole) == weights(&killed), "other bytes than the run left alone");
    assert!(weights(&whole) != weights(&plain), "the key does something");
    let from = ["--policy", text(&plain), "--steps", "7"];
    let mut command = binary();
    command.args(["train", "--device", "cpu", "--dataset-root", text(&DATA.1), "--batch-size", "8"]);
    finished({
        command.args(from).args(given).args(["--output-dir", text(&tuned)]);
        command
    });
    let saved = std::fs::read_to_string(tuned.join("checkpoints/last/pretrained_model/config.json"));
    let saved: serde_json::Value = serde_json::from_str(&saved.expect("reads")).expect("JSON");
    assert_eq!(saved["rtc_training_max_delay"], 4);
}

#[test]
fn training_with_no_flag_records_its_data_and_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = binary();
    command.arg("train").current_dir(folder.path()).stderr(Stdio::piped());
    kill_at(command.spawn().expect("starts"), "step 100/");
    assert!(folder.path().join("outputs/data/pursuit/meta/info.json").is_file());
    let text =
        std::fs::read_to_string(folder.path().join("outputs/train/pursuit/metrics.jsonl")).expect("metrics");
    let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["step"], 100);
    assert!(line["loss"].as_f64().expect("a loss") < 3.0);
}

#[test]
fn a_full_disk_while_saving_leaves_the_last_checkpoint_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finished(train(&run, &["--steps", "7"]));
    let before = weights(&run);
    // A file may have 200 blocks at most and the signal is ignored: writing fails as on a full disk.
    let script = format!(
        "trap '' XFSZ; ulimit -f 200; exec {} train --device cpu --resume --output-dir {} --steps 14",
        env!("CARGO_BIN_EXE_flowgpu"),
        text(&run)
    );
    let output = Command::new("bash").args(["-c", &script]).output().expect("bash starts");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("model.safetensors"), "{}", stderr(&output));
    assert!(weights(&run) == before, "the last checkpoint changed");
    let output = resume(&run, &["--steps", "14"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(weights(&run) != before);
}

#[test]
fn fine_tuning_starts_from_the_given_weights_and_stops_at_its_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    finished(train(&first, &["--steps", "7"]));
    let mut command = binary();
    command.args(["train", "--device", "cpu", "--dataset-root", text(&DATA.1), "--policy", text(&first)]);
    command.args([
        "--output-dir",
        text(&second),
        "--batch-size",
        "8",
        "--log-freq",
        "1",
        "--target-loss",
        "100",
    ]);
    let output = finished(command);
    assert!(stderr(&output).contains("the loss reached 100"), "{}", stderr(&output));
    assert!(second.join("checkpoints/000001").is_dir(), "it stopped at the first step");
    assert!(second.join("loss.png").is_file());
}

#[test]
fn a_policy_that_no_preset_is_for_goes_on_with_its_own_settings_and_named_data() {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, lab, second] = ["first", "lab", "second"].map(|name| folder.path().join(name));
    finished(train(&first, &["--steps", "7", "--lr", "0.002"]));
    std::fs::create_dir(&lab).expect("made");
    for entry in std::fs::read_dir(first.join("checkpoints/last/pretrained_model")).expect("reads") {
        let file = entry.expect("reads").path();
        let name = file.file_name().expect("a name").to_owned();
        if name.to_string_lossy().contains("manifest") {
            continue;
        }
        let mut bytes = std::fs::read(&file).expect("reads");
        if name == "train_config.json" {
            let mut json: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
            assert_eq!(json["env"], "pursuit");
            json["env"] = "our-lab".into();
            bytes = json.to_string().into_bytes();
        }
        std::fs::write(lab.join(name), bytes).expect("writes");
    }
    let tune = ["train", "--device", "cpu", "--policy", text(&lab), "--output-dir", text(&second)];
    let output = flowgpu(&tune);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("`our-lab`") && told.contains("name the data with --dataset-root"), "{told}");
    let output = flowgpu(&[&tune[..], &["--dataset-root", text(&DATA.1)]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let saved = second.join("checkpoints/last/pretrained_model/train_config.json");
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(saved).expect("reads")).expect("JSON");
    let train = &saved["train"];
    assert_eq!((&train["steps"], &train["batch_size"], &train["lr"]), (&7.into(), &8.into(), &0.002.into()));
}

#[test]
fn closed_loop_evaluations_mark_the_best_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finished(train(&run, &["--steps", "14", "--env-eval-freq", "7", "--env-eval-episodes", "3"]));
    let best = std::fs::read_link(run.join("checkpoints/best")).expect("a link");
    assert!(["000007", "000014"].contains(&text(&best)), "{best:?}");
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).expect("there");
    assert_eq!(metrics.lines().filter(|line| line.contains("success_rate")).count(), 2);
}

#[test]
fn misuse_is_one_clear_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let used = folder.path().join("used");
    std::fs::create_dir(&used).expect("made");
    std::fs::write(used.join("thesis.txt"), "do not lose me").expect("written");
    let (data, used, new) = (text(&DATA.1), text(&used), folder.path().join("new"));
    let new = text(&new);
    let nowhere = folder.path().join("nowhere");
    let nowhere = text(&nowhere);
    for (arguments, sentence) in [
        (vec!["--dataset-root", nowhere, "--output-dir", new], "nowhere"),
        (vec!["--dataset-root", data, "--output-dir", used], "used"),
        (vec!["--dataset-root", data, "--output-dir", new, "--steps", "0"], "--steps is 0"),
        (vec!["--dataset-root", data, "--output-dir", new, "--batch-size", "0"], "--batch-size is 0"),
        (vec!["--dataset-root", data, "--output-dir", new, "--lr=-1"], "--lr is -1"),
        (
            vec!["--dataset-root", data, "--output-dir", new, "--preset", "pursuite"],
            "unknown preset `pursuite`",
        ),
        (
            vec!["--dataset-root", data, "--output-dir", new, "--set", "chunksize=4"],
            "unknown key `chunksize`",
        ),
        (
            vec!["--dataset-root", data, "--output-dir", new, "--set", "rtc_training_max_delay=8"],
            "`rtc_training_max_delay` is 8: use less than `chunk_size`",
        ),
        (vec!["--dataset-root", data, "--output-dir", new, "--set", "chunk_size"], "write it as KEY=VALUE"),
        (vec!["--dataset-root", data, "--output-dir", new, "--policy-type", "act"], "--policy-type is act"),
        (vec!["--dataset-root", data, "--output-dir", new, "--policy", nowhere], "nowhere"),
        (vec!["--dataset-root", data, "--output-dir", new, "--device", "voodoo"], "voodoo"),
        (vec!["--output-dir", nowhere, "--resume"], "nowhere"),
        (vec!["--resume"], "--output-dir"),
        (vec!["--resume", "--output-dir", new, "--objective", "mip"], "configuration: leave out --objective"),
        (
            vec!["--resume", "--preset", "pursuit", "--set", "dropout=0", "--dropout", "0"],
            "leave out --preset, --set, --dropout",
        ),
        (
            vec!["--resume", "--policy", nowhere, "--policy-type", "act", "--learning-curve", "1,2"],
            "leave out --policy, --policy-type, --learning-curve",
        ),
        (
            vec!["--resume", "--reflow-from", "pendulum", "--reflow-steps", "5"],
            "leave out --reflow-from, --reflow-steps",
        ),
        (vec!["--reflow-steps", "5"], "--reflow-from"),
        (vec!["--resume", "--output-dir", new, "--env", "pong"], "unknown environment `pong`: known are"),
        (vec!["--dataset-root", data, "--output-dir", new, "--env", "pong"], "unknown environment `pong`"),
        (vec!["--dataset-root", data, "--output-dir", new, "--random-crop", "0"], "--random-crop is 0"),
        (vec!["--dataset-root", data, "--output-dir", new, "--color-jitter", "1,1,1,1"], "--color-jitter is"),
        (
            vec!["--dataset-root", data, "--output-dir", new, "--grad-accum-steps", "0"],
            "--grad-accum-steps is 0",
        ),
        (vec!["--dataset-root", data, "--output-dir", new, "--batch-size", "100000000"], "--batch-size"),
        (vec!["--optimizer", "sgd"], "use adam or adamw"),
    ] {
        let output = binary().arg("train").args(&arguments).output().expect("starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(sentence), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{arguments:?}: {}", stderr(&output));
    }
}
