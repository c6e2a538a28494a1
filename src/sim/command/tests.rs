use super::*;
use crate::sim::{Scripted, rollout};

/// Share of 200 episodes that end at their command.
fn success(rule: impl Fn(&Command) -> [f64; JOINTS]) -> f64 {
    let solved = (42..242).filter(|&seed| {
        let mut walker = Command::new(seed);
        (0..STEPS).fold(false, |_, _| walker.advance(rule(&walker)).success)
    });
    solved.count() as f64 / 200.0
}

#[test]
fn only_who_follows_the_command_in_force_succeeds() {
    let expert = success(|walker| walker.expert(walker.command()));
    let stale = success(|walker| walker.expert(walker.commands[0]));
    let blind = success(|walker| walker.expert([0.0; 3]));
    let idle = success(|_| [0.0; JOINTS]);
    assert_eq!(expert, 1.0);
    assert!(stale < 0.03 && blind < 0.03 && idle < 0.03, "{stale}, {blind}, {idle}");
}

#[test]
fn legs_out_of_step_do_not_push() {
    let against = success(|walker| {
        let mut other = walker.clone();
        other.phase += TAU / 2.0;
        other.expert(walker.command())
    });
    assert!(against < 0.03, "{against}");
}

#[test]
fn the_expert_is_calm_and_random_actions_go_nowhere() {
    let run = |policy: Scripted| rollout(&Command::new(0), 42, 0..50, STEPS, &mut policy.driver());
    let reward = |policy| {
        let episodes = run(policy).expect("runs");
        episodes.iter().flat_map(|e| &e.rewards).sum::<f64>() / 50.0
    };
    let (expert, noop, random) =
        (reward(Scripted::Expert), reward(Scripted::Noop), reward(Scripted::Random { seed: 0 }));
    assert!(expert > -15.0 && noop < -100.0 && random < -100.0, "{expert}, {noop}, {random}");
    let episodes = run(Scripted::Expert).expect("runs");
    let all: Vec<f64> = episodes.iter().flat_map(|e| &e.actions).flatten().copied().collect();
    let bounded = all.iter().filter(|v| v.abs() == 1.0).count() as f64 / all.len() as f64;
    assert!(bounded < 0.03, "{bounded} of the expert's actions are at a bound");
}

#[test]
fn measurements_say_everything_but_the_command() {
    let mut observation = Observation::default();
    let mut walker = Command::new(1);
    let mut squares = 0.0;
    for _ in 0..STEPS {
        walker.observe(&mut observation);
        squares += observation.state.iter().map(|&v| f64::from(v * v)).sum::<f64>() / MEASURED as f64;
        let before = observation.state.clone();
        let mut other = walker.clone();
        other.commands = [[0.5; 3]; 2];
        other.observe(&mut observation);
        assert_eq!(observation.state, before);
        assert_eq!(observation.environment_state, [0.5; 3]);
        walker.advance(walker.expert(walker.command()));
    }
    let spread = (squares / STEPS as f64).sqrt();
    assert!((0.4..0.9).contains(&spread), "{spread}");
}

#[test]
fn the_command_changes_once_half_way() {
    let mut walker = Command::new(5);
    let commands: Vec<[f64; 3]> = (0..STEPS)
        .map(|_| {
            let now = walker.command();
            walker.advance([0.0; JOINTS]);
            now
        })
        .collect();
    assert!(commands[..CHANGE].iter().all(|c| *c == walker.commands[0]));
    assert!(commands[CHANGE..].iter().all(|c| *c == walker.commands[1]));
    assert_ne!(walker.commands[0], walker.commands[1]);
}
