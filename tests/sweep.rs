//! `flowgpu eval` and `sample` with solvers, guidance and noise, as someone meets them who chooses a setting.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use flowgpu::policy::presets::preset;
use flowgpu::policy::{Config, Network, Parts, Stats, save_pretrained};
use flowgpu::sim::KNOWN;
use serde_json::{Value, json};

fn flowgpu(arguments: &[&str]) -> Output {
    let output =
        Command::new(env!("CARGO_BIN_EXE_flowgpu")).args(arguments).args(["--device", "cpu"]).output();
    output.expect("the program starts")
}

/// What a command prints on stdout and stderr.
fn told(arguments: &[&str]) -> (String, String) {
    let output = flowgpu(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// What `--json` prints.
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&told(&[arguments, &["--json"]].concat()).0).expect("one JSON object")
}

/// `eval --json` of the pendulum with three episodes.
fn eval(arguments: &[&str]) -> Value {
    json(&[&["eval", "--env", "pendulum", "--episodes", "3"], arguments].concat())
}

/// The sentence with which the program stops, and its exit status.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = flowgpu(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.stdout.is_empty() && !told.contains("panicked"), "{arguments:?}: {told}");
    (output.status.code(), told)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Pendulum policies of first values: `flow`, `dropped` (trained with observation dropout, so they say), `mip`.
struct Policies {
    folder: tempfile::TempDir,
}

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let policies = Policies { folder: tempfile::tempdir().expect("a folder") };
    policies.save("flow", &[]);
    policies.save("dropped", &[("observation_dropout", json!(0.1))]);
    policies.save("mip", &[("objective", json!("mip"))]);
    policies
});

impl Policies {
    fn save(&self, name: &str, changes: &[(&str, Value)]) {
        let mut json = preset("pendulum").expect("known").to_json();
        (json["chunk_size"], json["n_action_steps"]) = (4.into(), 4.into());
        for (key, value) in changes {
            json[*key] = value.clone();
        }
        let config = Config::parse(&json.to_string()).expect("valid");
        let (_, params) = Network::new(&config);
        let values: Vec<Vec<f32>> = params.iter().map(|(id, _)| params.initial(id, 1)).collect();
        let mut stats = Stats::new("stats");
        for (stat, value) in
            [("min", -2.0), ("max", 2.0), ("mean", 0.0), ("std", 1.0), ("q01", -2.0), ("q99", 2.0)]
        {
            stats.insert("action", stat, &[1], vec![value]).expect("one");
            stats.insert("observation.state", stat, &[3], vec![value; 3]).expect("three");
        }
        stats.set_bounds("action", &[-2.0], &[2.0]).expect("in order");
        let parts =
            Parts { config: &config, params: &params, values: &values, stats: &stats, train_config: None };
        save_pretrained(self.folder.path().join(name), &parts).expect("saved");
    }
}

