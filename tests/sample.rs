//! `flowgpu sample`, as someone meets it who has a policy and a picture.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use flowgpu::policy::presets::preset;
use flowgpu::policy::tensors::{Tensors, to_safetensors};
use flowgpu::policy::{Config, Network, Parts, Stats, save_pretrained};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use tempfile::TempDir;

fn flowgpu(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output();
    output.expect("the program starts")
}

/// What `sample` prints on stdout with these arguments, on the CPU.
fn sample(arguments: &[&str]) -> String {
    let output = flowgpu(&[&["sample", "--device", "cpu"], arguments].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The normalised actions that `sample --json` prints.
fn normalized(arguments: &[&str]) -> Value {
    let json: Value = serde_json::from_str(&sample(&[&["--json"], arguments].concat())).expect("one object");
    json["actions_normalized"].clone()
}

/// The sentence with which the program refuses.
fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(&[&["sample", "--device", "cpu"], arguments].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty() && !told.contains("panicked"), "{arguments:?}: {told}");
    told
}

/// All numbers of nested lists.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

const KEY: &str = "observation.image";
const FRAME: usize = 3 * 32 * 32;

/// A desk with a policy that sees T small frames, and files beside it.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(n_obs_steps: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut json = preset("pursuit").expect("known").to_json();
        (json["n_obs_steps"], json["chunk_size"], json["n_action_steps"]) =
            (n_obs_steps.into(), 8.into(), 8.into());
        json["input_features"] = json!({KEY: {"type": "VISUAL", "shape": [3, 32, 32]}});
        let config = Config::parse(&json.to_string()).expect("valid");
        let (_, params) = Network::new(&config);
        let values: Vec<Vec<f32>> = params.iter().map(|(id, _)| params.initial(id, 0)).collect();
        let mut stats = Stats::new("stats");
        for (stat, value) in [("min", -5.0), ("max", 5.0), ("mean", 0.0), ("std", 1.0)] {
            stats.insert("action", stat, &[2], vec![value; 2]).expect("two");
        }
        stats.set_bounds("action", &[-5.0; 2], &[5.0; 2]).expect("in order");
        let parts =
            Parts { config: &config, params: &params, values: &values, stats: &stats, train_config: None };
        save_pretrained(folder.path().join("policy"), &parts).expect("saved");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_owned()
    }

    /// Writes a file of one tensor and returns its path.
    fn floats(&self, name: &str, key: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes = to_safetensors([(key.to_owned(), shape, values)]).expect("sizes agree");
        fs::write(self.path(name), bytes).expect("written");
        self.name(name)
    }

    fn bytes(&self, name: &str, shape: &[usize], values: &[u8]) -> String {
        self.raw(name, Dtype::U8, shape, values)
    }

    fn raw(&self, name: &str, dtype: Dtype, shape: &[usize], data: &[u8]) -> String {
        let view = TensorView::new(dtype, shape.to_vec(), data).expect("sizes agree");
        fs::write(self.path(name), safetensors::serialize([(KEY, view)], None).expect("whole"))
            .expect("written");
        self.name(name)
    }
}

/// Pictures that differ.
fn pictures(count: usize) -> Vec<u8> {
    (0..count * FRAME).map(|i| (i * 7 + i / FRAME * 91 + i / 32 * 5) as u8).collect()
}

#[test]
fn the_first_command_of_the_readme_prints_a_chunk() {
    let output = flowgpu(&["sample", "--steps", "20"]);
    let table = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{table}");
    let rows: Vec<Vec<f64>> = table
        .lines()
        .map(|line| line.split_whitespace().map_while(|word| word.parse().ok()).collect())
        .collect();
    let rows: Vec<_> = rows.iter().filter(|row| row.len() == 3).collect();
    assert!(rows.len() >= 8, "{table}");
    assert!(rows.iter().all(|row| row[1..].iter().all(|v| (-5.0..=5.0).contains(v))), "{table}");
    assert!(table.contains("20 solver steps") && table.contains(" ms"), "{table}");
}

#[test]
fn one_seed_gives_one_chunk() {
    let first = normalized(&[]);
    assert_eq!(normalized(&["--seed", "0", "--env-seed", "42"]), first);
    for other in [["--seed", "1"], ["--env-seed", "43"], ["--noise", "zero"], ["--steps", "3"]] {
        assert_ne!(normalized(&other), first, "{other:?}");
    }
}

