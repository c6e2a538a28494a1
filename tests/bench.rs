//! `flowgpu bench`: what a user finds out about a policy before it goes onto a robot.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use flowgpu::graph::{Bank, Device, Program};
use flowgpu::kernels::{Dtype, Set};
use flowgpu::policy::{Network, Sampler, SamplerShape, resolve_policy};
use flowgpu::train::{Purpose, StepShape, Update, step_graph};
use serde_json::Value;

fn flowgpu(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowgpu"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("NODEVICE_SELECT", "1")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a run that goes well prints.
fn good(folder: &Path, arguments: &str) -> String {
    let output = flowgpu(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn good_json(folder: &Path, arguments: &str) -> Value {
    serde_json::from_str(&good(folder, arguments)).expect("stdout is one JSON value")
}

/// One sentence and exit status 2; never a panic.
fn bad(folder: &Path, arguments: &str, expected: &str) {
    let output = flowgpu(folder, arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
    assert!(error.contains(expected), "{arguments}: {error}");
    assert!(!error.contains("panicked") && output.stdout.is_empty(), "{arguments}: {error}");
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is a list"))
}

/// Times in order, and shares of kernels that add up.
fn is_measured(json: &Value, runs: u64) {
    let latency = &json["latency_ms"];
    let times = ["min", "p50", "p90", "p99", "max"].map(|name| number(&latency[name]));
    assert!(times[0] > 0.0 && times.is_sorted(), "{latency}");
    assert_eq!(latency["runs"], runs);
    let kernels = list(&json["kernels"]);
    let sum: f64 = kernels.iter().map(|kernel| number(&kernel["share"])).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    let matmul =
        kernels.iter().find(|kernel| kernel["kernel"] == "matmul").expect("every network multiplies");
    assert!(number(&matmul["gflops"]) > 0.0 && number(&matmul["share_of_multiply_adds"]) > 0.0, "{matmul}");
    assert!(number(&json["multiply_add_gflops"]) > 0.0 && json["note"].is_null(), "{json}");
}

#[test]
fn a_chunk_is_timed_with_its_kernels_and_its_bytes() {
    let here = folder();
    let json = good_json(here.path(), "bench --device cpu --steps 4 --repeat 20 --json");
    is_measured(&json, 20);
    assert_eq!((json["policy"].as_str(), json["solver_steps"].as_u64()), (Some("pursuit"), Some(4)));
    let [chunks, actions] = ["chunks_per_second", "actions_per_second"].map(|key| number(&json[key]));
    assert!((actions / chunks - 8.0).abs() < 1e-9, "a chunk has eight actions");
    let rate = 8.0 * 1e3 / number(&json["latency_ms"]["p99"]);
    assert!((number(&json["control_rate_hz"]) / rate - 1.0).abs() < 1e-9);
    assert!(number(&json["load_ms"]) > 0.0 && number(&json["first_ms"]) > 0.0);
    let said = good(here.path(), "bench --policy.path pendulum --device cpu --batch_size 8 --repeat 5");
    for line in
        ["pendulum on cpu: 8 x ", "time       min ", "rate ", "control ", "memory     weights ", "matmul "]
    {
        assert!(said.contains(line), "{line} in {said}");
    }
}

#[test]
fn a_training_step_is_timed_as_well() {
    let here = folder();
    let json = good_json(
        here.path(),
        "bench --train --policy pendulum --device cpu --batch-size 16 --repeat 5 --json",
    );
    is_measured(&json, 5);
    let per_second = 16.0 * 1e3 / number(&json["latency_ms"]["p50"]);
    assert!((number(&json["samples_per_second"]) / per_second - 1.0).abs() < 1e-9);
    assert!(list(&json["kernels"]).iter().any(|kernel| kernel["kernel"] == "adam"), "{json}");
    assert!(number(&json["bytes"]["sets"]) > 0.0 && number(&json["bytes"]["program"]) > 0.0);
    assert!(json["control_rate_hz"].is_null() && json["solver"].is_null());
}

#[test]
fn an_adaptive_solver_is_timed_without_its_kernels() {
    let here = folder();
    let json =
        good_json(here.path(), "bench --policy pendulum --solver dopri5 --device cpu --repeat 5 --json");
    assert!(json["kernels"].is_null() && json["bytes"]["program"].is_null());
    assert!(json["note"].as_str().is_some_and(|note| note.contains("--solver")), "{json}");
}

#[test]
fn the_memory_plan_is_what_programs_take() {
    let here = folder();
    let pretrained = resolve_policy("pursuit").expect("built in");
    let config = &pretrained.config;
    let (network, params) = Network::new(config);
    let params = Arc::new(params);
    let bank = Bank::new(&Device::Cpu, &params, &[Set::Weights]).expect("fits");
    let shape = SamplerShape { cameras: vec![Some(Dtype::U8)], ..SamplerShape::of(config, 9) };
    let sampler = Sampler::new(config, &network, &bank, shape).expect("compiles");
    let json = good_json(here.path(), "bench --memory --device cpu --batch-size 9 --json");
    assert_eq!(json["bytes"]["program"], sampler.program().bytes());
    assert_eq!(json["bytes"]["sets"]["weights"], bank.bytes());
    is_planned(&json);
    let run = good_json(here.path(), "bench --device cpu --batch-size 9 --repeat 1 --json");
    assert_eq!(run["bytes"]["program"], json["bytes"]["program"]);
    assert_eq!(run["bytes"]["weights"], json["bytes"]["sets"]["weights"]);

    let sets = [Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2, Set::Average];
    let bank = Bank::new(&Device::Cpu, &params, &sets).expect("fits");
    let purpose = Purpose::Update(Update { decoupled: true, average: true });
    let cameras = vec![Some(Dtype::U8)];
    let shape = StepShape { batch: 4, cameras, t_per_slot: false, purpose, dropout: config.dropout };
    let program = Program::new(&step_graph(config, &network, &params, &shape), &bank).expect("compiles");
    let json = good_json(here.path(), "bench --memory --train --device cpu --batch-size 4 --json");
    assert_eq!(json["bytes"]["program"], program.bytes());
    let said: f64 = json["bytes"]["sets"].as_object().expect("sets").values().map(number).sum();
    assert_eq!(said as usize, bank.bytes());
    is_planned(&json);

    let said = good(here.path(), "bench --memory --train --device cpu --batch-size 4");
    for part in
        ["slot  holds", "MiB for programs, whose values share buffers", "MiB for moment 2", "MiB in all"]
    {
        assert!(said.contains(part), "{part} in {said}");
    }
}

/// Buffers add up, and sharing them saves something.
fn is_planned(json: &Value) {
    let programs = list(&json["programs"]);
    let mut total = 0.0;
    for program in programs {
        let buffers = list(&program["buffers"]);
        let bytes: f64 = buffers.iter().map(|buffer| number(&buffer["bytes"])).sum();
        assert_eq!(program["bytes"], bytes as u64);
        assert!(buffers.iter().any(|buffer| number(&buffer["values"]) > 1.0));
        assert!(
            buffers.iter().all(|buffer| buffer["first_launch"].as_u64() <= buffer["last_launch"].as_u64())
        );
        total += bytes * number(&program["copies"]);
    }
    assert_eq!(json["bytes"]["program"], total as u64);
    assert!(number(&json["bytes"]["program_without_sharing"]) > 1.5 * total, "{}", json["bytes"]);
}

#[test]
fn growth_is_fitted_and_drawn() {
    let here = folder();
    good(here.path(), "collect --env pendulum --episodes 16 --max-steps 50 --output-dir data");
    let arguments =
        "bench --policy pendulum --device cpu --repeat 3 --growth growth.png --dataset-root data --json";
    let json = good_json(here.path(), arguments);
    let growth = list(&json["growth"]);
    let names: Vec<_> = growth.iter().filter_map(|ladder| ladder["what"].as_str()).collect();
    assert_eq!(names, ["batch", "chunk", "width", "solver steps", "frames opened", "frames, a batch"]);
    // All 16 episodes in the end, half as many before.
    let frames: Vec<_> = list(&growth[4]["sizes"]).iter().map(number).collect();
    assert_eq!(frames.len(), 5, "{frames:?}");
    assert_eq!((frames[4], 2.0 * frames[3]), (800.0, 800.0), "{frames:?}");
    for ladder in growth {
        let (sizes, ms) = (list(&ladder["sizes"]), list(&ladder["ms"]));
        assert!(sizes.len() >= 2 && sizes.len() == ms.len(), "{ladder}");
        assert!(sizes.iter().map(number).is_sorted() && ms.iter().all(|ms| number(ms) > 0.0), "{ladder}");
        assert!(number(&ladder["exponent"]).is_finite(), "{ladder}");
    }
    let png = std::fs::read(here.path().join("growth.png")).expect("drawn");
    assert!(png.starts_with(b"\x89PNG"));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let here = folder();
    let here = here.path();
    bad(here, "bench --batch-size 0", "--batch-size");
    bad(here, "bench --batch-size 70000", "65536");
    bad(here, "bench --policy nobody", "unknown policy `nobody`");
    bad(here, "bench --preset nobody", "unknown preset `nobody`");
    bad(here, "bench --steps 0", "--steps");
    bad(here, "bench --train --solver heun", "--train");
    bad(here, "bench --device cpu --growth growth.gif", "use .png");
    bad(here, "bench --device cpu --dataset-root data", "--growth");
    bad(
        here,
        "bench --policy pendulum --device cpu --repeat 1 --growth g.png --dataset-root nowhere",
        "nowhere",
    );
    bad(here, "bench --device cpu --memory --solver dopri5", "--solver euler");
    bad(here, "bench --device cpu --train --preset flowmatching --batch-size 60000", "use a smaller batch");
    std::fs::write(here.join("run.toml"), "[bench]\nbatch_size = 0\n").expect("writes");
    bad(here, "bench --config run.toml", "--batch-size");
}
