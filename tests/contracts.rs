//! Task contracts, splits and cards as a user meets them: shown, recorded, learnt under, and held to.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn flowgpu(here: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowgpu"));
    command
        .args(arguments)
        .current_dir(here)
        .env("NODEVICE_SELECT", "1")
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// What a run that goes well prints, on stdout and on stderr.
fn good(here: &Path, line: &str) -> (String, String) {
    let output = flowgpu(here, &words(line));
    assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn good_json(here: &Path, line: &str) -> Value {
    serde_json::from_str(&good(here, line).0).expect("stdout is one JSON value")
}

/// One sentence that holds all of `expected`, and exit status 2.
fn bad(here: &Path, line: &str, expected: &[&str]) {
    let output = flowgpu(here, &words(line));
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{line}: {error}");
    for part in expected {
        assert!(error.contains(part), "{line}: {part:?} is not in {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

fn read_json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).expect("reads")).expect("JSON")
}

/// Two episodes to train on, one to validate on, one for stress; 200 frames each.
const RECORD: &str =
    "collect --env pendulum --episodes 2 --validation-episodes 1 --stress-episodes 1 --seed 5";
/// Eight steps of a small network.
const TRAIN: &str = "train --preset pendulum --device cpu --set hidden_dim=16 --batch-size 16 --steps 8 --warmup-steps 2 \
                     --eval-freq 4";

#[test]
fn an_environment_states_its_contract_for_people_and_for_programs() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path();
    let shown = good(here, "inspect --env pursuit").0;
    for part in [
        "pursuit, version 1: catch the ball",
        "20 steps per second",
        "nearer than 15 px",
        "px/step",
        "-5 to 5",
    ] {
        assert!(shown.contains(part), "{part:?} is not in {shown}");
    }
    let contract = good_json(here, "inspect --env pendulum-goal --json");
    let fields: Vec<&str> = contract.as_object().expect("a map").keys().map(String::as_str).collect();
    let expected = "environment version task rate_hz horizon observations action reset success failure termination reward";
    assert_eq!(fields, words(expected));
    assert_eq!(contract["rate_hz"], 20);
    assert_eq!(contract["horizon"], json!({"steps": 200, "seconds": 10.0}));
    assert_eq!(
        contract["action"],
        json!({"key": "action", "shape": [1], "names": ["torque"], "units": ["N m"], "low": [-2.0], "high": [2.0]})
    );
    assert_eq!(contract["observations"][1]["names"], json!(["cos_target", "sin_target"]));
    bad(here, "inspect --env pong", &["unknown environment `pong`: known are pursuit, pursuit-two"]);
    bad(here, "inspect --env pursuit somewhere", &["cannot be used with"]);
    bad(here, "inspect", &["required"]);
}

#[test]
fn a_recording_has_splits_a_contract_and_a_card_that_records_it_again() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path();
    good(here, &format!("{RECORD} --output-dir data --license mit"));
    let shown = good_json(here, "inspect data --json");
    assert_eq!(shown["splits"], json!({"train": "0:2", "validation": "2:3", "stress": "3:4"}));
    assert_eq!((&shown["license"], &shown["problems"]), (&json!("mit"), &json!([])));
    let contract = good_json(here, "inspect --env pendulum --json");
    assert_eq!(shown["contract"], contract);
    assert_eq!(read_json(&here.join("data/meta/contract.json")), contract);
    let listed = good(here, "inspect data").0;
    assert!(
        listed.contains("licence mit") && listed.contains("recorded in environment pendulum"),
        "{listed}"
    );

    let card = fs::read_to_string(here.join("data/README.md")).expect("a card");
    let front = "---\nlicense: mit\ntask_categories:\n- robotics\ntags:\n- LeRobot\n- flowgpu\n- pendulum\nconfigs:\n\
                 - config_name: default\n  data_files: data/*/*.parquet\n---\n";
    assert!(card.starts_with(front), "{card}");
    for part in [
        "| 1 | train | `expert` | expert | resets | none | 200 steps |",
        "| 2 | validation | `expert` | expert | resets | none | 200 steps |",
        "| 3 | stress | `expert` | expert | anywhere | Gaussian, its deviation drawn for each episode from U(0, 2) N m |",
        "| all | | 4 | 800 |",
        "|θ| < 0.2 rad",
    ] {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }
    let again = card.split("```sh\nflowgpu ").nth(1).and_then(|rest| rest.lines().next()).expect("a command");
    good(here, &format!("{again} --output-dir again"));
    for file in ["README.md", "meta/info.json", "meta/contract.json", "data/chunk-000/file-000.parquet"] {
        let bytes = |root: &str| fs::read(here.join(root).join(file)).expect("reads");
        assert!(bytes("data") == bytes("again"), "{file}");
    }
}