#[test]
fn one_seed_gives_one_chunk_on_every_device() {
    let on = |device: &str| {
        let output = flowgpu(&["sample", "--steps", "3", "--json", "--device", device]);
        let json: Option<Value> =
            output.status.success().then(|| serde_json::from_slice(&output.stdout).ok())?;
        Some(numbers(&json.expect("one object")["actions_normalized"]))
    };
    let reference = on("oracle").expect("needs no driver");
    let gpu = on("gpu");
    if gpu.is_none() {
        eprintln!("no GPU here, not even a software one: not compared");
    }
    for chunk in [on("cpu"), gpu].into_iter().flatten() {
        assert_eq!(chunk.len(), reference.len());
        assert!(chunk.iter().zip(&reference).all(|(a, b)| (a - b).abs() < 1e-4), "{chunk:?}\n{reference:?}");
    }
}

#[test]
fn weights_as_f16_give_nearly_the_same_chunk() {
    let chunk = |weights| numbers(&normalized(&["--steps", "3", "--weights", weights]));
    let (whole, half) = (chunk("f32"), chunk("f16"));
    assert_eq!(whole, numbers(&normalized(&["--steps", "3"])));
    let errors = half.iter().zip(&whole).map(|(a, b)| (a - b).abs());
    let worst = errors.fold(0.0, f64::max);
    assert!(worst > 0.0 && worst < 0.02, "off by {worst}");
    let told = refusal(&["--weights", "f64"]);
    assert!(told.contains("weights as `f64`: use f32, f16 or f16-products"), "{told}");
}

#[test]
fn what_is_written_can_be_read_and_its_noise_gives_it_again() {
    let desk = Desk::new(1);
    let (tensors, text, plot) =
        (desk.name("chunk.safetensors"), desk.name("chunk.json"), desk.name("plot.png"));
    let printed = normalized(&["--out", &tensors]);
    sample(&["--out", &text, "--plot", &plot]);
    let file = Tensors::parse(&fs::read(&tensors).expect("written"), "chunk").expect("whole");
    let shape = file.shape("actions").expect("there").to_vec();
    assert!(shape.len() == 3 && shape[0] == 1);
    let [actions, answer] =
        ["actions", "actions_normalized"].map(|name| file.read(name, &shape).expect("alike"));
    assert!(actions.iter().all(|v| v.abs() <= 5.0), "inside the bounds");
    let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let near =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(&numbers(&printed), &wide(&answer)));
    let json: Value = serde_json::from_slice(&fs::read(&text).expect("written")).expect("JSON");
    assert!(near(&numbers(&json["actions"]), &wide(&actions)));
    assert_eq!(normalized(&["--noise", &tensors]), printed);
    assert!(fs::read(&plot).expect("written").starts_with(b"\x89PNG"));
}

#[test]
fn a_batch_holds_what_its_samples_give_alone() {
    let desk = Desk::new(1);
    let (policy, pictures) = (desk.name("policy"), pictures(3));
    let noise: Vec<f32> = (0..48).map(|i| (i as f32 * 0.7).sin()).collect();
    let run = |picture: &[u8], noise: &[f32]| {
        let batch = noise.len() / 16;
        let seen = desk.bytes("seen.safetensors", &[batch, 3, 32, 32], picture);
        let noise = desk.floats("noise.safetensors", "noise", &[batch, 8, 2], noise);
        numbers(&normalized(&["--policy", &policy, "--observations", &seen, "--noise", &noise]))
    };
    let batch = run(&pictures, &noise);
    let alone: Vec<f64> =
        (0..3).flat_map(|i| run(&pictures[i * FRAME..][..FRAME], &noise[i * 16..][..16])).collect();
    assert_eq!(batch.len(), 48);
    assert!(batch.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-5), "{batch:?}\n{alone:?}");
    let table = sample(&["--policy", &policy, "--observations", &desk.name("seen.safetensors"), "--profile"]);
    assert!(table.contains("matmul") && table.contains("action 1"), "{table}");
}