/// The folder of a policy.
fn policy(name: &str) -> String {
    POLICIES.folder.path().join(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_list_of_solvers_and_steps_is_one_table_on_equal_resets() {
    let flow = policy("flow");
    let found = eval(&["--policy", &flow, "--steps", "1,4", "--solver", "euler,rk4,dopri5", "--seed", "200"]);
    assert_eq!(
        (&found["env"], &found["episodes"], &found["seed"]),
        (&"pendulum".into(), &3.into(), &200.into())
    );
    let rows = found["rows"].as_array().expect("rows");
    let settings: Vec<_> = rows.iter().map(|row| (row["solver"].as_str(), row["steps"].as_u64())).collect();
    let fixed = |solver| [(Some(solver), Some(1)), (Some(solver), Some(4))];
    assert_eq!(settings, [&fixed("euler")[..], &fixed("rk4"), &[(Some("dopri5"), None)]].concat());
    let evaluations: Vec<f64> = rows.iter().map(|row| number(&row["evaluations_per_chunk"])).collect();
    assert_eq!(evaluations[..4], [1.0, 4.0, 4.0, 16.0]);
    assert!(evaluations[4] >= 8.0, "dopri5 counts what it asked: {evaluations:?}");
    for row in rows {
        let metric = &row["metrics"]["return"];
        let [low, mean, high] = ["low", "mean", "high"].map(|end| number(&metric[end]));
        assert!(low <= mean && mean <= high && low < high, "{row}");
        assert!(number(&row["ms_per_chunk"]) > 0.0 && number(&row["batch"]) == 3.0 && row["chunks"] == 150);
        assert!(row["difference"].is_null());
    }
    // A row is what the same setting gives alone.
    for (row, setting) in rows.iter().zip([["1", "euler"], ["4", "euler"], ["1", "rk4"], ["4", "rk4"]]) {
        let [steps, solver] = setting;
        let alone = eval(&["--policy", &flow, "--steps", steps, "--solver", solver, "--seed", "200"]);
        assert_eq!(alone["metrics"]["return"]["mean"], row["metrics"]["return"]["mean"]);
        assert_eq!(alone["evaluations_per_chunk"], row["evaluations_per_chunk"]);
        assert_eq!((&alone["solver"], &alone["solver_steps"].to_string()), (&solver.into(), &steps.into()));
    }
}

#[test]
fn policies_are_compared_pair_by_pair_and_objectives_without_a_flow_once() {
    let (flow, mip) = (policy("flow"), policy("mip"));
    let folder = tempfile::tempdir().expect("a folder");
    let plot = folder.path().join("sweep.png");
    let arguments = ["--policy", "expert", "--policy", &flow, "--policy", &mip, "--steps", "1,2"];
    let found = eval(&[&arguments[..], &["--plot", plot.to_str().expect("UTF-8")]].concat());
    let rows = found["rows"].as_array().expect("rows");
    let settings: Vec<_> = rows.iter().map(|row| (&row["solver"], &row["steps"])).collect();
    let (none, euler) = (Value::Null, Value::from("euler"));
    assert_eq!(settings, [(&none, &none), (&euler, &1.into()), (&euler, &2.into()), (&none, &none)]);
    assert!(rows[0]["difference"].is_null() && rows[0]["evaluations_per_chunk"].is_null());
    assert_eq!(rows[3]["evaluations_per_chunk"], 2.0);
    for row in &rows[1..] {
        assert_eq!(row["difference"]["policy"], "expert");
        let difference = &row["difference"]["metrics"]["return"];
        let gap = number(&row["metrics"]["return"]["mean"]) - number(&rows[0]["metrics"]["return"]["mean"]);
        assert!((number(&difference["mean"]) - gap).abs() < 1e-9, "{difference}");
        assert!(number(&difference["low"]) <= gap && gap <= number(&difference["high"]));
    }
    assert!(std::fs::read(plot).expect("written").starts_with(b"\x89PNG"));

    let few = [&["eval", "--env", "pendulum", "--episodes", "2"], &arguments[..]].concat();
    let (table, notes) = told(&few);
    let heads = [
        "policy",
        "solver",
        "steps",
        "return",
        "upright",
        "evaluations",
        "ms a chunk",
        "return less expert's",
    ];
    heads.iter().for_each(|head| assert!(table.contains(head), "no {head} in\n{table}"));
    assert!(table.lines().count() == 7 && table.contains("batches of 2"), "{table}");
    assert!(!notes.contains("is a rule"), "{notes}");
}

#[test]
fn an_episode_is_drawn_beside_the_experts_in_every_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("episode.png");
    let flow = policy("flow");
    let others = KNOWN.map(|env| (env, "noop"));
    for (env, name) in [("pendulum", flow.as_str()), ("pendulum", "expert")].into_iter().chain(others) {
        let plot = ["--policy", name, "--episodes", "2", "--plot", file.to_str().expect("UTF-8")];
        told(&[&["eval", "--env", env], &plot[..]].concat());
        assert!(std::fs::read(&file).expect("written").starts_with(b"\x89PNG"), "{env} {name}");
        std::fs::remove_file(&file).expect("it was there");
    }
}

#[test]
fn a_scale_of_one_is_no_guidance_to_the_last_bit_and_costs_as_much() {
    let dropped = policy("dropped");
    let run =
        |more: &[&str]| eval(&[&["--policy", &dropped, "--steps", "2", "--solver", "heun"], more].concat());
    let (plain, one, two) = (run(&[]), run(&["--guidance-scale", "1"]), run(&["--guidance-scale", "2"]));
    assert_eq!(
        (&plain["metrics"], &plain["evaluations_per_chunk"]),
        (&one["metrics"], &one["evaluations_per_chunk"])
    );
    assert_eq!(number(&plain["evaluations_per_chunk"]), 4.0);
    assert_eq!(number(&two["evaluations_per_chunk"]), 8.0);
    assert_ne!(plain["metrics"], two["metrics"]);
    let given = run(&["--guidance-scale", "2", "--unconditional", "-0.5,0.5,1"]);
    assert_ne!(given["metrics"], two["metrics"]);
    let zeros = run(&["--guidance-scale", "2", "--unconditional", "zeros"]);
    assert_eq!(zeros["metrics"], two["metrics"]);

    let sample =
        |more: &[&str]| json(&[&["sample", "--env", "pendulum", "--policy", &dropped], more].concat());
    let (plain, one, two) =
        (sample(&[]), sample(&["--guidance-scale", "1"]), sample(&["--guidance-scale", "2"]));
    assert_eq!((&plain["actions"], &plain["evaluations"]), (&one["actions"], &one["evaluations"]));
    assert_eq!(number(&two["evaluations"]), 2.0 * number(&plain["evaluations"]));
    assert_ne!(plain["actions_normalized"], two["actions_normalized"]);
}

#[test]
fn guidance_without_observation_dropout_is_remarked_on() {
    let note = |name: &str, scale: &str| {
        let policy = policy(name);
        let (_, notes) =
            told(&["sample", "--env", "pendulum", "--policy", &policy, "--guidance-scale", scale]);
        notes.contains("without observation dropout")
    };
    assert!(note("flow", "1.5") && !note("flow", "1") && !note("dropped", "1.5"));
}

#[test]
fn a_sample_can_be_timed_and_solved_for_in_every_way() {
    let flow = policy("flow");
    let sample = |more: &[&str]| json(&[&["sample", "--env", "pendulum", "--policy", &flow], more].concat());
    for (solver, evaluations) in [("euler", 3.0), ("heun", 6.0), ("midpoint", 6.0), ("rk4", 12.0)] {
        let found = sample(&["--solver", solver, "--steps", "3"]);
        assert_eq!((&found["solver"], number(&found["evaluations"])), (&solver.into(), evaluations));
        assert!(found["latency_ms"].is_null());
    }
    let exact = sample(&["--solver", "dopri5", "--rtol", "1e-6", "--atol", "1e-6"]);
    let loose = sample(&["--solver", "dopri5", "--rtol", "1e-2", "--atol", "1e-2"]);
    assert!(number(&exact["evaluations"]) > number(&loose["evaluations"]), "{exact}");
    let latency = &sample(&["--repeat", "20"])["latency_ms"];
    let [p50, p95, p99, max] = ["p50", "p95", "p99", "max"].map(|name| number(&latency[name]));
    assert!(0.0 < p50 && p50 <= p95 && p95 <= p99 && p99 <= max, "{latency}");
    assert_eq!((&latency["runs"], &latency["batch"]), (&20.into(), &1.into()));
    let (table, notes) = told(&[
        "sample", "--env", "pendulum", "--policy", &flow, "--repeat", "3", "--solver", "dopri5", "--steps",
        "4",
    ]);
    assert!(table.contains("3 runs at batch 1: p50 ") && table.contains("dopri5, "), "{table}");
    assert!(notes.contains("dopri5 chooses its own steps"), "{notes}");
}

#[test]
fn what_no_solver_does_is_null_and_remarked_on() {
    let (flow, mip) = (policy("flow"), policy("mip"));
    let of = |name| ["--env", "pendulum", "--policy", name];
    for (name, more) in [(&mip, &["--steps", "4", "--solver", "rk4"][..]), (&flow, &["--solver", "dopri5"])] {
        let eval = [&["eval", "--episodes", "1"], &of(name)[..], more].concat();
        let sample = [&["sample"], &of(name)[..], more].concat();
        for command in [eval, sample] {
            let (_, notes) = told(&command);
            assert_eq!(
                notes.contains("--solver, --steps and tolerances do nothing"),
                *name == mip,
                "{notes}"
            );
            assert_eq!(json(&command)["solver_steps"], Value::Null, "{command:?}");
        }
    }
    let own = json(&[&["sample"], &of(&flow)[..]].concat());
    assert!(own["solver_steps"].is_u64() && own["solver"] == "euler", "{own}");
    let (_, notes) = told(&[&["sample"], &of(&mip)[..], &["--rtol", "1e-3"]].concat());
    assert!(notes.contains("tolerances do nothing"), "{notes}");
    let (_, notes) = told(&[&["sample"], &of(&flow)[..], &["--solver", "dopri5", "--profile"]].concat());
    assert!(notes.contains("no single program to profile"), "{notes}");
}

#[test]
fn a_table_can_be_asked_for_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sweep.toml");
    std::fs::write(&file, "[eval]\nsteps = [1, 2]\nsolver = 'euler,midpoint'\nepisodes = 1")
        .expect("written");
    let config = ["--config", file.to_str().expect("UTF-8"), "eval", "--env", "pendulum"];
    let found = json(&config);
    assert_eq!(found["rows"].as_array().map(Vec::len), Some(4));
    assert!(found["rows"].as_array().is_some_and(|rows| rows.iter().all(|row| row["policy"] == "pendulum")));
    assert_eq!(json(&[&config[..], &["--steps", "3"]].concat())["rows"].as_array().map(Vec::len), Some(2));
}

