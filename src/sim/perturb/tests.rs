//! Whole episodes under perturbations, and how levels are refused.

mod acting;
mod seeing;

use std::ops::Range;

use super::*;
use crate::eval::headline;
use crate::eval::metrics::measure;
use crate::sim::rollout::episode_seed;
use crate::sim::{Episode, KNOWN, Observation, Pendulum, Scripted, Turn, make, rollout};

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
    rollout(environment, 42, which, environment.spec().horizon, &mut driver).expect("runs")
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
            assert!(episodes(under(plain.as_ref(), &[]).as_ref(), rule, 3) == expected, "{name}");
            assert!(episodes(under(plain.as_ref(), &zeros).as_ref(), rule, 3) == expected, "{name}");
        }
        let expected = looking(plain.as_ref(), 0..3);
        assert!(looking(under(plain.as_ref(), &[]).as_ref(), 0..3) == expected, "{name}");
        for zero in &zeros {
            let disturbed = under(plain.as_ref(), &[*zero]);
            assert!(looking(disturbed.as_ref(), 0..3) == expected, "{name}, {:?}", zero.0);
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
            // A few components may all be lucky.
            let is_spared =
                axis == Axis::Occlusion && plain.spec().observations.iter().all(|f| !f.is_image());
            assert!(together != undisturbed || is_spared, "{place}");
            assert!(looking(disturbed.as_ref(), 2..3) == together[2..], "{place}");
            assert!(played_again(disturbed.as_ref(), &together[1]) == together[1], "{place}");
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
fn every_disturbance_makes_the_experts_task_harder() {
    let mut failures = Vec::new();
    for (plain, axis) in all_that_fits() {
        let name = plain.spec().name;
        // The other arenas share pursuit's dynamics; and who looks for red in a picture is not fooled by noise on it.
        if name.starts_with("pursuit-") || (name, axis) == ("pursuit", Axis::ObservationNoise) {
            continue;
        }
        let metric = headline(name)[0];
        let cost = |level: f64| {
            let disturbed = under(plain.as_ref(), &[(axis, level)]);
            let horizon = plain.spec().horizon;
            let episodes =
                rollout(&*disturbed, 42, 0..20, horizon, &mut Scripted::Expert.driver()).expect("runs");
            let of = |episode| {
                measure(name, episode).into_iter().find(|(known, _)| *known == metric).expect("known").1
            };
            let sum: f64 = episodes.iter().map(of).sum();
            // Steps to a capture cost, returns are less than 0.
            sum.abs() / 20.0
        };
        let costs = axis.levels(plain.as_ref()).map(cost);
        // A little of it may be no harm.
        if costs[1..].iter().any(|cost| *cost < 0.97 * costs[0]) || costs[3] < 1.05 * costs[0] {
            failures.push(format!("{name}, {}: {costs:?}", axis.name()));
        }
    }
    assert_eq!(failures, Vec::<String>::new());
}
