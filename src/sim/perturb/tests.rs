use std::ops::Range;

use super::*;
use crate::eval::metrics::measure;
use crate::sim::pursuit::OBSERVED;
use crate::sim::rollout::episode_seed;
use crate::sim::{
    Episode, KNOWN, Observation, Pendulum, Pursuit, PursuitCameras, Scripted, Turn, make, rollout,
};

fn under(environment: &dyn Environment, all: &[(Axis, f64)]) -> Box<dyn Environment> {
    let all = all.iter().map(|&(axis, level)| Perturbation { axis, level }).collect();
    Perturbations { all, seed: 3, first: 42 }.apply(environment.fresh()).expect("fits")
}

fn episodes(environment: &dyn Environment, rule: Scripted, count: usize) -> Vec<Episode> {
    rollout(environment, 42, 0..count, 60, &mut rule.driver()).expect("runs")
}

/// Decides by what it sees, as a policy does: any function of every number will do.
fn looking(environment: &dyn Environment, which: Range<usize>) -> Vec<Episode> {
    let mut observation = Observation::default();
    let mut driver = |turns: &[Turn<'_>]| {
        let mut action = |turn: &Turn<'_>| {
            turn.environment.observe(&mut observation);
            let spec = turn.environment.spec();
            let pictures = spec.observations.iter().flat_map(|feature| observation.picture(feature.key));
            let vectors = observation.state.iter().chain(&observation.environment_state);
            let bytes: f64 = pictures.enumerate().map(|(i, v)| f64::from(*v) * ((i % 7) as f64 - 3.0)).sum();
            let all = bytes / 255.0 + vectors.map(|v| f64::from(*v)).sum::<f64>();
            spec.high.iter().enumerate().map(|(i, high)| high * (all + i as f64).sin()).collect()
        };
        Ok(turns.iter().map(&mut action).collect())
    };
    rollout(environment, 42, which, 60, &mut driver).expect("runs")
}

/// Every known environment with every axis that fits it.
fn all_that_fits() -> impl Iterator<Item = (Box<dyn Environment>, Axis)> {
    KNOWN.into_iter().flat_map(|name| {
        let fits = |axis: &Axis| axis.fits(make(name).expect("known").as_ref()).is_ok();
        let axes: Vec<Axis> = Axis::ALL.into_iter().filter(fits).collect();
        axes.into_iter().map(move |axis| (make(name).expect("known"), axis))
    })
}

#[test]
fn level_zero_of_every_axis_and_no_axis_at_all_change_no_bit() {
    for name in KNOWN {
        let plain = make(name).expect("known");
        let fits = |axis: &Axis| axis.fits(plain.as_ref()).is_ok();
        let zeros: Vec<_> = Axis::ALL.into_iter().filter(fits).map(|axis| (axis, 0.0)).collect();
        for rule in [Scripted::Expert, Scripted::SeedExpert, Scripted::Random { seed: 1 }] {
            let expected = episodes(plain.as_ref(), rule, 3);
            assert_eq!(episodes(under(plain.as_ref(), &[]).as_ref(), rule, 3), expected, "{name}");
            assert_eq!(episodes(under(plain.as_ref(), &zeros).as_ref(), rule, 3), expected, "{name}");
        }
        let expected = looking(plain.as_ref(), 0..3);
        assert_eq!(looking(under(plain.as_ref(), &[]).as_ref(), 0..3), expected, "{name}");
        for zero in &zeros {
            let disturbed = under(plain.as_ref(), &[*zero]);
            assert_eq!(looking(disturbed.as_ref(), 0..3), expected, "{name}, {:?}", zero.0);
        }
    }
}