#[test]
fn exploration_noise_is_the_same_for_the_same_seed() {
    let run = |more: &[&str]| eval(&[&["--policy", "expert"], more].concat());
    let plain = run(&[]);
    assert!(plain["perturbations"].is_null());
    assert_eq!(run(&["--exploration-noise", "0"])["metrics"], plain["metrics"]);
    let noisy = run(&["--exploration-noise", "0.7"]);
    assert_eq!(noisy["perturbations"], json!({ "action-noise": 0.7 }));
    assert_eq!(run(&["--action-noise", "0.7"])["metrics"], noisy["metrics"]);
    assert_ne!(noisy["metrics"], plain["metrics"]);
    assert_eq!(run(&["--exploration-noise", "0.7"])["metrics"], noisy["metrics"]);
    let (table, _) = told(&["eval", "--env", "pendulum", "--policy", "noop", "--exploration-noise", "0.7"]);
    assert!(table.contains("action noise 0.7"), "{table}");
    assert_ne!(run(&["--exploration-noise", "0.7", "--noise-seed", "5"])["metrics"], noisy["metrics"]);
}

#[test]
fn a_panel_shows_every_disturbance_that_fits_beside_undisturbed_episodes() {
    let panel =
        ["eval", "--env", "pendulum", "--policy", "expert", "--episodes", "2", "--perturbation-panel"];
    let found = json(&panel);
    let rows = found["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), &found["perturbation_seed"]), (40, &0.into()));
    let row = |axis: &str, level: f64| {
        let row = rows.iter().find(|row| row["axis"] == axis && row["level"] == level);
        &row.expect("a row")["metrics"]["return"]
    };
    let late = eval(&["--policy", "expert", "--action-delay", "4", "--episodes", "2"]);
    assert_eq!(late["metrics"]["return"]["mean"], row("action-delay", 4.0)["mean"], "as it is alone");
    let gap = number(&row("action-delay", 4.0)["mean"]) - number(&rows[0]["metrics"]["return"]["mean"]);
    assert!((number(&row("action-delay", 4.0)["difference"]["mean"]) - gap).abs() < 1e-9 && gap < 0.0);
    let (table, _) = told(&panel);
    for part in ["undisturbed", "shove", "8 rad/s", "return less undisturbed"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    for (more, sentence) in [
        (&["--mass", "1"][..], "--perturbation-panel tries every axis by itself: leave --mass out"),
        (&["--policy", "noop"], "--perturbation-panel is of one policy"),
        (&["--gif", "x.gif"], "--perturbation-panel is of one policy"),
    ] {
        let (status, told) = refusal(&[&panel[..], more].concat());
        assert!(status == Some(2) && told.contains(sentence), "{more:?}: {status:?} {told}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let (flow, dropped) = (policy("flow"), policy("dropped"));
    let eval = ["eval", "--env", "pendulum", "--episodes", "2", "--policy", &flow];
    let sample = ["sample", "--env", "pendulum", "--policy", &flow];
    for (arguments, sentence) in [
        (&["--steps", "0"][..], "0 solver steps: use 1 to 1000"),
        (&["--steps", "-1"], "unexpected argument '-1'"),
        (&["--steps=-1"], "invalid value '-1' for '--steps"),
        (&["--steps", "2.5"], "invalid value '2.5' for '--steps"),
        (&["--solver", "rk45"], "unknown solver `rk45`: known are euler, heun, midpoint, rk4, dopri5"),
        (&["--guidance-scale", "nan"], "--guidance-scale is NaN: use a finite number"),
        (&["--guidance-scale", "inf"], "--guidance-scale is inf: use a finite number"),
        (&["--guidance-scale", "-inf"], "--guidance-scale is -inf: use a finite number"),
        (&["--guidance-scale", "much"], "invalid value 'much' for '--guidance-scale"),
        (
            &["--guidance-scale", "2", "--unconditional", "1,2"],
            "has 2 values: the state features have 3 together",
        ),
        (&["--guidance-scale", "2", "--unconditional", "1,nan,2"], "holds a value that is not finite"),
        (&["--guidance-scale", "2", "--unconditional", "none"], "use zeros, learned, or numbers"),
        (
            &["--guidance-scale", "2", "--unconditional", "learned"],
            "has learned nothing that stands for no observation",
        ),
        (&["--unconditional", "zeros"], "--guidance-scale"),
        (&["--solver", "dopri5", "--rtol", "0"], "rtol` is 0: use a finite number above 0"),
        (&["--solver", "dopri5", "--atol", "-1"], "atol` is -1: use a finite number above 0"),
        (&["--solver", "dopri5", "--rtol", "nan"], "rtol` is NaN"),
        (&["--solver", "dopri5", "--max-evaluations", "0"], "max_evaluations` is 0: use at least 1"),
    ] {
        for command in [&eval[..], &sample] {
            let (status, told) = refusal(&[command, arguments].concat());
            assert!(status == Some(2) && told.contains(sentence), "{arguments:?}: {status:?} {told}");
        }
    }
    for (arguments, sentence) in [
        (&["--steps", "4,0"][..], "0 solver steps: use 1 to 1000"),
        (&["--steps", "1,,2"], "invalid value '' for '--steps"),
        (&["--solver", "euler,leapfrog"], "unknown solver `leapfrog`"),
        (&["--policy", &flow], "is given twice"),
        (&["--policy", "nobody"], "unknown policy `nobody`"),
        (&["--policy", "pursuit"], "pursuit: the policy sees `observation.image`"),
        (&["--steps", "1,2", "--gif", "x.gif"], "--gif shows one policy"),
        (&["--exploration-noise", "-0.1"], "--action-noise is -0.1: use a finite number, 0 or more"),
        (&["--action-delay", "1.5"], "--action-delay is 1.5: use a whole number of steps from 0 to 100"),
        (&["--speed", "0.5"], "--speed disturbs nothing in environment `pendulum`: it is for pursuit,"),
        (&["--occlusion", "much"], "invalid value 'much' for '--occlusion"),
        (&["--exploration-noise", "nan"], "--action-noise is NaN"),
    ] {
        let (status, told) = refusal(&[&eval, arguments].concat());
        assert!(status == Some(2) && told.contains(sentence), "{arguments:?}: {status:?} {told}");
    }
    for (arguments, sentence) in [
        (
            &["eval", "--env", "command"][..],
            "environment `command` has no built-in policy: give --policy expert or a folder",
        ),
        (
            &["eval", "--policy", "expert", "--guidance-scale", "nan"],
            "--guidance-scale is NaN: use a finite number",
        ),
        (&["eval", "--policy", "expert", "--rtol", "0"], "rtol` is 0: use a finite number above 0"),
        (
            &["sample", "--policy", "pendulum", "--field", "x.png", "--guidance-scale", "2"],
            "cannot be used with '--guidance-scale",
        ),
    ] {
        let (status, told) = refusal(arguments);
        assert!(status == Some(2) && told.contains(sentence), "{arguments:?}: {status:?} {told}");
    }
    let rules = ["eval", "--env", "pendulum", "--policy", "expert", "--policy", "noop", "--plot", "x.png"];
    assert!(refusal(&rules).1.contains("rules make none") && !Path::new("x.png").exists());
    let (status, told) = refusal(&[&sample[..], &["--repeat", "0"]].concat());
    assert!(status == Some(2) && told.contains("'--repeat"), "{told}");
    // Input in order, work not done: exit status 1.
    let capped = ["--solver", "dopri5", "--rtol", "1e-9", "--atol", "1e-9", "--max-evaluations", "20"];
    for command in [&eval[..], &sample] {
        let (status, told) = refusal(&[command, &capped].concat());
        assert!(status == Some(1) && told.contains("raise `max_evaluations`"), "{status:?} {told}");
    }
    let (status, told) = refusal(&["eval", "--policy", &dropped]);
    assert!(status == Some(2) && told.contains("environment `pursuit` does not show"), "{told}");
}
