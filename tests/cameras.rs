//! An afternoon with two cameras: record, train, sample, evaluate, go on, and what happens when a camera or the state is
//! not what the policy was made for.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use flowgpu::data::Dataset;
use flowgpu::graph::Device;
use flowgpu::image::resize;
use flowgpu::policy::{Backbone, Family, Images, Observations, Policy, Pretrained, resolve, resolve_policy};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const ARENA: &str = "observation.images.arena";
const NEAR: &str = "observation.images.effector";
const STATE: &str = "observation.state";

/// A vision transformer that trains in a moment.
const TINY: &[&str] = &[
    "--preset",
    "pursuit-cameras",
    "--set",
    "image_size=[32,32]",
    "--set",
    "vit_embed_dim=16",
    "--set",
    "vit_heads=2",
    "--set",
    "vit_layers=2",
    "--set",
    "vit_mlp_dim=16",
    "--set",
    "hidden_dim=16",
    "--set",
    "denoiser_heads=2",
    "--set",
    "denoiser_layers=1",
    "--batch-size",
    "4",
    "--warmup-steps",
    "2",
    "--eval-freq",
    "0",
];

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_flowgpu"))
}

fn flowgpu(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the program prints on stdout.
fn prints(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The sentence with which the program refuses.
fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    told
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A folder with a few recorded episodes and a policy that saw them.
struct Desk {
    folder: tempfile::TempDir,
    data: PathBuf,
    run: PathBuf,
}

impl Desk {
    fn name(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }

    fn train(&self, run: &Path, more: &[&str]) -> Command {
        let mut command = binary();
        command.args(["train", "--device", "cpu", "--dataset-root", text(&self.data)]);
        command.args(["--output-dir", text(run)]).args(TINY).args(more);
        command
    }

    /// Writes a safetensors file of what is seen once, by key: pictures of mid grey, and zeros of the state.
    fn seen(&self, name: &str, shapes: &[(&str, &[usize])]) -> String {
        let grey = [128; 3 * 128 * 128];
        let views = shapes.iter().map(|&(key, shape)| {
            let (dtype, size) = if key == STATE { (Dtype::F32, 4) } else { (Dtype::U8, 1) };
            let bytes = if key == STATE { &[0; 64][..] } else { &grey[..] };
            let shape = [&[1], shape].concat();
            let len = size * shape.iter().product::<usize>();
            (key, TensorView::new(dtype, shape, &bytes[..len]).expect("sizes agree"))
        });
        let file = self.name(name);
        std::fs::write(&file, safetensors::serialize(views, None).expect("whole")).expect("written");
        file
    }
}

/// One recording and one run of 8 steps for all tests.
static DESK: LazyLock<Desk> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, run) = (folder.path().join("data"), folder.path().join("run"));
    prints(&["collect", "--env", "pursuit-cameras", "--max-frames", "80", "--output-dir", text(&data)]);
    let desk = Desk { folder, data, run };
    finished(desk.train(&desk.run, &["--steps", "8", "--save-freq", "3", "--log-freq", "1"]));
    desk
});

fn finished(mut command: Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", stderr(&output));
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/last/pretrained_model/model.safetensors")).expect("a model")
}

fn actions(printed: &str) -> Value {
    let json: Value = serde_json::from_str(printed).expect("one object");
    json["actions_normalized"].clone()
}

