//! `flowgpu eval --output-dir` and `flowgpu compare`, as someone meets them who has to believe a result.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn flowgpu(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).output().expect("the program starts")
}

/// What a command prints on stdout.
fn told(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The sentence with which it stops, which is about the input.
fn refusal(arguments: &[&str]) -> String {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(!told.contains("panicked"), "{told}");
    told
}

/// A folder of evaluations.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Evaluates into a folder of that name.
    fn eval(&self, name: &str, flags: &[&str]) -> PathBuf {
        let output = self.text(name);
        told(&[&["eval", "--device", "cpu", "--videos", "1", "--output-dir", &output], flags].concat());
        self.path(name)
    }
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("is there")).expect("is JSON")
}

fn episodes(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("episodes.jsonl")).expect("is there");
    text.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
}

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

#[test]
fn what_is_not_the_same_task_and_episodes_is_not_compared() {
    let lab = Lab::new();
    lab.eval("a", &["--policy", "expert", "--episodes", "4"]);
    lab.eval("other-seed", &["--policy", "expert", "--episodes", "4", "--seed", "43"]);
    lab.eval("more", &["--policy", "expert", "--episodes", "5"]);
    lab.eval("other-task", &["--policy", "expert", "--episodes", "4", "--env", "pendulum"]);
    let a = lab.text("a");
    let against = |name: &str| refusal(&["compare", &a, &lab.text(name)]);
    let refused = against("other-seed");
    assert!(refused.contains("they differ in `seed` (43 and 42)"), "{refused}");
    assert!(against("more").contains("`episodes` (5 and 4)"));
    let refused = against("other-task");
    assert!(refused.contains("`contract.environment`") && refused.contains("`contract.action"), "{refused}");
    // Under other conditions the same episodes may be compared: that is what a disturbance does.
    lab.eval("late", &["--policy", "expert", "--episodes", "4", "--action-delay", "4", "--name", "late"]);
    let words = told(&["compare", &a, &lab.text("late")]);
    assert!(words.contains("late") && words.contains("conditions differ: action-delay"), "{words}");
}

#[test]
fn damaged_folders_are_named_with_what_to_do() {
    let lab = Lab::new();
    let a = lab.eval("a", &["--policy", "expert", "--episodes", "4"]);
    lab.eval("b", &["--policy", "noop", "--episodes", "4"]);
    let b = lab.text("b");
    let spoil = |file: &str, change: &dyn Fn(&str) -> String| {
        let path = a.join(file);
        let whole = fs::read_to_string(&path).expect("is there");
        fs::write(&path, change(&whole)).expect("writes");
        let told = refusal(&["compare", &lab.text("a"), &b]);
        fs::write(&path, whole).expect("writes");
        told
    };
    let told = spoil("episodes.jsonl", &|text| text[..text.len() - 40].to_owned());
    assert!(told.contains("episodes.jsonl, line 4: it is cut off"), "{told}");
    let told =
        spoil("episodes.jsonl", &|text| text.lines().take(3).map(|line| format!("{line}\n")).collect());
    assert!(told.contains("holds 3 of 4 episodes: run its command again"), "{told}");
    let told =
        spoil("episodes.jsonl", &|text| text.lines().skip(1).map(|line| format!("{line}\n")).collect());
    assert!(told.contains("line 1: is episode 1, not 0: episodes are missing"), "{told}");
    let told = spoil("run.json", &|text| text.replace("\"schema\": 1", "\"schema\": 0"));
    assert!(told.contains("is of schema 0, this program reads schema 1: evaluate again"), "{told}");
    let told = spoil("run.json", &|text| text[..text.len() / 2].to_owned());
    assert!(told.contains("run.json: it is cut off"), "{told}");
    let told = refusal(&["compare", &lab.text("a"), &lab.text("nowhere")]);
    assert!(told.contains("nowhere") && told.contains("flowgpu eval --output-dir"), "{told}");
    assert!(refusal(&["compare", &lab.text("a")]).contains("at least two folders"));
}

#[test]
fn no_winner_is_named_where_the_episodes_do_not_say() {
    let lab = Lab::new();
    lab.eval(
        "flow",
        &["--policy", "pursuit", "--episodes", "12", "--n-action-steps", "4", "--name", "every-4"],
    );
    lab.eval(
        "same",
        &["--policy", "pursuit", "--episodes", "12", "--n-action-steps", "4", "--name", "again"],
    );
    lab.eval("noop", &["--policy", "noop", "--episodes", "12"]);
    let words = told(&["compare", &lab.text("flow"), &lab.text("same"), &lab.text("noop")]);
    assert!(words.contains("undecided between again and every-4: success"), "{words}");
    assert!(words.contains("noop succeeds less often than every-4"), "{words}");
    let json = told(&["compare", &lab.text("flow"), &lab.text("noop"), "--json"]);
    let json: Value = serde_json::from_str(&json).expect("one object");
    assert_eq!(json["pairs"][0]["verdict"], "worse");
    assert_eq!(json["rows"][0]["policy"], "every-4");
    let interval = &json["pairs"][1]["difference"];
    assert!(interval["low"].as_f64() > Some(0.0), "noop takes more steps: {interval}");
}

