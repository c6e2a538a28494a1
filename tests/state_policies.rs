//! State policies in use: guidance, solvers, what is counted, what is refused.

use std::sync::Arc;

use flowgpu::Result;
use flowgpu::flow::{Solver, Tolerances};
use flowgpu::graph::{Bank, Device};
use flowgpu::kernels::Set;
use flowgpu::policy::{
    Config, Guidance, Images, Network, Noise, Normalizer, Observations, Policy, Stats, Unconditional,
};
use serde_json::{Value, json};

const CHUNK: usize = 4 * 2;
const STATE: usize = 3 + 2;

fn json_of(changes: Value) -> Value {
    let mut json = json!({
        "type": "velocity_mlp", "chunk_size": 4, "n_action_steps": 2,
        "input_features": {
            "observation.state": {"type": "STATE", "shape": [3]},
            "observation.environment_state": {"type": "ENV", "shape": [2]}
        },
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "hidden_dim": 32, "num_layers": 3, "observation_dropout": 0.1,
        "flow": {"num_steps": 5}
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    json
}

/// A policy of keyed random weights.
fn policy(changes: Value) -> Policy {
    let config = Config::parse(&json_of(changes).to_string()).expect("valid");
    let (network, params) = Network::new(&config);
    let bank = Bank::new(&Device::Cpu, &Arc::new(params), &[Set::Weights]).expect("memory");
    for (id, param) in bank.params().iter() {
        let mut values = bank.params().initial(id, 3);
        if param.name == "unconditional" {
            values.fill(0.7);
        }
        bank.write(Set::Weights, &param.name, &values);
    }
    let normalizer = Normalizer::new(&config, &Stats::new("stats")).expect("needs nothing");
    Policy::new(config, network, bank, normalizer)
}

fn states(batch: usize) -> Vec<f32> {
    (0..batch * STATE).map(|i| (i as f32 * 0.83).sin()).collect()
}

fn noise(batch: usize) -> Vec<f32> {
    (0..batch).flat_map(|sample| Noise::Seeded(4).draw(sample, 0, CHUNK)).collect()
}

fn sample(policy: &mut Policy, batch: usize) -> Vec<f32> {
    let states = states(batch);
    policy.predict_chunk(&Observations::of_state(&states), &noise(batch)).expect("samples").normalized
}

fn guided(scale: f64, unconditional: Unconditional) -> Option<Guidance> {
    Some(Guidance { scale, unconditional })
}

#[test]
fn guidance_of_scale_one_is_plain_sampling_bit_for_bit_and_costs_one_pass() -> Result<()> {
    for solver in Solver::ALL {
        let mut plain = policy(json!({}));
        plain.set_solver(solver);
        let mut one = policy(json!({}));
        one.set_solver(solver);
        one.set_guidance(guided(1.0, Unconditional::Zeros))?;
        assert_eq!(sample(&mut plain, 3), sample(&mut one, 3), "{solver:?}");
        assert_eq!(plain.usage().evaluations, one.usage().evaluations);
        let once = plain.usage().evaluations;
        if solver != Solver::Dopri5 {
            assert_eq!(once, plain.config().flow.evaluations(5));
            one.set_guidance(guided(2.0, Unconditional::Zeros))?;
            sample(&mut one, 3);
            assert_eq!(one.usage().evaluations, 3 * once, "a guided evaluation is two passes");
        }
    }
    Ok(())
}

#[test]
fn guidance_goes_from_what_stands_for_nothing_past_what_is_seen() -> Result<()> {
    let given = Unconditional::Given(vec![0.3, -0.2, 0.1, 0.9, -0.5]);
    for (unconditional, nothing) in [
        (Unconditional::Zeros, vec![0.0; STATE]),
        (given.clone(), vec![0.3, -0.2, 0.1, 0.9, -0.5]),
        (Unconditional::Learned, vec![0.7; STATE]),
    ] {
        // A policy may be asked to forget in another way than it learnt to.
        let learnt = if unconditional == Unconditional::Learned { json!("learned") } else { json!("zeros") };
        let mut policy = policy(json!({"unconditional": learnt}));
        policy.set_solver_steps(1)?;
        let (seen, noise) = (states(1), noise(1));
        let with_nothing = policy.velocity(&Observations::of_state(&nothing), &noise, &[0.0])?;
        let with_seen = policy.velocity(&Observations::of_state(&seen), &noise, &[0.0])?;
        policy.set_guidance(guided(2.5, unconditional.clone()))?;
        for ((x, z), (u, c)) in
            sample(&mut policy, 1).iter().zip(&noise).zip(with_nothing.iter().zip(&with_seen))
        {
            let expected = z + u + 2.5 * (c - u);
            assert!((x - expected).abs() < 1e-5, "{unconditional:?}: {x} is not {expected}");
        }
        // At scale 0 the observation does not matter.
        policy.set_guidance(guided(0.0, unconditional))?;
        let first = sample(&mut policy, 1);
        let others: Vec<f32> = seen.iter().map(|v| v + 0.4).collect();
        let other = policy.predict_chunk(&Observations::of_state(&others), &noise)?.normalized;
        assert_eq!(first, other);
    }
    Ok(())
}

/// A camera policy of random weights, on any device.
fn seeing(device: &Device) -> Policy {
    let json = json!({
        "type": "patch_decoder", "chunk_size": 4, "observation_dropout": 0.1, "action_pos_embed": true,
        "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 32, 32]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "dim_feedforward": 32, "flow": {"num_steps": 4}
    });
    let config = Config::parse(&json.to_string()).expect("valid");
    let (network, params) = Network::new(&config);
    let bank = Bank::new(device, &Arc::new(params), &[Set::Weights]).expect("memory");
    for (id, param) in bank.params().iter() {
        bank.write(Set::Weights, &param.name, &bank.params().initial(id, 5));
    }
    let normalizer = Normalizer::new(&config, &Stats::new("stats")).expect("needs nothing");
    Policy::new(config, network, bank, normalizer)
}

#[test]
fn cameras_are_guided_from_black_pictures_and_adapt_their_steps_on_every_device() -> Result<()> {
    let picture: Vec<u8> = (0..3 * 32 * 32).map(|i| (i * 7 % 251) as u8).collect();
    let (noise, black) = (noise(1), vec![0; picture.len()]);
    let see = |picture| Observations::of_images(Images::Bytes(picture));
    for device in [Device::Cpu, Device::open("gpu").expect("the tests need an adapter")] {
        let mut policy = seeing(&device);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let dark = policy.predict_chunk(&see(&black), &noise)?.normalized;
        let plain = policy.predict_chunk(&see(&picture), &noise)?.normalized;
        assert!(!near(&dark, &plain), "the picture matters");
        policy.set_guidance(guided(0.0, Unconditional::Zeros))?;
        assert!(near(&policy.predict_chunk(&see(&picture), &noise)?.normalized, &dark), "{device}");
        policy.set_guidance(guided(2.0, Unconditional::Zeros))?;
        policy.set_solver_steps(1)?;
        let both = [&black, &picture].map(|picture| policy.velocity(&see(picture), &noise, &[0.0]));
        let [unseen, seen] = both;
        let expected: Vec<f32> =
            noise.iter().zip(unseen?.iter().zip(&seen?)).map(|(z, (u, c))| z + u + 2.0 * (c - u)).collect();
        assert!(near(&policy.predict_chunk(&see(&picture), &noise)?.normalized, &expected), "{device}");
        // The observation is encoded once and read by every later stage.
        policy.set_guidance(None)?;
        policy.set_solver(Solver::Rk4);
        policy.set_solver_steps(20)?;
        let exact = policy.predict_chunk(&see(&picture), &noise)?.normalized;
        policy.set_solver(Solver::Dopri5);
        policy.set_tolerances(Tolerances { rtol: 1e-5, atol: 1e-5, ..Tolerances::default() })?;
        let before = policy.usage();
        let adapted = policy.predict_chunk(&see(&picture), &noise)?.normalized;
        assert!(near(&adapted, &exact), "{device}: {adapted:?} is not {exact:?}");
        assert!(policy.usage().since(before).evaluations > 7);
    }
    Ok(())
}

#[test]
fn every_solver_ends_where_the_finest_does() -> Result<()> {
    for noise_at in [0, 1] {
        // Frequencies that a coarse grid can see.
        let features = json!({"kind": "harmonics", "dim": 4});
        let mut policy = policy(json!({"time_features": features, "flow": {"noise_at": noise_at}}));
        policy.set_solver(Solver::Rk4);
        policy.set_solver_steps(200)?;
        let exact = sample(&mut policy, 2);
        let mut distance = |solver, steps| -> Result<f32> {
            policy.set_solver(solver);
            policy.set_solver_steps(steps)?;
            let found = sample(&mut policy, 2);
            Ok(found.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max))
        };
        let euler = distance(Solver::Euler, 20)?;
        for (solver, steps) in
            [(Solver::Heun, 10), (Solver::Midpoint, 10), (Solver::Rk4, 5), (Solver::Dopri5, 1)]
        {
            let error = distance(solver, steps)?;
            assert!(error < euler || error < 1e-4, "{solver:?}: {error}, Euler: {euler}");
        }
        policy.set_tolerances(Tolerances { rtol: 1e-6, atol: 1e-6, ..Tolerances::default() })?;
        policy.set_solver(Solver::Dopri5);
        let found = sample(&mut policy, 2);
        assert!(found.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-4));
    }
    Ok(())
}