#[test]
fn a_recording_holds_both_cameras_and_the_state() {
    let dataset = Dataset::open(&DESK.data).expect("reads");
    assert_eq!(dataset.len(), 80);
    let seen = dataset.info.features.for_policy().into_iter().map(|feature| (feature.key, feature.shape));
    let expected =
        [(ARENA, vec![3, 128, 128]), (NEAR, vec![3, 64, 64]), (STATE, vec![2]), ("action", vec![2])];
    assert_eq!(seen.collect::<Vec<_>>(), expected.map(|(key, shape)| (key.to_owned(), shape)));
    let (_, places) = dataset.vectors(STATE).expect("there");
    for (frame, place) in places.chunks(2).enumerate() {
        let [arena, near] = [ARENA, NEAR].map(|key| dataset.image(key, frame).expect("a picture"));
        // The effector, blue and on top, is where the state says, and in the middle of the moving camera.
        let blue = |image: &flowgpu::image::Image, x: usize, y: usize| {
            let at = 3 * (y.min(image.height - 1) * image.width + x.min(image.width - 1));
            image.pixels[at..at + 3] == [0, 0, 255]
        };
        let [x, y] = [place[0] as usize / 2, place[1] as usize / 2];
        assert!(blue(&arena, x, y) && blue(&near, 32, 32), "frame {frame}: {place:?}");
    }
}

