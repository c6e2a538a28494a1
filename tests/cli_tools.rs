//! `collect`, `inspect`, `devices`, `doctor` and `--config` as a user runs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn flowgpu(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command
        .args(arguments)
        .current_dir(folder)
        .env("NODEVICE_SELECT", "1")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a run that goes well prints.
fn good(folder: &Path, arguments: &[&str]) -> String {
    let output = flowgpu(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn good_json(folder: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&good(folder, arguments)).expect("stdout is one JSON value")
}

/// One sentence and exit status `code`; never a panic.
fn bad(folder: &Path, arguments: &[&str], code: i32, expected: &str) {
    let output = flowgpu(folder, arguments);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    assert!(error.contains(expected), "{arguments:?}: {error}");
    assert!(!error.contains("panicked") && output.stdout.is_empty(), "{arguments:?}: {error}");
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).expect("reads").map(|entry| entry.expect("reads").path()).collect()
}

#[test]
fn demonstrations_are_collected_and_inspected() {
    let here = folder();
    let here = here.path();
    let said = good(here, &words("collect --max-frames 120 --seed 3 --output_dir=data/one"));
    assert!(said.starts_with("120 frames in ") && said.trim_end().ends_with("data/one"), "{said}");
    let shown = good_json(here, &words("inspect data/one --json"));
    for (key, expected) in [
        ("kind", json!("dataset")),
        ("format", json!("v3.0")),
        ("robot_type", json!("pursuit")),
        ("fps", json!(20)),
        ("frames", json!(120)),
        ("tasks", json!(["catch the ball"])),
    ] {
        assert_eq!(shown[key], expected, "{key}");
    }
    assert_eq!(shown["features"]["observation.image"]["shape"], json!([128, 128, 3]));
    assert_eq!(shown["features"]["action"]["names"], json!(["dx", "dy"]));
    assert_eq!(shown["statistics"]["action"]["max"], json!([5.0, 5.0]));
    let listed = good(here, &words("inspect data/one"));
    assert!(listed.contains("120 frames in") && listed.contains("observation.image"), "{listed}");

    let data = "data/chunk-000/file-000.parquet";
    let read = |name: &str| std::fs::read(here.join("data").join(name).join(data)).expect("a data file");
    good(here, &words("collect --max-frames 120 --seed 3 --output-dir data/again"));
    good(here, &words("collect --max-frames 120 --seed 4 --output-dir data/other"));
    assert!(read("one") == read("again"), "one seed gives one file");
    assert!(read("one") != read("other"), "seeds differ");
}

#[test]
fn collecting_takes_any_actor_and_start() {
    let here = folder();
    let here = here.path();
    for (flags, frames) in [
        ("--policy random --episodes 2 --max-steps 4", 8),
        ("--policy noop --max-frames 9 --start wide", 9),
        ("--policy.path=pursuit --device cpu --max-frames 30", 30),
        ("--execution-noise 3 --vary-noise --noisy-share 0.5 --max-frames 50", 50),
    ] {
        let _ = std::fs::remove_dir_all(here.join("outputs"));
        let said = good(here, &[vec!["collect"], words(flags)].concat());
        assert!(said.starts_with(&format!("{frames} frames")), "{flags}: {said}");
        assert_eq!(good_json(here, &words("inspect outputs/data/pursuit --json"))["frames"], frames);
    }
}