#[test]
fn floats_are_bytes_over_255_and_one_frame_stands_for_all() {
    let desk = Desk::new(2);
    let policy = desk.name("policy");
    let run = |file: &str| normalized(&["--policy", &policy, "--observations", file]);
    let one = pictures(1);
    let single = run(&desk.bytes("one.safetensors", &[1, 3, 32, 32], &one));
    let twice = run(&desk.bytes("two.safetensors", &[1, 2, 3, 32, 32], &one.repeat(2)));
    assert_eq!(single, twice);
    let moved = run(&desk.bytes("moved.safetensors", &[1, 2, 3, 32, 32], &pictures(2)));
    assert_ne!(single, moved);
    let floats: Vec<f32> = one.iter().map(|&v| f32::from(v) / 255.0).collect();
    let floats = run(&desk.floats("floats.safetensors", KEY, &[1, 3, 32, 32], &floats));
    assert!(numbers(&single).iter().zip(numbers(&floats)).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn a_recorded_frame_can_be_seen_again() {
    let desk = Desk::new(1);
    let data = desk.name("data");
    let collected = flowgpu(&["collect", "--episodes", "2", "--max-frames", "12", "--output-dir", &data]);
    assert!(collected.status.success(), "{}", String::from_utf8_lossy(&collected.stderr));
    let first = normalized(&["--dataset-root", &data]);
    assert_eq!(normalized(&["--dataset.root", &data, "--frame", "0"]), first);
    assert_ne!(normalized(&["--dataset-root", &data, "--frame", "5"]), first);
    let told = refusal(&["--dataset-root", &data, "--frame", "12"]);
    assert!(told.contains("--frame 12") && told.contains("has frames 0 to 11"), "{told}");
    let told = refusal(&["--dataset-root", &data, "--policy", &desk.name("policy")]);
    assert!(
        told.contains("`observation.image` of frame 0 has shape [3, 128, 128], the policy sees [3, 32, 32]"),
        "{told}"
    );
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let desk = Desk::new(1);
    let policy = desk.name("policy");
    let good = desk.bytes("good.safetensors", &[1, 3, 32, 32], &pictures(1));
    let grey = desk.bytes("grey.safetensors", &[1, 1, 32, 96], &pictures(1));
    let single = desk.bytes("single.safetensors", &[3, 32, 32], &pictures(1));
    let none = desk.bytes("none.safetensors", &[0, 3, 32, 32], &[]);
    let wide = desk.raw("wide.safetensors", Dtype::F64, &[1, 3, 32, 32], &[0; 8 * FRAME]);
    let other = desk.floats("other.safetensors", "camera", &[1], &[0.0]);
    let mut values = vec![0.5; FRAME];
    values[9] = f32::NAN;
    let nan = desk.floats("nan.safetensors", KEY, &[1, 3, 32, 32], &values);
    values[9] = 200.0;
    let large = desk.floats("large.safetensors", KEY, &[1, 3, 32, 32], &values);
    let text = desk.name("text.safetensors");
    fs::write(&text, "no tensors here").expect("written");
    let short = desk.floats("short.safetensors", "noise", &[1, 7, 2], &[0.0; 14]);
    let loud = desk.floats("loud.safetensors", "noise", &[1, 8, 2], &[f32::INFINITY; 16]);
    let two = desk.floats("two.safetensors", "noise", &[2, 8, 2], &[0.0; 32]);
    let missing = desk.name("missing.safetensors");
    let seen = |file| ["--observations", file];
    let with_noise = |file| ["--observations", good.as_str(), "--noise", file];
    for (arguments, sentences) in [
        (&["--steps", "0"][..], &["0 solver steps"][..]),
        (&["--out", "chunk.csv"], &["--out chunk.csv: use .safetensors or .json"]),
        (&["--json", "--profile"], &["cannot be used with"]),
        (&["--frame", "3"], &["--dataset-root"]),
        (&["--env-seed", "1"], &["the policy sees `observation.image` [3, 32, 32]", "--observations"]),
        (&seen(&missing), &["cannot read", "missing.safetensors"]),
        (&seen(&text), &["text.safetensors", "no safetensors file"]),
        (&seen(&other), &["other.safetensors: tensor `observation.image` is missing", "[B, 3, 32, 32]"]),
        (
            &seen(&grey),
            &["grey.safetensors: tensor `observation.image` has shape [1, 1, 32, 96]", "[B, 3, 32, 32]"],
        ),
        (&seen(&single), &["has shape [3, 32, 32], the policy sees [B, 3, 32, 32]"]),
        (&seen(&none), &["has shape [0, 3, 32, 32]"]),
        (&seen(&wide), &["wide.safetensors: tensor `observation.image` is F64: save it as U8"]),
        (&seen(&nan), &["nan.safetensors: tensor `observation.image` holds NaN at element 9"]),
        (&seen(&large), &["large.safetensors: tensor `observation.image` holds 200 at element 9", "[0, 1]"]),
        (&with_noise(&short), &["short.safetensors: tensor `noise` has shape [1, 7, 2]", "[1, 8, 2]"]),
        (&with_noise(&two), &["two.safetensors: tensor `noise` has shape [2, 8, 2]", "[1, 8, 2]"]),
        (&with_noise(&loud), &["loud.safetensors: tensor `noise` holds inf at element 0"]),
        (&with_noise(&good), &["good.safetensors: tensor `noise` of shape [1, 8, 2] is missing"]),
        (&with_noise("loud"), &["cannot read loud"]),
        (&["--dataset-root", &policy], &["info.json"]),
    ] {
        let told = refusal(&[&["--policy", &policy], arguments].concat());
        sentences
            .iter()
            .for_each(|part| assert!(told.contains(part), "{arguments:?}: no {part:?} in: {told}"));
    }
    let told = refusal(&["--policy", "nobody"]);
    assert!(told.contains("unknown policy `nobody`: built in are pursuit"), "{told}");
}
