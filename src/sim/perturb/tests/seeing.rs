//! What is seen of what there is.

use super::*;
use crate::sim::pursuit::OBSERVED;
use crate::sim::{Pursuit, PursuitCameras};

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
        // Edges of discs are grey in one channel or two.
        let grey = |[seen, _]: &[Observation; 2]| {
            let planes: Vec<&[u8]> = seen.picture(key).chunks(OBSERVED * OBSERVED).collect();
            (0..OBSERVED * OBSERVED)
                .filter(|i| planes.iter().all(|plane| plane[*i] == 128))
                .collect::<Vec<_>>()
        };
        let places = grey(&all[0]);
        assert!(all.iter().all(|pair| grey(pair) == places));
        places
    };
    assert_eq!(hidden(42).len(), OBSERVED * OBSERVED / 4);
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
fn experts_that_only_see_do_what_experts_do_where_all_can_be_seen() {
    let mut observation = Observation::default();
    let mut apart = |environment: &dyn Environment| {
        environment.observe(&mut observation);
        let seeing = environment.expert_seeing(&observation).expect("sees enough");
        let pairs = seeing.into_iter().zip(environment.expert_action());
        pairs.map(|(ours, theirs)| (ours - theirs).abs()).fold(0.0, f64::max)
    };
    for (name, allowed) in [("pendulum", 0.0), ("pendulum-goal", 0.0), ("command", 1e-3)] {
        let mut environment = make(name).expect("known");
        for seed in 0..10 {
            environment.reset(seed);
            for _ in 0..20 {
                let apart = apart(environment.as_ref());
                assert!(apart <= allowed, "{name}, seed {seed}: {apart}");
                environment.step(&environment.expert_action()).expect("valid");
            }
        }
    }
    // A ball that rests hides nothing; whole pixels of half the size do.
    for seed in 0..50 {
        let arena = Pursuit { velocity: [0.0; 2], ..Pursuit::new(seed) };
        let apart = [apart(&arena), apart(&PursuitCameras(arena))];
        assert!(apart.iter().all(|apart| *apart < 1.5), "seed {seed}: {apart:?}");
    }
}