#[test]
fn bad_collections_are_refused_and_leave_nothing() {
    let here = folder();
    for (flags, code, expected) in [
        ("--env pong", 2, "unknown environment `pong`"),
        ("--policy nobody", 2, "unknown policy `nobody`"),
        ("--max-frames 0", 2, "nothing was recorded"),
        ("--episodes 0", 2, "nothing was recorded"),
        ("--episodes three", 2, "invalid value"),
        ("--max-steps 0", 2, "an episode needs a step"),
        ("--execution-noise=-1", 2, "0 or more, not -1"),
        ("--execution-noise nan", 2, "0 or more, not NaN"),
        ("--execution-noise 1 --noisy-share 2", 2, "between 0 and 1, not at 2"),
        ("--vary-noise --episodes 1", 2, "--execution-noise"),
        ("--mixture default --episodes 3", 2, "cannot be used with"),
        ("--mixture other", 2, "invalid value"),
        ("--start sideways", 2, "invalid value"),
        ("--output-dir /", 2, "is not empty"),
        ("--colour red", 2, "unexpected argument"),
    ] {
        bad(here.path(), &[vec!["collect"], words(flags)].concat(), code, expected);
        assert_eq!(files_in(here.path()).len(), usize::from(here.path().join("outputs").exists()), "{flags}");
    }
    std::fs::write(here.path().join("file"), "mine").expect("writes");
    bad(here.path(), &words("collect --output-dir file"), 2, "file is no folder");
    bad(here.path(), &words("collect --max-frames 9 --output-dir file/data"), 1, "cannot create");
    good(here.path(), &words("collect --max-frames 9 --output-dir data"));
    bad(
        here.path(),
        &words("collect --output-dir data"),
        2,
        "data is not empty; choose another --output-dir",
    );
    assert_eq!(std::fs::read(here.path().join("file")).expect("reads"), b"mine");
}

#[test]
fn a_checkpoint_is_inspected() {
    let here = folder();
    let shown = good_json(here.path(), &words("inspect pursuit --json"));
    assert_eq!((&shown["kind"], &shown["type"]), (&json!("checkpoint"), &json!("patch_decoder")));
    assert_eq!(shown["parameters"], 287_618);
    assert_eq!(shown["config"]["chunk_size"], 8);
    assert_eq!(shown["tensors"]["pos_embed"], json!([1, 64, 64]));
    assert_eq!(shown["statistics"]["action"]["high"], json!([5.0, 5.0]));
    let weights = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/pursuit");
    let same = good_json(here.path(), &["inspect", weights, "--json"]);
    assert_eq!(same["tensors"], shown["tensors"]);
    let listed = good(here.path(), &["inspect", weights]);
    assert!(listed.contains("287618 parameters in 68 tensors"), "{listed}");
    let row = listed.lines().find(|line| words(line).starts_with(&["action", "high"]));
    assert_eq!(row.map(words), Some(vec!["action", "high", "5.0000,", "5.0000"]), "{listed}");
}

#[test]
fn what_cannot_be_inspected_is_said_in_one_sentence() {
    let here = folder();
    let here = here.path();
    bad(here, &words("inspect nothing"), 2, "unknown policy `nothing`");
    bad(here, &words("inspect ."), 2, "meta/info.json (a dataset)");
    bad(here, &words("inspect"), 2, "required");
    good(here, &words("collect --max-frames 9 --output-dir data"));
    let info = here.join("data/meta/info.json");
    let whole = std::fs::read_to_string(&info).expect("reads");
    std::fs::write(&info, &whole[..whole.len() / 2]).expect("writes");
    bad(here, &words("inspect data"), 2, "info.json");
    std::fs::remove_file(&info).expect("removes");
    bad(here, &words("inspect data"), 2, "is data the folder of a finished LeRobotDataset?");
    std::fs::write(&info, whole).expect("writes");
    std::fs::write(here.join("data/meta/tasks.parquet"), "no parquet").expect("writes");
    bad(here, &words("inspect data"), 2, "tasks.parquet");

    let copy = here.join("policy");
    std::fs::create_dir(&copy).expect("creates");
    for file in files_in(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/weights/pursuit"))) {
        std::fs::copy(&file, copy.join(file.file_name().expect("a name"))).expect("copies");
    }
    let model = copy.join("model.safetensors");
    let bytes = std::fs::read(&model).expect("reads");
    std::fs::write(&model, &bytes[..bytes.len() - 1]).expect("writes");
    bad(here, &words("inspect policy"), 2, "model.safetensors");
}

