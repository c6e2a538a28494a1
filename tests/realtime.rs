//! Chunks that go on from planned actions: against PyTorch's autograd, against differences, and as a robot sees them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use flowgpu::Result;
use flowgpu::graph::{Bank, Device};
use flowgpu::kernels::Set;
use flowgpu::policy::{
    Chunk, Chunking, Config, Continuation, Guidance, Images, Network, Noise, Normalizer, Observations,
    Policy, PullBack, SamplerShape, Stats, Unconditional, join_states, presets::preset, resolve_policy,
};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::golden::Golden;

const CASES: [&str; 4] = ["image", "camera", "concat", "residual"];

fn golden(case: &str) -> Golden {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/realtime/{case}.safetensors"));
    Golden::parse(&std::fs::read(path).expect("a committed golden")).expect("a golden")
}

fn values<'a>(golden: &'a Golden, name: &str) -> &'a [f32] {
    &golden.tensors.get(name).unwrap_or_else(|| panic!("no `{name}`")).1
}

/// A golden's network on a device, its actions and states as they are.
fn policy(golden: &Golden, device: &Device, halves: bool) -> Policy {
    let config = Config { normalization: Vec::new(), ..golden.config.clone() };
    let (network, params) = Network::new(&config);
    let params = if halves { params.with_half_weights() } else { params };
    let bank = Bank::new(device, &Arc::new(params), &[Set::Weights]).expect("memory");
    for (_, param) in bank.params().iter() {
        bank.write(Set::Weights, &param.name, values(golden, &format!("param/{}", param.name)));
    }
    let normalizer = Normalizer::new(&config, &Stats::new("none")).expect("nothing is scaled");
    let mut policy = Policy::new(config, network, bank, normalizer);
    policy.set_solver_steps(golden.steps).expect("a few");
    policy
}

/// What a golden's network sees: pictures, and states side by side.
fn seen(golden: &Golden) -> (Vec<&[f32]>, Vec<f32>) {
    let images = golden.config.images().map(|(key, _)| values(golden, &format!("obs/{key}"))).collect();
    let states = golden.config.states();
    let states: Vec<_> =
        states.map(|(key, feature)| (values(golden, &format!("obs/{key}")), feature.shape[0])).collect();
    (images, join_states(&states))
}

fn observations<'a>(images: &[&'a [f32]], state: &'a [f32]) -> Observations<'a> {
    Observations { images: images.iter().map(|images| Images::Floats(images)).collect(), state }
}

/// A golden's plans, cut to what is known.
fn plans(golden: &Golden) -> Vec<Option<Continuation>> {
    let dims = golden.config.network_action_dim();
    let numbers = values(golden, "known").iter().zip(values(golden, "delay"));
    let chunks = values(golden, "planned").chunks(golden.config.noise_len());
    chunks
        .zip(numbers)
        .map(|(chunk, (&known, &delay))| {
            let planned = chunk[..known as usize * dims].to_vec();
            Some(Continuation { planned, delay: delay as usize })
        })
        .collect()
}

fn pull_back(golden: &Golden, device: &Device) -> PullBack {
    let (network, params) = Network::new(&golden.config);
    let bank = Bank::new(device, &Arc::new(params), &[Set::Weights]).expect("memory");
    for (_, param) in bank.params().iter() {
        bank.write(Set::Weights, &param.name, values(golden, &format!("param/{}", param.name)));
    }
    let batch = values(golden, "t").len();
    let program = PullBack::new(&golden.config, &network, &bank, SamplerShape::of(&golden.config, batch));
    let program = program.expect("compiles");
    let (images, state) = seen(golden);
    observations(&images, &state).write(program.program()).expect("fits");
    program.encode().expect("runs");
    program
}

