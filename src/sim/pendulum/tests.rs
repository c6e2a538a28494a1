use super::*;
use crate::rng::Stream;

#[derive(serde::Deserialize)]
struct Golden {
    traces: Vec<Trace>,
}

#[derive(serde::Deserialize)]
struct Trace {
    seed: u64,
    controller: String,
    states: Vec<[f64; 2]>,
    actions: Vec<f64>,
    rewards: Vec<f64>,
    observations: Vec<[f32; 3]>,
}

fn golden() -> Vec<Trace> {
    let text = include_str!("../../../tests/golden/pendulum_traces.json");
    let golden: Golden = serde_json::from_str(text).expect("the golden file is well formed");
    golden.traces
}

#[test]
fn every_step_of_gymnasium_is_ours() {
    for Trace { seed, controller, states, actions, rewards, observations } in golden() {
        let place = |step| format!("seed {seed}, {controller}, step {step}");
        assert_eq!([Pendulum::new(seed).theta, Pendulum::new(seed).speed], states[0], "seed {seed}");
        for (step, &torque) in actions.iter().enumerate() {
            let [theta, speed] = states[step];
            let mut pendulum = Pendulum::at(theta, speed);
            if step % 20 == 0 {
                assert_eq!(pendulum.seen(), observations[step / 20], "{}", place(step));
            }
            let rule = match controller.as_str() {
                "expert" => pendulum.expert(),
                "expert-seed" => pendulum.seed_expert(),
                _ => torque,
            };
            assert!((rule - torque).abs() < 1e-12, "{}: {rule} is not {torque}", place(step));
            let reward = pendulum.step(&[torque]).expect("a torque").reward;
            assert!((reward - rewards[step]).abs() < 1e-12, "{}: {reward}", place(step));
            let [theta, speed] = states[step + 1];
            let apart = (pendulum.theta - theta).abs().max((pendulum.speed - speed).abs());
            assert!(apart < 1e-12, "{}: {pendulum:?} is not {:?}", place(step), states[step + 1]);
        }
    }
}

#[test]
fn whole_episodes_of_gymnasium_are_ours() {
    for Trace { seed, controller, states, actions, .. } in golden() {
        let mut pendulum = Pendulum::new(seed);
        for (step, &torque) in actions.iter().enumerate() {
            match controller.as_str() {
                "expert" => pendulum.advance(pendulum.expert()),
                "expert-seed" => pendulum.advance(pendulum.seed_expert()),
                _ => pendulum.advance(torque),
            };
            let [theta, speed] = states[step + 1];
            let apart = (pendulum.theta - theta).abs().max((pendulum.speed - speed).abs());
            assert!(apart < 1e-9, "seed {seed}, {controller}, step {step}: {apart}");
        }
    }
}

#[test]
fn angles_come_back_to_one_turn() {
    for (angle, expected) in [(0.0, 0.0), (3.0 * PI, -PI), (-PI, -PI), (7.0, 7.0 - TAU), (-4.0, TAU - 4.0)] {
        assert!((normalised(angle) - expected).abs() < 1e-12, "{angle}: {}", normalised(angle));
    }
}

#[test]
fn scattered_pendulums_are_anywhere_at_any_speed() {
    let all: Vec<Pendulum> =
        (0..2000).map(|seed| Pendulum::scattered(&mut Rng::new(seed, Stream::Execution, 0, 0))).collect();
    assert!(all.iter().all(|p| p.theta.abs() <= PI && p.speed.abs() <= MAX_SPEED));
    let share = |what: fn(&Pendulum) -> bool| all.iter().filter(|p| what(p)).count() as f64 / 2000.0;
    assert!((0.45..0.55).contains(&share(|p| p.theta.abs() < PI / 2.0)));
    assert!((0.45..0.55).contains(&share(|p| p.speed.abs() < MAX_SPEED / 2.0)));
}

#[test]
fn pictures_show_the_rod_and_the_torque() {
    let at = |image: &Image, x: usize, y: usize| image.pixels[(y * SIDE + x) * 3..][..3].to_vec();
    let (red, blue, white) = ([204, 77, 77], [0, 114, 178], [255; 3]);
    let upright = Pendulum::at(0.0, 0.0).render();
    assert_eq!((at(&upright, 128, 40), at(&upright, 128, 216)), (red.to_vec(), white.to_vec()));
    let left = Pendulum { torque: 1.0, ..Pendulum::at(PI / 2.0, 0.0) }.render();
    assert_eq!((at(&left, 40, 128), at(&left, 216, 128)), (red.to_vec(), white.to_vec()));
    // A positive torque turns counter-clockwise: the arc goes from straight up to the left.
    assert_eq!((at(&left, 116, 93), at(&left, 140, 93)), (blue.to_vec(), white.to_vec()));
}

#[test]
fn a_bad_torque_is_an_error_and_changes_nothing() {
    let mut pendulum = Pendulum::new(1);
    let before = pendulum.clone();
    assert!(pendulum.step(&[1.0, 1.0]).is_err());
    assert!(pendulum.step(&[f64::NAN]).is_err());
    assert_eq!(pendulum, before);
}