#[test]
fn a_reader_that_stops_reading_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    let command = command.args(["inspect", "pursuit"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}

#[test]
fn devices_lists_the_cpu_and_an_adapter() {
    let here = folder();
    let devices = good_json(here.path(), &words("devices --json"));
    let devices = devices.as_array().expect("an array");
    assert_eq!((&devices[0]["name"], &devices[0]["kind"]), (&json!("cpu"), &json!("cpu")));
    assert!(devices.len() > 1, "the WGSL tests need an adapter");
    assert!(devices[1]["max_binding"].as_u64().is_some_and(|bytes| bytes >= 128 << 20), "{}", devices[1]);
    let listed = good(here.path(), &["devices"]);
    assert_eq!(listed.lines().count(), 1 + devices.len());
    let name = devices[1]["name"].as_str().expect("a name");
    assert!(listed.contains(name), "{listed}");
}

/// Linux lets the loader's drivers be named; none is left then.
#[test]
#[cfg(target_os = "linux")]
fn without_an_adapter_there_is_the_cpu_and_advice() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
        command.env("VK_DRIVER_FILES", "/nowhere.json").env("VK_ICD_FILENAMES", "/nowhere.json");
        command.args(arguments).output().expect("the program starts")
    };
    let output = run(&["devices", "--json"]);
    let devices: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(devices.as_array().map(Vec::len), Some(1), "{devices}");
    for device in ["gpu", "llvmpipe"] {
        let output = run(&["doctor", "--device", device]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains("install a Vulkan driver") && error.contains("--device cpu"), "{error}");
    }
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/masked.safetensors");
    assert_eq!(run(&["verify", golden, "--device", "auto"]).status.code(), Some(0));
}

#[test]
fn the_doctor_says_which_kernels_are_right() {
    let here = folder();
    let here = here.path();
    let listed = good(here, &words("doctor --kernel flow_path"));
    let row = listed.lines().find(|line| line.starts_with("flow_path")).expect("a row for the kernel");
    assert!(row.ends_with("pass"), "{row}");
    let verdicts = good_json(here, &words("doctor --device cpu --kernel layer_norm --json"));
    let verdicts = verdicts.as_array().expect("an array");
    assert_eq!(verdicts.len(), 3);
    for verdict in verdicts {
        assert_eq!((&verdict["device"], &verdict["pass"]), (&json!("cpu"), &json!(true)));
        assert!(verdict["cases"].as_u64().is_some_and(|cases| cases > 5), "{verdict}");
        assert!(verdict["nmse"].as_f64().is_some_and(|nmse| nmse < 1e-10), "{verdict}");
    }
    bad(here, &words("doctor --device cpu --kernel fft"), 2, "no such kernel: known are");
    bad(here, &words("doctor --device voodoo"), 2, "no GPU adapter with `voodoo` in its name");
}

#[test]
fn a_config_file_gives_flags_and_the_command_line_wins() {
    let here = folder();
    let here = here.path();
    let write = |text: &str| std::fs::write(here.join("run.toml"), text).expect("writes");
    write("[collect]\nmax_frames = 9\npolicy = 'noop'\noutput-dir = 'from-file'\n[train]\nsteps = 1\n");
    good(here, &words("collect --config run.toml"));
    good(here, &words("--config=run.toml collect --max-frames 4 --output-dir from-line"));
    let frames = |root: &str| good_json(here, &["inspect", root, "--json"])["frames"].clone();
    assert_eq!((frames("from-file"), frames("from-line")), (json!(9), json!(4)));
    for (text, expected) in [
        ("[collect]\nframes = 9\n", "run.toml: [collect]: unknown key `frames`"),
        ("[colect]\n", "run.toml: unknown table `colect`"),
        ("[collect\n", "run.toml: no TOML"),
        ("[collect]\nmax-frames = 'many'\n", "invalid value 'many'"),
    ] {
        write(text);
        bad(here, &words("collect --config run.toml"), 2, expected);
    }
    bad(here, &words("collect --config missing.toml"), 2, "--config missing.toml: cannot be read");
}