#[test]
fn a_policy_of_two_cameras_is_sampled_evaluated_and_used() {
    let (run, data) = (text(&DESK.run), text(&DESK.data));
    let sample = |more: &[&str]| {
        actions(&prints(&[&["sample", "--device", "cpu", "--json", "--policy", run], more].concat()))
    };
    // The data set says which environment it is of, and a frame of it is not the first of episode 42.
    assert_eq!(sample(&["--env-seed", "42"]), sample(&[]));
    assert_eq!(sample(&[])[0].as_array().map(Vec::len), Some(8));
    assert_ne!(sample(&["--dataset-root", data, "--frame", "3"]), sample(&[]));
    let shapes: [(&str, &[usize]); 3] = [(ARENA, &[3, 128, 128]), (NEAR, &[3, 64, 64]), (STATE, &[2])];
    let file = DESK.seen("seen.safetensors", &shapes);
    assert_eq!(sample(&["--observations", &file])[0].as_array().map(Vec::len), Some(8));

    let told = prints(&[
        "eval",
        "--device",
        "cpu",
        "--env",
        "pursuit-cameras",
        "--policy",
        run,
        "--episodes",
        "3",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&told).expect("one object");
    assert_eq!((&report["env"], &report["episodes"]), (&json!("pursuit-cameras"), &json!(3)));
    assert!(report["metrics"]["completed"]["mean"].is_number(), "{report}");
    assert!(report["metrics"]["steps_to_capture"]["mean"].as_f64().is_some_and(|steps| steps <= 100.0));

    // From Rust: cameras in the configuration's order, which is the recording's.
    let pretrained = resolve_policy(text(&DESK.run)).expect("a run");
    let mut policy =
        Policy::from_parts(pretrained, &Device::open("cpu").expect("always there")).expect("loads");
    let (arena, near, place) = ([255; 3 * 128 * 128], [255; 3 * 64 * 64], [128.0, 128.0]);
    let both = vec![Images::Bytes(&arena), Images::Bytes(&near)];
    let act = |policy: &mut Policy, images| {
        policy.select_action(&[0], Observations { images, state: &place }).map_err(|e| e.to_string())
    };
    assert_eq!(act(&mut policy, both).expect("acts").len(), 2);
    policy.reset();
    let told = act(&mut policy, vec![Images::Bytes(&arena)]).expect_err("a camera is left out");
    assert!(told.contains("1 cameras are given, the policy sees 2") && told.contains(NEAR), "{told}");

    // Pictures may come at the network's own size as well: no other than those it would make of them.
    let arena: Vec<u8> = (0..arena.len()).map(|i| (i % 251) as u8).collect();
    let [small, smaller] =
        [(&arena[..], 128), (&near[..], 64)].map(|(bytes, side)| resize(bytes, [side, side], [32, 32]));
    let noise = vec![0.3; policy.config().noise_len()];
    let mut chunk = |images| {
        let seen = Observations { images, state: &place };
        policy.predict_chunk(&seen, &noise).expect("sees").actions
    };
    let own = chunk(vec![Images::Bytes(&arena), Images::Bytes(&near)]);
    assert_eq!(own, chunk(vec![Images::Floats(&small), Images::Floats(&smaller)]));
}

#[test]
fn a_run_killed_and_resumed_ends_with_the_same_bytes() {
    let run = DESK.folder.path().join("killed");
    let mut command = DESK.train(&run, &["--steps", "8", "--save-freq", "3", "--log-freq", "1"]);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    lines.map_while(Result::ok).find(|line| line.starts_with("step 5/")).expect("step 5");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    prints(&["train", "--device", "cpu", "--resume", "--output-dir", text(&run)]);
    assert!(weights(&run) == weights(&DESK.run), "other bytes than the run left alone");
}

#[test]
fn a_camera_may_be_missing_where_the_policy_says_so() {
    let features = json!({
        ARENA: {"type": "VISUAL", "shape": [3, 128, 128]},
        "observation.images.hand": {"type": "VISUAL", "shape": [3, 48, 48]},
        STATE: {"type": "STATE", "shape": [2]},
    });
    let features = format!("input_features={features}");
    let run = DESK.folder.path().join("missing");
    let refused = DESK.train(&run, &["--set", &features, "--steps", "2"]).output().expect("starts");
    let told = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("observation.images.hand") && told.contains("empty_cameras"), "{told}");

    let run = DESK.folder.path().join("allowed");
    finished(DESK.train(&run, &["--set", &features, "--set", "empty_cameras=1", "--steps", "2"]));
    let sample = |more: &[&str]| {
        actions(&prints(&[&["sample", "--device", "cpu", "--json", "--policy", text(&run)], more].concat()))
    };
    // The moving camera, which this policy does not see, is ignored; the hand's camera is nowhere.
    assert_eq!(sample(&["--env", "pursuit-cameras"])[0].as_array().map(Vec::len), Some(8));
    assert_ne!(sample(&["--dataset-root", text(&DESK.data)]), sample(&[]));
    let alone: [(&str, &[usize]); 2] = [(ARENA, &[3, 128, 128]), (STATE, &[2])];
    let with_hand = [&alone[..], &[("observation.images.hand", &[3, 48, 48])]].concat();
    let file = |name, shapes: &[(&str, &[usize])]| DESK.seen(name, shapes);
    assert_ne!(
        sample(&["--observations", &file("alone.safetensors", &alone)]),
        sample(&["--observations", &file("hand.safetensors", &with_hand)])
    );
    prints(&[
        "eval",
        "--device",
        "cpu",
        "--env",
        "pursuit-cameras",
        "--policy",
        text(&run),
        "--episodes",
        "2",
    ]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let policy = ["sample", "--device", "cpu", "--policy", text(&DESK.run)];
    let arena: (&str, &[usize]) = (ARENA, &[3, 128, 128]);
    let near: (&str, &[usize]) = (NEAR, &[3, 64, 64]);
    let place: (&str, &[usize]) = (STATE, &[2]);
    for (name, shapes, sentence) in [
        ("stateless", vec![arena, near], "tensor `observation.state` is missing"),
        ("blind", vec![arena, place], "tensor `observation.images.effector` is missing"),
        (
            "large",
            vec![arena, (NEAR, &[3, 128, 128]), place],
            "tensor `observation.images.effector` has shape [1, 3, 128, 128], the policy sees [B, 3, 64, 64]",
        ),
        ("long", vec![arena, near, (STATE, &[3])], "tensor `observation.state` has shape [1, 3]"),
    ] {
        let file = DESK.seen(&format!("{name}.safetensors"), &shapes);
        let told = refusal(&[&policy[..], &["--observations", &file]].concat());
        assert!(told.contains(&format!("{name}.safetensors")) && told.contains(sentence), "{told}");
    }
    let told = refusal(&["eval", "--device", "cpu", "--env", "pursuit", "--policy", text(&DESK.run)]);
    assert!(told.contains("`observation.images.arena` [3, 128, 128], which environment `pursuit`"), "{told}");
    let told = refusal(&["eval", "--device", "cpu", "--env", "pursuit-cameras", "--policy", "pursuit"]);
    assert!(told.contains("the policy sees `observation.image`") && told.contains(NEAR), "{told}");
    for (key, shape, sentence) in
        [(STATE, "[3]", STATE), ("observation.environment_state", "[1]", "observation.environment_state")]
    {
        let features = format!(
            "input_features={{\"{ARENA}\": {{\"type\": \"VISUAL\", \"shape\": [3, 128, 128]}}, \"{key}\": \
             {{\"type\": \"STATE\", \"shape\": {shape}}}}}"
        );
        let run = DESK.folder.path().join("refused");
        let output =
            DESK.train(&run, &["--set", &features, "--set", "max_state_dim=3", "--steps", "1"]).output();
        let output = output.expect("starts");
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(sentence), "{}", stderr(&output));
    }
}