#[test]
fn a_recording_without_splits_is_all_for_training_and_its_card_shows_its_cameras() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path();
    good(here, "collect --env pursuit-cameras --max-frames 40 --output-dir data");
    assert_eq!(read_json(&here.join("data/meta/info.json"))["splits"].as_object().expect("a map").len(), 1);
    let card = fs::read_to_string(here.join("data/README.md")).expect("a card");
    for part in [
        "license: cc0-1.0",
        "| `observation.images.arena` | 128 x 128 | 20 | PNG, exact |",
        "| `observation.images.effector` | 64 x 64 | 20 | PNG, exact |",
        "flowgpu collect --env pursuit-cameras --max-frames 40 --seed 0\n",
        "its deviation drawn for each episode from U(0, 5) px/step",
    ] {
        assert!(card.contains(part), "{part:?} is not in {card}");
    }
    bad(here, "collect --license CC0", &["--license \"CC0\"", "cc0-1.0, apache-2.0"]);
    fs::write(here.join("data/meta/contract.json"), "{}").expect("writes");
    let shown = good_json(here, "inspect data --json");
    let problem = shown["problems"][0].as_str().expect("a problem").to_owned();
    assert!(
        shown["contract"].is_null() && problem.contains("contract.json is no task contract"),
        "{problem}"
    );
    fs::remove_file(here.join("data/meta/contract.json")).expect("removes");
    fs::remove_file(here.join("data/README.md")).expect("removes");
    let shown = good_json(here, "inspect data --json");
    assert_eq!(
        (&shown["contract"], &shown["license"], &shown["problems"]),
        (&Value::Null, &Value::Null, &json!([]))
    );
}

#[test]
fn training_keeps_to_the_splits_of_its_data() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path();
    good(here, &format!("{RECORD} --output-dir data"));
    let train = format!("{TRAIN} --dataset-root data --output-dir");
    let told = good(here, &format!("{train} run")).1;
    assert!(told.contains("training on split `train` (2 episodes)"), "{told}");
    assert!(told.contains("is of split `validation` (1 episode) instead of --eval-split's"), "{told}");
    assert!(told.contains("600 frames in 3 episodes"), "{told}");
    let told = good(here, &format!("{train} first --dataset-episodes 1")).1;
    assert!(told.contains("400 frames in 2 episodes"), "{told}");
    let told = good(here, &format!("{train} hard --dataset-split stress --eval-split 0")).1;
    assert!(told.contains("training on split `stress` (1 episode)"), "{told}");
    bad(
        here,
        &format!("{train} none --dataset-split test"),
        &["no episode is in split `test`", "--dataset-split"],
    );

    let info = here.join("data/meta/info.json");
    let mut changed = read_json(&info);
    changed["splits"] = json!({"train": "0:3", "validation": "2:4"});
    fs::write(&info, changed.to_string()).expect("writes");
    let expected =
        ["meta/info.json", "split `validation` is \"2:4\", which shares episodes with split `train`"];
    bad(here, &format!("{train} overlap"), &expected);
    bad(here, "inspect data", &expected);
}

#[test]
fn a_policy_is_held_to_the_contract_it_learnt_under() {
    let here = tempfile::tempdir().expect("a folder");
    let here = here.path();
    good(here, &format!("{RECORD} --output-dir data"));
    good(here, &format!("{TRAIN} --dataset-root data --output-dir run"));
    let saved = here.join("run/checkpoints/last/pretrained_model");
    let contract = good_json(here, "inspect --env pendulum --json");
    let config = read_json(&saved.join("train_config.json"));
    assert_eq!(config["contract"], contract);
    let listed = good(here, "inspect run").0;
    assert!(listed.contains("trained for environment pendulum, version 1"), "{listed}");
    let eval = "eval --device cpu --episodes 1 --policy";
    good(here, &format!("{eval} run --env pendulum"));
    good(here, &format!("{eval} run --env pendulum-goal"));

    // A folder without a manifest, as other programs write them, may be changed.
    let other = here.join("other");
    fs::create_dir(&other).expect("a folder");
    for entry in fs::read_dir(&saved).expect("reads") {
        let file = entry.expect("reads").path();
        let name = file.file_name().expect("a name");
        if !name.to_string_lossy().contains("manifest") {
            fs::copy(&file, other.join(name)).expect("copies");
        }
    }
    let with = |change: &dyn Fn(&mut Value)| {
        let mut config = config.clone();
        change(&mut config["contract"]);
        fs::write(other.join("train_config.json"), config.to_string()).expect("writes");
    };
    let refused = |field: &str| {
        bad(
            here,
            &format!("{eval} other --env pendulum"),
            &["trained for environment `pendulum` with", field],
        );
    };
    with(&|contract| contract["rate_hz"] = 10.into());
    refused("`rate_hz` 10, this one, `pendulum`, has 20");
    with(&|contract| contract["action"]["units"][0] = "mN m".into());
    refused("`action.units` \"mN m\", this one, `pendulum`, has \"N m\"");
    with(&|contract| contract["observations"][0]["high"][2] = 4.0.into());
    refused("`observation.state.high[2]` 4.0, this one, `pendulum`, has 8.0");
    with(&|contract| contract["rate"] = 3.into());
    bad(
        here,
        &format!("{eval} other --env pendulum"),
        &["`contract` cannot be read", "unknown field `rate`"],
    );
    with(&|contract| contract["reset"] = "otherwise".into());
    good(here, &format!("{eval} other --env pendulum"));
    with(&|contract| *contract = Value::Null);
    good(here, &format!("{eval} other --env pendulum"));
}

#[test]
fn built_in_policies_carry_the_contract_of_their_environment() {
    let here = tempfile::tempdir().expect("a folder");
    for name in ["pursuit", "pendulum"] {
        let shown = good_json(here.path(), &format!("inspect {name} --json"));
        let contract = good_json(here.path(), &format!("inspect --env {name} --json"));
        assert_eq!(shown["train_config"]["contract"], contract, "{name}");
    }
}
