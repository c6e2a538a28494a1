//! What an evaluation leaves, and how it goes on.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Lab, episodes, read, refusal, told};

/// A JSON text without what is a time of its run, and without where it was written.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for key in flowgpu::eval::artifact::TIMES.iter().chain(&["command"]) {
                fields.remove(*key);
            }
            fields.values_mut().for_each(timeless);
        }
        Value::Array(values) => values.iter_mut().for_each(timeless),
        _ => {}
    }
}

/// Checks that two evaluations differ in times alone: JSON key by key, everything else byte by byte.
fn assert_equal_but_for_times(one: &Path, other: &Path) {
    let names = |folder: &Path| {
        let mut names: Vec<String> = (fs::read_dir(folder).expect("a folder"))
            .chain(fs::read_dir(folder.join("videos")).expect("a folder"))
            .map(|entry| entry.expect("an entry").path())
            .map(|path| path.strip_prefix(folder).expect("below").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one).iter().filter(|name| *name != "videos") {
        let [a, b] = [one, other].map(|folder| fs::read(folder.join(name)).expect("is there"));
        if name.ends_with(".json") || name.ends_with(".jsonl") {
            let lines = |bytes: &[u8]| -> Vec<Value> {
                let mut values: Vec<Value> = serde_json::Deserializer::from_slice(bytes)
                    .into_iter()
                    .map(|v| v.expect("JSON"))
                    .collect();
                values.iter_mut().for_each(timeless);
                values
            };
            assert_eq!(lines(&a), lines(&b), "{name}");
        } else {
            assert!(a == b, "{name} differs");
        }
    }
}

/// Checks a folder's files against the published schemas.
fn assert_keeps_to_schemas(folder: &Path) {
    let schema = |name: &str| {
        let schema = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name));
        jsonschema::validator_for(&schema).expect("a schema")
    };
    let check = |validator: &jsonschema::Validator, value: &Value| {
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:?}");
    };
    check(&schema("run.schema.json"), &read(folder.join("run.json")));
    let validator = schema("episode.schema.json");
    episodes(folder).iter().for_each(|episode| check(&validator, episode));
    // A schema that takes anything would be none.
    let mut other = episodes(folder).remove(0);
    other["outcome"] = json!("maybe");
    assert!(!validator.is_valid(&other));
}

#[test]
fn what_is_left_keeps_to_its_published_schema() {
    let lab = Lab::new();
    let some = ["--policy", "random", "--episodes", "4", "--shove", "40", "--occlusion", "0.2"];
    assert_keeps_to_schemas(&lab.eval("random", &some));
    let policy =
        ["--policy", "pursuit", "--episodes", "3", "--n-action-steps", "8", "--latency-ms", "measured"];
    assert_keeps_to_schemas(&lab.eval("policy", &policy));
}

/// The page's example: 120 demonstrations, 30 held-out rollouts, and everything that belongs to them, twice.
#[test]
fn from_120_demonstrations_to_30_held_out_rollouts_every_byte_but_times_is_the_same() {
    let lab = Lab::new();
    let run = |name: &str| {
        let place = |what: &str| lab.text(&format!("{name}-{what}"));
        told(&[
            "collect",
            "--env",
            "pendulum",
            "--output-dir",
            &place("data"),
            "--episodes",
            "120",
            "--execution-noise",
            "1",
            "--validation-episodes",
            "4",
            "--stress-episodes",
            "4",
        ]);
        told(&[
            "train",
            "--preset",
            "pendulum",
            "--dataset-root",
            &place("data"),
            "--output-dir",
            &place("run"),
            "--steps",
            "1500",
            "--device",
            "cpu",
        ]);
        let policy = place("run");
        lab.eval(
            name,
            &[
                "--env",
                "pendulum",
                "--policy",
                &policy,
                "--name",
                "held-out",
                "--seed",
                "200",
                "--episodes",
                "30",
                "--shove",
                "4",
            ],
        )
    };
    let (first, second) = (run("first"), run("second"));
    assert_equal_but_for_times(&first, &second);

    let card = fs::read_to_string(lab.path("first-data/README.md")).expect("a card");
    assert!(card.contains("validation") && card.contains("stress") && card.contains("license"), "{card}");
    let run = read(first.join("run.json"));
    assert_eq!((&run["complete"], &run["episodes"]), (&json!(true), &json!(30)));
    assert_eq!(run["contract"]["action"]["units"], json!(["N m"]));
    assert_eq!(run["policy"]["sha256"].as_str().map(str::len), Some(64));
    let all = episodes(&first);
    assert_eq!(all.len(), 30);
    assert!(all.iter().enumerate().all(|(i, episode)| episode["seed"] == 200 + i));
    assert!(all.iter().all(|episode| episode["metrics"]["recovery_steps"].is_number()));
    assert!(all.iter().all(|episode| (episode["outcome"] == "failure") == episode["failure"].is_object()));
    // Enough was learned to be told from nothing.
    lab.eval(
        "nothing",
        &["--env", "pendulum", "--policy", "noop", "--seed", "200", "--episodes", "30", "--shove", "4"],
    );
    let words = told(&["compare", &lab.text("first"), &lab.text("nothing")]);
    assert!(words.contains("noop is worse than held-out: return"), "{words}");
    // The weights' checksum is that of the file.
    let trace = fs::read(first.join("trace.mcap")).expect("is there");
    assert!(trace.starts_with(b"\x89MCAP0\r\n"));
}