#[test]
fn chunks_that_take_time_are_counted_and_cost_what_they_cost() {
    let lab = Lab::new();
    let flags = ["--policy", "pursuit", "--episodes", "10", "--n-action-steps", "4"];
    let timed = |name: &str, more: &[&str]| episodes(&lab.eval(name, &[&flags[..], more].concat()));
    let steps = |all: &[Value]| all.iter().filter_map(|e| e["steps"].as_u64()).sum::<u64>();
    let ideal = timed("ideal", &[]);
    let late = timed("late", &["--inference-delay", "3"]);
    let waiting = timed("waiting", &["--inference-delay", "3", "--chunking", "wait"]);
    assert!(steps(&ideal) < steps(&late) && steps(&late) < steps(&waiting));
    assert!(ideal.iter().chain(&late).all(|episode| episode["idle_steps"] == 0));
    assert!(waiting.iter().any(|episode| episode["idle_steps"].as_u64() > Some(0)));
    // 150 ms are three steps at 20 Hz.
    let milliseconds = timed("ms", &["--latency-ms", "150", "--deadline-ms", "149"]);
    for (late, ms) in late.iter().zip(&milliseconds) {
        assert_eq!((&late["steps"], &ms["deadline_misses"]), (&ms["steps"], &ms["chunks"]));
    }
    let in_time = timed("in-time", &["--latency-ms", "150", "--deadline-ms", "150"]);
    assert!(in_time.iter().all(|episode| episode["deadline_misses"] == 0));
    assert_eq!(
        read(lab.path("ms/run.json"))["conditions"]["timing"],
        json!({"simulated_latency_ms": 150.0, "deadline_ms": 149.0})
    );
    assert!(refusal(&["eval", "--policy", "expert", "--inference-delay", "2"]).contains("takes no time"));
    assert!(
        refusal(&["eval", "--chunking", "prefix", "--inference-delay", "1"])
            .contains("rtc_training_max_delay")
    );
    assert!(refusal(&["eval", "--latency-ms", "soon"]).contains("use a number of milliseconds, or measured"));
}

/// The expert looks for red and is not fooled by noise on a picture; a network is.
#[test]
fn noise_on_its_pictures_costs_the_built_in_policy_steps() {
    let lab = Lab::new();
    let flags = ["--policy", "pursuit", "--episodes", "20", "--n-action-steps", "4"];
    let steps = |name: &str, more: &[&str]| -> u64 {
        let all = episodes(&lab.eval(name, &[&flags[..], more].concat()));
        all.iter().filter_map(|episode| episode["steps"].as_u64()).sum()
    };
    let (clean, none) = (steps("clean", &[]), steps("none", &["--observation-noise", "0"]));
    let noisy = steps("noisy", &["--observation-noise", "0.4"]);
    assert_eq!(clean, none);
    assert!(noisy as f64 > 1.05 * clean as f64, "{noisy} steps with noise, {clean} without");
}

#[cfg(unix)]
#[test]
fn a_program_that_does_not_keep_to_the_protocol_is_told_what_is_wrong() {
    let hello = "read h; echo '{\"chunk_size\":2,\"n_action_steps\":1}'; read o; ";
    let say = |script: &str| {
        let lab = Lab::new();
        let policy = format!("exec:{script}");
        let output = lab.text("x");
        refusal(&[
            "eval",
            "--env",
            "pendulum",
            "--episodes",
            "1",
            "--policy",
            &policy,
            "--output-dir",
            &output,
        ])
    };
    assert!(say("exit 7").contains("the program ended before it answered"));
    assert!(say("read h; echo hello").contains("`hello` is not what the protocol says"));
    assert!(
        say("read h; echo '{\"chunk_size\":2,\"n_action_steps\":3}'")
            .contains("no more of them executed than there are")
    );
    assert!(say(&format!("{hello} echo '{{\"chunk\":[[0.0]]}}'")).contains("its chunk is 1 x 1, not 2 x 1"));
    assert!(say(&format!("{hello} echo '{{\"chunk\":[[0.0],[0.0,1.0]]}}'")).contains("2 x 2, not 2 x 1"));
    assert!(
        say(&format!("{hello} echo '{{\"chunk\":[[0.0],[null]]}}'"))
            .contains("is not what the protocol says")
    );
    assert!(say(&format!("{hello} echo '{{\"chunk\":[[0.0],[1e39]]}}'")).contains("number out of range"));
    assert!(
        say(&format!("{hello} echo '{{\"chunk\":[[0.0],[NaN]]}}'")).contains("is not what the protocol says")
    );
    assert!(say("no-such-program-at-all").contains("the program ended before it answered"));
}

#[test]
fn the_python_example_swings_the_pendulum_up() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("not run: there is no python3 on this machine");
        return;
    }
    let lab = Lab::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/exec_policy.py");
    let policy = format!("exec:python3 {}", script.display());
    let all = episodes(&lab.eval("python", &["--env", "pendulum", "--policy", &policy, "--episodes", "5"]));
    assert!(all.iter().all(|episode| episode["outcome"] == "success"), "{all:?}");
    assert_eq!(read(lab.path("python/run.json"))["policy"]["kind"], "program");
}
