//! What is done of what was decided.

use super::*;
use crate::sim::Pursuit;

#[test]
fn an_action_late_by_k_steps_is_executed_k_steps_later_and_zeros_before() {
    for k in [1, 3] {
        for episode in
            episodes(&*under(&Pendulum::new(0), &[(Axis::ActionDelay, k as f64)]), Scripted::Expert, 3)
        {
            let last = episode.actions.len() - k;
            assert!(episode.executed[..k].iter().all(|action| action == &[0.0]));
            assert_eq!(episode.executed[k..], episode.actions[..last]);
        }
    }
}

#[test]
fn lost_decisions_leave_the_last_one_in_force() {
    let random = Scripted::Random { seed: 1 };
    for (level, every) in [(0.5, 2), (0.75, 4)] {
        for episode in episodes(&*under(&Pendulum::new(0), &[(Axis::ControlRate, level)]), random, 3) {
            for (step, executed) in episode.executed.iter().enumerate() {
                assert_eq!(executed, &episode.actions[step - step % every], "step {step}");
            }
        }
    }
    let episode = &episodes(&*under(&Pendulum::new(0), &[(Axis::ControlRate, 0.1)]), random, 1)[0];
    let carried_on = episode.actions.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(carried_on, 6, "of 60");
    assert_eq!(episode.executed, episode.actions);
}

#[test]
fn executed_actions_stray_by_sigma_and_stay_inside_the_bounds() {
    for sigma in [0.5, 1.25] {
        let noisy = under(&Pursuit::new(0), &[(Axis::ActionNoise, sigma)]);
        let noisy = rollout(&*noisy, 42, 0..50, 20, &mut Scripted::Noop.driver()).expect("runs");
        let all: Vec<f64> = noisy.iter().flat_map(|e| e.executed.iter().flatten()).copied().collect();
        let spread = (all.iter().map(|v| v * v).sum::<f64>() / all.len() as f64).sqrt();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        assert!((spread / sigma - 1.0).abs() < 0.06 && mean.abs() < 0.1 * sigma, "{mean} ± {spread}");
        assert!(
            noisy.iter().all(|e| e.actions.iter().flatten().all(|v| *v == 0.0)),
            "decisions are kept apart"
        );
    }
    let wild = episodes(&*under(&Pursuit::new(0), &[(Axis::ActionNoise, 50.0)]), Scripted::Noop, 9);
    assert!(wild.iter().flat_map(|e| e.executed.iter().flatten()).all(|v| (-5.0..=5.0).contains(v)));
}

#[test]
fn noise_on_actions_keeps_its_numbers() {
    // As they were when this was the only disturbance: keyed by seed, step and number of the episode.
    let noisy = under(&Pursuit::new(0), &[(Axis::ActionNoise, 0.7)]);
    for episode in episodes(&*noisy, Scripted::Expert, 3) {
        for (step, (decided, done)) in episode.actions.iter().zip(&episode.executed).enumerate() {
            let mut rng = Rng::new(3, Stream::Exploration, step as u64, episode.index as u32);
            let expected = decided.iter().map(|v| (v + 0.7 * rng.normal()).clamp(-5.0, 5.0));
            assert_eq!(done, &expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn weak_actuators_reach_their_share_and_a_wrong_frame_turns_what_is_done() {
    let weak = episodes(&*under(&Pursuit::new(0), &[(Axis::Saturation, 0.75)]), Scripted::Expert, 5);
    let greatest = weak.iter().flat_map(|e| e.executed.iter().flatten()).fold(0.0_f64, |a, v| a.max(v.abs()));
    assert_eq!(greatest, 1.25);
    let turned = under(&Pursuit::new(0), &[(Axis::WrongFrame, 90.0)]);
    for episode in episodes(&*turned, Scripted::Expert, 3) {
        for (decided, done) in episode.actions.iter().zip(&episode.executed) {
            assert!((done[0] + decided[1]).abs() < 1e-12 && (done[1] - decided[0]).abs() < 1e-12);
        }
    }
}

#[test]
fn a_refused_action_moves_nothing_and_waits_for_nothing() {
    let mut late = under(&Pendulum::new(0), &[(Axis::ActionDelay, 2.0)]);
    late.reset(42);
    let before = late.position();
    assert!(late.step(&[f64::NAN]).is_err() && late.step(&[1.0, 1.0]).is_err());
    assert_eq!(late.position(), before);
    let done: Vec<f64> = (0..4)
        .map(|step| {
            late.step(&[f64::from(step)]).expect("a torque");
            late.executed().expect("a step was taken")[0]
        })
        .collect();
    assert_eq!(done, [0.0, 0.0, 0.0, 1.0]);
}
