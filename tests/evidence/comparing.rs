//! Who is better, and what cannot be compared.

use std::fs;

use serde_json::Value;

use crate::lab::{Lab, refusal, told};

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