/// Σ (x − ref)² / Σ ref².
fn nmse(found: &[f64], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let expected = expected.iter().map(|&v| f64::from(v));
    let (mut error, mut energy) = (0.0, 0.0);
    for (found, expected) in found.iter().zip(expected) {
        error += (found - expected).powi(2);
        energy += expected.powi(2);
    }
    error / energy
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Compares everything a golden holds; the worst error.
fn check(case: &str, device: &Device, bound: f64) {
    let golden = golden(case);
    let program = pull_back(&golden, device);
    let velocity = program.velocity(values(&golden, "x_t"), values(&golden, "t")).expect("runs");
    let pulled = program.pull_back(values(&golden, "e")).expect("runs");
    let mut found = BTreeMap::from([("velocity", velocity), ("pulled", pulled)]);
    let mut policy = policy(&golden, device, false);
    let (images, state) = seen(&golden);
    let mut sample = |chunking| {
        let noise = values(&golden, "sample_noise");
        let seen = observations(&images, &state);
        let chunk = policy.continue_chunk(&seen, noise, &plans(&golden), chunking).expect("samples");
        wide(&chunk.normalized)
    };
    let max_weight = f64::from(values(&golden, "max_weight")[0]);
    found.insert("guided", sample(Chunking::Guided { max_weight }));
    if golden.tensors.contains_key("expect/prefix") {
        found.insert("prefix", sample(Chunking::Prefix));
    }
    for (name, found) in found {
        let error = nmse(&found, values(&golden, &format!("expect/{name}")));
        println!("{case} on {device}: {name} {error:.1e}");
        assert!(
            error <= bound,
            "{case} on {device}: {name} is off by an NMSE of {error:e}, {bound:e} is allowed"
        );
    }
}

#[test]
fn pytorch_agrees_on_the_oracle() {
    CASES.into_iter().for_each(|case| check(case, &Device::Oracle, 1e-12));
}

#[test]
fn pytorch_agrees_on_the_cpu_device() {
    CASES.into_iter().for_each(|case| check(case, &Device::Cpu, 1e-11));
}

#[test]
fn pytorch_agrees_on_a_gpu() {
    check("image", &Device::open("gpu").expect("this machine has one"), 1e-11);
}

#[test]
fn the_transposed_jacobian_is_that_of_differences() {
    const STEP: f32 = 1.0 / 8192.0;
    for case in CASES {
        let golden = golden(case);
        let program = pull_back(&golden, &Device::Oracle);
        // On a grid, so that a step is exact in f32.
        let x: Vec<f32> = values(&golden, "x_t").iter().map(|v| (v * 1024.0).round() / 1024.0).collect();
        let (t, e) = (values(&golden, "t"), values(&golden, "e"));
        let along = |x: &[f32]| -> f64 {
            let v = program.velocity(x, t).expect("runs");
            v.iter().zip(e).map(|(v, &e)| v * f64::from(e)).sum()
        };
        let differences: Vec<f32> = (0..x.len())
            .map(|i| {
                let moved = |by: f32| {
                    let mut x = x.clone();
                    x[i] += by;
                    along(&x)
                };
                ((moved(STEP) - moved(-STEP)) / f64::from(2.0 * STEP)) as f32
            })
            .collect();
        program.velocity(&x, t).expect("runs");
        let pulled = program.pull_back(e).expect("runs");
        let error = nmse(&pulled, &differences);
        assert!(error < 1e-12, "{case}: {error:e}");
        // Twice the vector, twice the answer: after a velocity of its own, whose buffers the backward pass takes over.
        program.velocity(&x, t).expect("runs");
        let twice: Vec<f32> = e.iter().map(|e| 2.0 * e).collect();
        let doubled = program.pull_back(&twice).expect("runs");
        assert!(doubled.iter().zip(&pulled).all(|(a, b)| (a - 2.0 * b).abs() < 1e-12));
    }
}

#[test]
fn weights_stored_as_halves_can_be_differentiated_as_well() {
    for case in ["image", "residual"] {
        let golden = golden(case);
        let sample = |halves| {
            let mut policy = policy(&golden, &Device::Cpu, halves);
            let (images, state) = seen(&golden);
            let (seen, noise) = (observations(&images, &state), values(&golden, "sample_noise"));
            policy
                .continue_chunk(&seen, noise, &plans(&golden), Chunking::GUIDED)
                .expect("samples")
                .normalized
        };
        let error = nmse(&wide(&sample(true)), &sample(false));
        assert!(error > 0.0 && error < 1e-5, "{case}: {error:e}");
    }
}

/// The built-in pursuit policy with noise of a seed, and pictures that show it something.
struct Robot {
    policy: Policy,
    frames: Vec<f32>,
}

impl Robot {
    fn new() -> Self {
        let mut policy =
            Policy::from_parts(resolve_policy("pursuit").expect("built in"), &Device::Cpu).expect("loads");
        policy.set_solver_steps(10).expect("a few");
        policy.set_noise(Noise::Seeded(1));
        let len =
            policy.config().images().map(|(_, image)| image.shape.iter().product::<usize>()).sum::<usize>();
        let len = len * policy.config().n_obs_steps;
        // White with a dark square that moves.
        let frame = |episode: usize| {
            let mut frame = vec![1.0; len];
            for (plane, y, x) in (0..len / (128 * 128))
                .flat_map(|p| (40..56).flat_map(move |y| (0..16).map(move |x| (p, y, x))))
            {
                frame[plane * 128 * 128 + y * 128 + 20 + 24 * episode + x] = 0.1;
            }
            frame
        };
        let frames = (0..3).flat_map(frame).collect();
        Self { policy, frames }
    }

    /// Three episodes see their first pictures, and a chunk each is made.
    fn plan(&mut self, plans: &[Option<Continuation>], chunking: Chunking) -> Result<Chunk> {
        self.policy.reset();
        let one = self.frames.len() / 3 / self.policy.config().n_obs_steps;
        let steps: Vec<f32> =
            self.frames.chunks(self.frames.len() / 3).flat_map(|frames| &frames[..one]).copied().collect();
        self.policy.see(&[0, 1, 2], &Observations::of_images(Images::Floats(&steps)))?;
        self.policy.plan(&[0, 1, 2], plans, chunking)
    }
}

/// Plans of one chunk: its last five actions, of which two cannot be changed.
fn planned(chunk: &Chunk) -> Vec<Option<Continuation>> {
    chunk
        .normalized
        .chunks(16)
        .map(|chunk| Some(Continuation { planned: chunk[6..].to_vec(), delay: 2 }))
        .collect()
}

/// How far the first `actions` of each chunk are from its plan, at most.
fn off(chunk: &Chunk, plans: &[Option<Continuation>], actions: usize) -> f32 {
    let pairs = chunk.normalized.chunks(16).zip(plans.iter().flatten());
    let apart = pairs.flat_map(|(chunk, plan)| chunk[..2 * actions].iter().zip(&plan.planned));
    apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_guided_chunk_keeps_to_the_plan_and_a_naive_one_does_not() {
    let mut robot = Robot::new();
    let first = robot.plan(&[None, None, None], Chunking::Naive).expect("plans");
    // Another seed draws another chunk, which has no reason to go on as this one would have.
    robot.policy.set_noise(Noise::Seeded(2));
    let mut plans = planned(&first);
    for plan in plans.iter_mut().flatten() {
        plan.planned.iter_mut().for_each(|value| *value = (*value * 0.5 - 0.3).clamp(-1.0, 1.0));
    }
    let before = robot.policy.usage();
    let naive = robot.plan(&plans, Chunking::Naive).expect("plans");
    let plain = robot.policy.usage().since(before).evaluations;
    let before = robot.policy.usage();
    let guided = robot.plan(&plans, Chunking::GUIDED).expect("plans");
    assert_eq!(robot.policy.usage().since(before).evaluations, 2 * plain, "a guided step counts twice");
    let (near, far) = (off(&guided, &plans, 2), off(&naive, &plans, 2));
    assert!(near < 0.25 * far, "guided chunks are {near} off, naive ones {far}");
}

#[test]
fn with_nothing_planned_or_no_weight_a_chunk_is_the_plain_one() {
    let mut robot = Robot::new();
    let plain = robot.plan(&[None, None, None], Chunking::Naive).expect("plans");
    let empty = vec![Some(Continuation { planned: Vec::new(), delay: 0 }); 3];
    assert_eq!(robot.plan(&empty, Chunking::GUIDED).expect("plans"), plain);
    assert_eq!(robot.plan(&planned(&plain), Chunking::Naive).expect("plans"), plain);
    // Only the second goes on from something: the others are what they are alone, up to the rounding of another batch.
    let mut plans = planned(&plain);
    (plans[0], plans[2]) = (None, None);
    let mixed = robot.plan(&plans, Chunking::GUIDED).expect("plans");
    let same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5);
    assert!(same(&mixed.normalized[..16], &plain.normalized[..16]));
    assert!(same(&mixed.normalized[32..], &plain.normalized[32..]));
    let without = Chunking::Guided { max_weight: 0.0 };
    let unweighted = robot.plan(&planned(&plain), without).expect("plans");
    assert!(same(&unweighted.normalized, &plain.normalized));
}

#[test]
fn acting_is_planning_a_chunk_at_a_time() {
    let (mut acting, mut planning) = (Robot::new(), Robot::new());
    let chunk = planning.plan(&[None, None, None], Chunking::Naive).expect("plans");
    let one = acting.frames.len() / 3 / acting.policy.config().n_obs_steps;
    let steps: Vec<f32> =
        acting.frames.chunks(acting.frames.len() / 3).flat_map(|frames| &frames[..one]).copied().collect();
    let seen = Observations::of_images(Images::Floats(&steps));
    let actions = acting.policy.select_action(&[0, 1, 2], seen).expect("acts");
    let firsts: Vec<f32> = chunk.actions.chunks(16).flat_map(|chunk| &chunk[..2]).copied().collect();
    assert_eq!(actions, firsts);
    // The second chunk of an episode has other noise than its first.
    let again = planning.policy.plan(&[0], &[None], Chunking::Naive).expect("plans");
    assert_ne!(again.normalized, chunk.normalized[..16]);
    let told = planning.policy.plan(&[7], &[None], Chunking::Naive).expect_err("unknown").to_string();
    assert!(told.contains("episode 7 has seen nothing yet"), "{told}");
}

/// A small policy that was made to be given actions; its weights are as they were drawn.
fn given_actions(noise_at: u8) -> (Policy, Vec<f32>) {
    let mut json = preset("pursuit").expect("known").to_json();
    (json["n_obs_steps"], json["chunk_size"], json["d_model"]) = (1.into(), 8.into(), 32.into());
    json["rtc_training_max_delay"] = 4.into();
    json["flow"]["noise_at"] = noise_at.into();
    json["input_features"]["observation.image"]["shape"] = serde_json::json!([3, 32, 32]);
    json["normalization_mapping"]["ACTION"] = "IDENTITY".into();
    let config = Config::parse(&json.to_string()).expect("valid");
    let (network, params) = Network::new(&config);
    let bank = Bank::new(&Device::Cpu, &Arc::new(params), &[Set::Weights]).expect("memory");
    for (id, param) in bank.params().iter() {
        bank.write(Set::Weights, &param.name, &bank.params().initial(id, 3));
    }
    let normalizer = Normalizer::new(&config, &Stats::new("none")).expect("nothing is scaled");
    let mut policy = Policy::new(config, network, bank, normalizer);
    policy.set_solver_steps(5).expect("a few");
    let mut rng = Rng::new(4, Stream::SampleNoise, 0, 0);
    (policy, (0..3 * 3 * 32 * 32).map(|_| rng.uniform() as f32).collect())
}

#[test]
fn a_prefix_is_kept_to_the_bit_and_no_prefix_is_a_plain_chunk() {
    for noise_at in [0, 1] {
        let (mut policy, pictures) = given_actions(noise_at);
        let seen = Observations::of_images(Images::Floats(&pictures));
        let noise = Noise::Seeded(6).draw(0, 0, 48);
        let planned = Noise::Seeded(7).draw(0, 0, 12);
        let mut chunks = |delays: [usize; 3]| {
            let plan = |delay| Some(Continuation { planned: planned.clone(), delay });
            let plans = delays.map(plan);
            policy.continue_chunk(&seen, &noise, &plans, Chunking::Prefix).expect("samples").normalized
        };
        let behind = chunks([4, 0, 2]);
        assert_eq!(behind[..8], planned[..8]);
        assert_eq!(behind[32..36], planned[..4]);
        let free = chunks([0; 3]);
        let others = chunks([4, 0, 1]);
        assert_eq!(others[..16], behind[..16], "a sample does not depend on another's delay");
        let plain = policy.predict_chunk(&seen, &noise).expect("samples").normalized;
        assert!(free.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 2e-5));
        assert!(
            behind[8..16].iter().zip(&plain[8..16]).any(|(a, b)| (a - b).abs() > 1e-3),
            "it is looked at"
        );
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let (mut policy, pictures) = given_actions(0);
    let seen = Observations::of_images(Images::Floats(&pictures));
    let noise = Noise::Seeded(6).draw(0, 0, 48);
    let refuse = |policy: &mut Policy, plan: Option<Continuation>, chunking, sentence: &str| {
        let told = policy.continue_chunk(&seen, &noise, &[None, plan, None], chunking).expect_err(sentence);
        assert_eq!(told.exit_code(), 2, "{told}");
        assert!(told.to_string().contains(sentence), "{told}");
    };
    let plan = |actions: usize, delay| Some(Continuation { planned: vec![0.0; 2 * actions], delay });
    let guided = Chunking::GUIDED;
    refuse(&mut policy, plan(6, 5), Chunking::Prefix, "`rtc_training_max_delay` is 4");
    refuse(&mut policy, plan(2, 3), guided, "sample 1: 3 actions will be executed");
    refuse(&mut policy, plan(9, 0), guided, "up to 8 actions of 2 values");
    let bad = Some(Continuation { planned: vec![0.0, f32::NAN], delay: 0 });
    refuse(&mut policy, bad, guided, "planned action 0 holds NaN");
    refuse(&mut policy, None, Chunking::Guided { max_weight: f64::NAN }, "is NaN: use a number");
    let nothing = Guidance { scale: 2.0, unconditional: Unconditional::Zeros };
    policy.set_guidance(Some(nothing)).expect("fits");
    refuse(&mut policy, plan(4, 1), guided, "--guidance-scale");
    let mut robot = Robot::new();
    let told = robot.plan(&[None, None, None], Chunking::Prefix).expect_err("not trained so").to_string();
    assert!(told.contains("rtc_training_max_delay=N"), "{told}");
    let told = robot.plan(&[None], Chunking::Naive).expect_err("one").to_string();
    assert!(told.contains("1 plans for 3 chunks"), "{told}");
}