#[test]
fn adaptive_samples_do_not_depend_on_their_batch() -> Result<()> {
    let mut policy = policy(json!({"flow": {"solver": "dopri5"}}));
    let together = sample(&mut policy, 5);
    let (states, noise) = (states(5), noise(5));
    for i in 0..5 {
        let seen = Observations::of_state(&states[i * STATE..][..STATE]);
        let alone = policy.predict_chunk(&seen, &noise[i * CHUNK..][..CHUNK])?.normalized;
        let close = together[i * CHUNK..][..CHUNK].iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close, "{alone:?}");
    }
    Ok(())
}

#[test]
fn two_passes_make_a_chunk_of_mip_and_one_a_regressions_whatever_steps_are_asked_for() -> Result<()> {
    for (objective, passes) in [("regression", 1), ("mip", 2)] {
        let mut policy = policy(json!({"objective": objective}));
        policy.set_solver_steps(7)?;
        let first = sample(&mut policy, 2);
        assert_eq!(policy.usage().evaluations, passes);
        let states = states(2);
        let other = policy.predict_chunk(&Observations::of_state(&states), &[0.5; 2 * CHUNK])?;
        assert_eq!(first, other.normalized, "{objective} draws nothing");
        let path = policy.predict_path(&Observations::of_state(&states), &noise(2))?;
        assert_eq!(path.len(), passes + 1);
    }
    Ok(())
}

