//! Chunks that take time, disturbed pictures, and programs as policies.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{Lab, episodes, read, refusal};

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