#[test]
fn demonstrations_on_film_train_as_pictures_do() {
    let (film, run, cache) = (DESK.name("film"), DESK.name("filmed"), DESK.name("decoded"));
    let record =
        ["collect", "--env", "pursuit-cameras", "--max-frames", "40", "--video", "--output-dir", &film];
    prints(&record);
    assert!(Path::new(&film).join(format!("videos/{ARENA}/chunk-000/file-000.mp4")).is_file());
    let dataset = Dataset::open(&film).expect("whole");
    assert_eq!(dataset.image_shape(NEAR).expect("decoded"), [3, 64, 64]);
    let train = |run: &str, more: &[&str]| {
        let mut command = binary();
        command.args(["train", "--device", "cpu", "--dataset-root", &film, "--output-dir", run]);
        finished({
            command.args(TINY).args(["--steps", "3"]).args(more);
            command
        });
        weights(Path::new(run))
    };
    let once = train(&run, &["--random-crop", "0.9", "--image-cache-gib", "0", "--decoded-cache", &cache]);
    assert!(std::fs::read_dir(&cache).expect("there").count() > 0, "decoded pictures are kept");
    // From memory, or decoded again from the film: the same pictures, the same crops, the same weights.
    assert!(once == train(&DESK.name("filmed-again"), &["--random-crop", "0.9"]));
    let told =
        prints(&["sample", "--policy", &run, "--dataset-root", &film, "--frame", "7", "--device", "cpu"]);
    assert!(told.contains("1 x 8 actions"), "{told}");
}

#[test]
fn vision_starts_from_other_peoples_weights() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vit/timm.safetensors");
    let fitting = ["--set", "vit_mlp_dim=24", "--set", "vit_patch_size=4", "--set", "freeze_vision=true"];
    let given = [&["--vision-weights", file, "--steps", "2"], &fitting[..]].concat();
    let run = DESK.folder.path().join("started");
    finished(DESK.train(&run, &given));
    let mut trained = Pretrained::load(resolve(&run).expect("a run").folder).expect("whole");
    let Family::FlowMatching(sizes) = trained.config.family.clone() else {
        panic!("the family it was trained as")
    };
    for (name, tensor) in Backbone::read(file).expect("timm's").for_encoder(&sizes.vit()).expect("fits") {
        assert!(
            trained.tensors.take(&name, &tensor.shape).expect("there") == tensor.values,
            "{name} has moved"
        );
    }
    let refused = |more: &[&str]| {
        let run = DESK.folder.path().join("refused");
        let output =
            DESK.train(&run, &[&["--vision-weights", file], more].concat()).output().expect("starts");
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let told = refused(&["--set", "vit_patch_size=4"]);
    assert!(told.contains("its mlp_dim is 24 where the configuration asks for 16"), "{told}");
    let told = refused(&["--set", "vit_patch_size=4", "--vision-weights", "nowhere.safetensors"]);
    assert!(!told.contains("panicked"), "{told}");
}