#[test]
fn every_level_of_every_axis_changes_something_and_is_the_same_side_by_side_alone_and_played_again() {
    for (plain, axis) in all_that_fits() {
        let undisturbed = looking(plain.as_ref(), 0..3);
        let levels = axis.levels(plain.as_ref());
        assert!(levels[0] == 0.0 && levels.windows(2).all(|pair| pair[0] < pair[1]), "{axis:?}");
        for level in &levels[1..] {
            let place = format!("{}, {} {level}", plain.spec().name, axis.name());
            axis.check(*level).expect("a level of the panel makes sense");
            let disturbed = under(plain.as_ref(), &[(axis, *level)]);
            let together = looking(disturbed.as_ref(), 0..3);
            assert_ne!(together, undisturbed, "{place}");
            assert_eq!(looking(disturbed.as_ref(), 2..3), together[2..], "{place}");
            assert_eq!(played_again(disturbed.as_ref(), &together[1]), together[1], "{place}");
        }
    }
}

/// The episode that the decided actions of another lead to.
fn played_again(environment: &dyn Environment, episode: &Episode) -> Episode {
    let mut environment = environment.fresh();
    environment.reset(episode_seed(42, episode.index));
    let mut again = Episode::begin(episode.index, environment.as_ref());
    for action in &episode.actions {
        again.advance(environment.as_mut(), action.clone()).expect("a valid action");
    }
    again
}

#[test]
fn another_seed_disturbs_otherwise() {
    for axis in [Axis::ObservationNoise, Axis::Occlusion, Axis::DroppedFrames, Axis::ActionNoise, Axis::Shove]
    {
        let with = |seed| {
            let all = vec![Perturbation { axis, level: 0.5 }];
            let disturbed = Perturbations { all, seed, first: 42 }.apply(Box::new(Pendulum::new(0)));
            looking(disturbed.expect("fits").as_ref(), 0..4)
        };
        assert_eq!(with(1), with(1));
        assert_ne!(with(1), with(2), "{axis:?}");
    }
}

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
    for (level, every) in [(0.5, 2), (0.75, 4)] {
        for episode in
            episodes(&*under(&Pendulum::new(0), &[(Axis::ControlRate, level)]), Scripted::Expert, 3)
        {
            for (step, executed) in episode.executed.iter().enumerate() {
                assert_eq!(executed, &episode.actions[step - step % every], "step {step}");
            }
        }
    }
    let episode = &episodes(&*under(&Pendulum::new(0), &[(Axis::ControlRate, 0.1)]), Scripted::Expert, 1)[0];
    let held =
        episode.executed.iter().zip(&episode.actions).filter(|(done, decided)| done != decided).count();
    assert!((1..=6).contains(&held), "{held} of 60");
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

/// What is seen in an episode in which nothing is done, and what there was to see.
fn seen_and_true(
    environment: Box<dyn Environment>,
    levels: &[(Axis, f64)],
    seed: u64,
) -> Vec<[Observation; 2]> {
    let mut disturbed = under(environment.as_ref(), levels);
    let (mut plain, mut all) = (environment, Vec::new());
    let zeros = vec![0.0; plain.spec().low.len()];
    plain.reset(seed);
    disturbed.reset(seed);
    for _ in 0..40 {
        let mut pair = [Observation::default(), Observation::default()];
        disturbed.observe(&mut pair[0]);
        plain.observe(&mut pair[1]);
        all.push(pair);
        plain.step(&zeros).expect("valid");
        disturbed.step(&zeros).expect("valid");
    }
    all
}