#[test]
fn an_episode_of_two_time_steps_sees_the_last_two_states() -> Result<()> {
    let mut acting = policy(json!({"n_obs_steps": 2, "n_action_steps": 1}));
    acting.set_noise(Noise::Seeded(1));
    let all = states(3);
    for (at, seen) in [[0, 0], [0, 1], [1, 2]].into_iter().enumerate() {
        let now = Observations::of_state(&all[at * STATE..][..STATE]);
        let action = acting.select_action(&[6], now)?;
        let stacked: Vec<f32> = seen.iter().flat_map(|&i| &all[i * STATE..][..STATE]).copied().collect();
        let noise = Noise::Seeded(1).draw(6, at as u64, CHUNK);
        let mut once = policy(json!({"n_obs_steps": 2}));
        let chunk = once.predict_chunk(&Observations::of_state(&stacked), &noise)?;
        assert_eq!(action, chunk.actions[..2], "step {at}");
    }
    Ok(())
}

#[test]
fn what_makes_no_sense_is_refused_with_the_key() {
    let refuse = |changes: Value| {
        let error = Config::parse(&json_of(changes).to_string()).expect_err("of no use");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let features = json!({"kind": "pow2", "dim": 15});
    assert!(refuse(json!({"time_features": features})).contains("width 15"));
    let features = json!({"kind": "sinusoid", "dim": 16});
    assert!(refuse(json!({"layout": "residual", "time_features": features})).contains("`hidden_dim` 32"));
    assert!(refuse(json!({"layout": "residual", "hidden_dim": 33})).contains("width 33"));
    assert!(refuse(json!({"time_features": {"kind": "cosine"}})).contains("`cosine`"));
    assert!(refuse(json!({"activation": "swash"})).contains("`swash`"));
    assert!(refuse(json!({"unconditional": [1.0, 2.0]})).contains("has 2 values"));
    assert!(refuse(json!({"unconditional": "ones"})).contains("\"ones\""));
    let unheard = json!({"unconditional": "learned", "observation_dropout": 0.0});
    assert!(refuse(unheard).contains("set observation_dropout as well"));
    assert!(refuse(json!({"flow": {"num_steps": 100_000}})).contains("use 1 to 1000"));
    assert!(refuse(json!({"observation_dropout": 1.0})).contains("`observation_dropout` is 1"));
    assert!(refuse(json!({"num_layers": 0})).contains("`num_layers`"));
    let image = json!({"observation.image": {"type": "VISUAL", "shape": [3, 32, 32]}});
    assert!(refuse(json!({"input_features": image})).contains("takes vectors"));
    assert!(refuse(json!({"input_features": {}})).contains("at least one input feature"));

    let mut policy = policy(json!({}));
    for scale in [f64::NAN, f64::INFINITY, 1e39] {
        let error = policy.set_guidance(guided(scale, Unconditional::Zeros)).expect_err("no number");
        assert!(error.to_string().contains("--guidance-scale"), "{error}");
    }
    assert!(policy.set_guidance(guided(2.0, Unconditional::Given(vec![1.0]))).is_err());
    let error = policy.set_guidance(guided(2.0, Unconditional::Learned)).expect_err("none was learned");
    assert!(error.to_string().contains("unconditional=learned"), "{error}");
    assert!(policy.set_solver_steps(0).is_err());
    let mut bad = states(1);
    bad[2] = f32::NAN;
    let error = policy.predict_chunk(&Observations::of_state(&bad), &noise(1)).expect_err("NaN");
    assert_eq!(error.to_string(), "the state holds NaN in sample 0, element 2");
    let short = Observations::of_state(&bad[1..]);
    let error = policy.predict_chunk(&short, &noise(1)).expect_err("too short").to_string();
    assert!(
        error.starts_with("the state (`observation.state`, `observation.environment_state`) has 4 values"),
        "{error}"
    );
}

#[test]
fn tolerances_beyond_f32_end_in_an_error_that_says_what_to_do() -> Result<()> {
    let mut policy = policy(json!({"flow": {"solver": "dopri5"}}));
    assert!(policy.set_tolerances(Tolerances { rtol: -1.0, ..Tolerances::default() }).is_err());
    policy.set_tolerances(Tolerances { rtol: 1e-14, atol: 1e-14, max_evaluations: 200 })?;
    let (states, noise) = (states(1), noise(1));
    let error = policy.predict_chunk(&Observations::of_state(&states), &noise).expect_err("cannot be met");
    assert!(error.to_string().contains("max_evaluations"), "{error}");
    Ok(())
}