#[test]
fn lerobots_keys_are_all_there() {
    let lab = Lab::new();
    let info = read(lab.eval("expert", &["--policy", "expert", "--episodes", "6"]).join("eval_info.json"));
    for key in
        ["avg_sum_reward", "avg_max_reward", "pc_success", "n_episodes", "eval_s", "eval_ep_s", "video_paths"]
    {
        assert!(!info["overall"][key].is_null(), "overall.{key}");
    }
    assert_eq!(info["overall"]["pc_success"], 100.0);
    let task = &info["per_task"][0];
    assert_eq!((&task["task_group"], &task["task_id"]), (&json!("pursuit"), &json!(0)));
    for key in ["sum_rewards", "max_rewards", "successes", "seeds"] {
        assert_eq!(task["metrics"][key].as_array().map(Vec::len), Some(6), "{key}");
    }
    assert_eq!(info["per_group"]["pursuit"]["n_episodes"], 6);
    assert_eq!(info["overall"]["video_paths"], json!(["videos/eval_episode_0.mp4"]));
    let success = &info["flowgpu"]["success"];
    assert!(success["wilson"]["low"].as_f64() > Some(0.6) && success["jeffreys"]["high"] == 1.0, "{success}");
}

#[cfg(unix)]
#[test]
fn an_evaluation_that_broke_off_goes_on_where_it_stopped() {
    let lab = Lab::new();
    // A program that breaks off after so many chunks; 200 steps of two actions are 100 chunks an episode.
    let script = lab.path("policy.sh");
    fs::write(
        &script,
        "read hello\necho '{\"chunk_size\":2,\"n_action_steps\":2}'\nn=0\nwhile read line; do n=$((n+1)); \
         [ $n -gt $(cat \"$(dirname \"$0\")/limit\") ] && exit 3; echo '{\"chunk\":[[1.0],[-0.5]]}'; done\n",
    )
    .expect("writes");
    let limit = |chunks: usize| fs::write(lab.path("limit"), chunks.to_string()).expect("writes");
    let policy = format!("exec:sh {}", script.display());
    let flags = [
        "--env",
        "pendulum",
        "--policy",
        &policy,
        "--name",
        "program",
        "--episodes",
        "6",
        "--batch-size",
        "2",
    ];
    limit(100_000);
    let whole = lab.eval("whole", &flags);
    limit(450);
    let output = lab.text("broken");
    let broken =
        [&["eval", "--device", "cpu", "--videos", "1", "--output-dir", &output], &flags[..]].concat();
    let told = refusal(&broken);
    assert!(told.contains("the program ended before it answered"), "{told}");
    assert_eq!(episodes(&lab.path("broken")).len(), 0, "the first two episodes take reruns as well");
    limit(1_500);
    refusal(&broken);
    let kept = episodes(&lab.path("broken")).len();
    assert!(kept == 2 || kept == 4, "{kept}");
    let told = refusal(&["compare", &output, &lab.text("whole")]);
    assert!(told.contains(&format!("holds {kept} of 6 episodes")), "{told}");
    // A line that was torn by the interruption is written again.
    let lines = lab.path("broken/episodes.jsonl");
    let mut torn = fs::read_to_string(&lines).expect("is there");
    torn += "{\"episode\":";
    fs::write(&lines, torn).expect("writes");
    limit(100_000);
    lab.eval("broken", &flags);
    assert_equal_but_for_times(&lab.path("broken"), &whole);
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone() {
    let lab = Lab::new();
    let folder = lab.text("done");
    lab.eval("done", &["--policy", "noop", "--episodes", "2"]);
    let again =
        |flags: &[&str]| refusal(&[&["eval", "--policy", "noop", "--output-dir", &folder], flags].concat());
    assert!(again(&["--episodes", "2"]).contains("holds a finished evaluation"));
    let run = lab.path("done/run.json");
    let mut unfinished = read(&run);
    unfinished["complete"] = json!(false);
    fs::write(&run, unfinished.to_string()).expect("writes");
    let told = again(&["--episodes", "2", "--seed", "7"]);
    assert!(told.contains("a part of another evaluation: `seed` differs"), "{told}");
    fs::create_dir(lab.path("mine")).expect("creates");
    fs::write(lab.path("mine/notes.txt"), "mine").expect("writes");
    let told = refusal(&["eval", "--policy", "noop", "--output-dir", &lab.text("mine")]);
    assert!(told.contains("is not empty and holds no evaluation"), "{told}");
    assert!(
        refusal(&["eval", "--policy", "noop", "--episodes", "0", "--output-dir", &lab.text("x")])
            .contains("nothing to")
    );
}