#[test]
fn what_is_seen_strays_by_its_share_of_full_scale() {
    let mut squares = [0.0; 3];
    for seed in 0..50 {
        for [seen, truth] in seen_and_true(Box::new(Pendulum::new(0)), &[(Axis::ObservationNoise, 0.1)], seed)
        {
            for (sum, (seen, truth)) in squares.iter_mut().zip(seen.state.iter().zip(&truth.state)) {
                *sum += f64::from(seen - truth).powi(2) / 2000.0;
            }
        }
    }
    // The speed's full scale is 8 rad/s.
    for (square, sigma) in squares.into_iter().zip([0.1, 0.1, 0.8]) {
        assert!((square.sqrt() / sigma - 1.0).abs() < 0.05, "{} is not {sigma}", square.sqrt());
    }
    let all = seen_and_true(Box::new(PursuitCameras::new(0)), &[(Axis::ObservationNoise, 0.1)], 7);
    let key = "observation.images.effector";
    let grey = |[seen, truth]: &[Observation; 2]| {
        let pairs =
            seen.picture(key).iter().zip(truth.picture(key)).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let white: Vec<f64> = pairs.filter(|(_, b)| *b == 255.0).map(|(a, _)| 255.0 - a).collect();
        white.iter().sum::<f64>() / white.len() as f64
    };
    // White can only darken: the mean of half a normal distribution, σ / √(2π).
    let expected = 25.5 / std::f64::consts::TAU.sqrt();
    assert!(all.iter().all(|pair| (grey(pair) / expected - 1.0).abs() < 0.05), "{}", grey(&all[0]));
    let place =
        all.iter().map(|[seen, truth]| f64::from(seen.state[0] - truth.state[0]).powi(2)).sum::<f64>();
    assert!(
        ((place / 40.0).sqrt() / 25.6 - 1.0).abs() < 0.3,
        "of the arena's 256 px: {}",
        (place / 40.0).sqrt()
    );
}

#[test]
fn a_patch_hides_its_share_of_a_picture_in_one_place_an_episode() {
    let key = "observation.image";
    let hidden = |seed| {
        let all = seen_and_true(Box::new(Pursuit::new(0)), &[(Axis::Occlusion, 0.25)], seed);
        let grey = |[seen, _]: &[Observation; 2]| {
            let bytes = seen.picture(key).iter().enumerate();
            bytes.filter(|(_, v)| **v == 128).map(|(i, _)| i).collect::<Vec<_>>()
        };
        let places = grey(&all[0]);
        assert!(all.iter().all(|pair| grey(pair) == places));
        places
    };
    assert_eq!(hidden(42).len(), 3 * OBSERVED * OBSERVED / 4);
    assert_ne!(hidden(42), hidden(43));
    // Of a vector, components by chance: a quarter of three in a hundred episodes.
    let zeros = (0..100).map(|seed| {
        let all = seen_and_true(Box::new(Pendulum::new(0)), &[(Axis::Occlusion, 0.25)], seed);
        all[1][0].state.iter().filter(|v| **v == 0.0).count()
    });
    let zeros: usize = zeros.sum();
    assert!((55..=95).contains(&zeros), "{zeros} of 300");
}

#[test]
fn what_arrives_late_or_not_at_all_leaves_the_last_picture_in_sight() {
    let all = seen_and_true(Box::new(Pendulum::new(0)), &[(Axis::StaleFrames, 3.0)], 42);
    for (step, [seen, _]) in all.iter().enumerate() {
        assert_eq!(*seen, all[step.saturating_sub(3)][1], "step {step}");
    }
    let all = seen_and_true(Box::new(Pendulum::new(0)), &[(Axis::DroppedFrames, 0.5)], 42);
    assert_eq!(all[0][0], all[0][1], "the first always arrives");
    let lost = all.windows(2).filter(|pair| pair[1][0] != pair[1][1]).count();
    assert!((12..=28).contains(&lost), "{lost} of 39");
    assert!(all.windows(2).all(|pair| pair[1][0] == pair[1][1] || pair[1][0] == pair[0][0]));
    let never = seen_and_true(Box::new(Pendulum::new(0)), &[(Axis::DroppedFrames, 1.0)], 42);
    assert!(never.iter().all(|[seen, _]| *seen == never[0][1]));
}

#[test]
fn a_shove_is_told_with_its_step_and_happens_once() {
    for (name, steps, from, to) in
        [("pursuit", 100, 3, 8), ("pendulum", 200, 50, 150), ("command", 200, 50, 150)]
    {
        let plain = make(name).expect("known");
        let size = Axis::Shove.levels(plain.as_ref())[3];
        let shoved = under(plain.as_ref(), &[(Axis::Shove, size)]);
        let run = |environment: &dyn Environment| {
            rollout(environment, 42, 0..20, steps, &mut Scripted::Expert.driver()).expect("runs")
        };
        let mut steps = Vec::new();
        for (before, after) in run(plain.as_ref()).iter().zip(run(shoved.as_ref())) {
            let Some(at) = after.shoved_at else {
                assert!(after.success && after.actions.len() <= 8, "{name}: solved before");
                continue;
            };
            assert!((from..=to).contains(&at), "{name}: {at}");
            assert_eq!(before.positions[..at], after.positions[..at], "{name}");
            assert_ne!(before.positions.get(at), after.positions.get(at), "{name}");
            assert!(
                measure(name, &after)
                    .iter()
                    .any(|(metric, value)| *metric == "recovery_steps" && *value > 0.0)
            );
            steps.push(at);
        }
        steps.dedup();
        assert!(steps.len() > 3, "{name}: the step is drawn: {steps:?}");
    }
}

#[test]
fn levels_and_axes_that_make_no_sense_are_refused_by_their_flag() {
    let pendulum = || Box::new(Pendulum::new(0));
    let refused = |all: &[(Axis, f64)]| {
        let all = all.iter().map(|&(axis, level)| Perturbation { axis, level }).collect();
        let error =
            Perturbations { all, ..Perturbations::default() }.apply(pendulum()).err().expect("refused");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    assert_eq!(
        refused(&[(Axis::ActionNoise, -0.1)]),
        "--action-noise is -0.1: use a finite number, 0 or more"
    );
    assert!(refused(&[(Axis::ObservationNoise, f64::INFINITY)]).contains("is inf: use a finite number"));
    assert!(refused(&[(Axis::Occlusion, f64::NAN)]).contains("--occlusion is NaN: use a number from 0 to 1"));
    assert_eq!(
        refused(&[(Axis::ActionDelay, 1.5)]),
        "--action-delay is 1.5: use a whole number of steps from 0 to 100"
    );
    assert!(refused(&[(Axis::Mass, -1.0)]).contains("from -0.9 to 9"));
    assert_eq!(
        refused(&[(Axis::Speed, 0.5)]),
        "--speed disturbs nothing in environment `pendulum`: it is for pursuit, pursuit-two, pursuit-cameras, command"
    );
    assert_eq!(refused(&[(Axis::Mass, 0.5), (Axis::Mass, 0.1)]), "--mass is given twice");
    assert!(Axis::named("wind").expect_err("unknown").to_string().contains("known are observation-noise, "));
    assert_eq!(Axis::named("wrong-frame"), Ok(Axis::WrongFrame));
    let all = vec![
        Perturbation { axis: Axis::ActionDelay, level: 2.0 },
        Perturbation { axis: Axis::Shove, level: 0.0 },
    ];
    let told = Perturbations { all, ..Perturbations::default() };
    assert_eq!(
        (told.to_string(), told.to_json()),
        ("action delay 2".to_owned(), json!({ "action-delay": 2.0 }))
    );
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

#[test]
fn probe() {
    for (plain, axis) in all_that_fits() {
        let metric = crate::eval::headline(plain.spec().name)[0];
        let row: Vec<String> = axis
            .levels(plain.as_ref())
            .iter()
            .map(|level| {
                let e = under(plain.as_ref(), &[(axis, *level)]);
                let eps =
                    rollout(e.as_ref(), 42, 0..20, plain.spec().horizon, &mut Scripted::Expert.driver())
                        .expect("runs");
                let mean = |m: &str| {
                    let v: Vec<f64> = eps
                        .iter()
                        .filter_map(|e| {
                            measure(plain.spec().name, e).iter().find(|(n, _)| *n == m).map(|x| x.1)
                        })
                        .collect();
                    v.iter().sum::<f64>() / v.len() as f64
                };
                format!(
                    "{level}: {:.2} (s {:.3}, r {:.1})",
                    mean(metric),
                    mean("smoothness"),
                    mean("recovery_steps")
                )
            })
            .collect();
        println!("{} {} {:?}", plain.spec().name, axis.name(), row);
    }
}
