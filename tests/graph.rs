//! What programs promise: a memory plan that never overwrites what is still needed, the same bits every time,
//! nothing bad applied, and a sample in one go.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::flow::Solver;
use flowgpu::graph::ops::{Attend, AttentionShape, Columns};
use flowgpu::graph::{Bank, Device, Graph, Init, Params, Program, Training, Value, trial};
use flowgpu::kernels::activation::{Activate, Activation};
use flowgpu::kernels::check::Distance;
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{AdapterClass, Dtype, Place, Plan, Set};
use flowgpu::nn::{Norm, Projection};
use flowgpu::policy::presets::preset;
use flowgpu::policy::{
    self, Config, Evaluator, Guidance, Images, Network, Observations, Sampler, SamplerShape, Unconditional,
};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::golden::Golden;
use flowgpu::train::{Purpose, StepInputs, StepReport, StepShape, TrainStep, Update, UpdateStep, step_graph};

/// One device for all tests of this file: pipelines are dear on software adapters.
static GPU: LazyLock<Device> = LazyLock::new(|| Device::open("gpu").expect("the tests need an adapter"));

fn devices() -> [Device; 3] {
    [Device::Oracle, Device::Cpu, GPU.clone()]
}

/// The default network: 287,000 parameters, images of 128 x 128.
fn pursuit() -> Config {
    preset("pursuit").expect("known")
}

/// Two layers of everything, and little to do: images of 32 x 32, four patches, chunks of four.
fn small() -> Config {
    let json = serde_json::json!({
        "type": "patch_decoder", "chunk_size": 4,
        "input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 32, 32]}},
        "output_features": {"action": {"type": "ACTION", "shape": [2]}},
        "d_model": 32, "dim_feedforward": 48, "action_pos_embed": true
    });
    Config::parse(&json.to_string()).expect("a configuration")
}

/// A network with its first weights on a device.
struct Policy {
    config: Config,
    network: Network,
    bank: Bank,
}

const ALL: [Set; 5] = [Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2, Set::Average];

impl Policy {
    fn new(config: &Config, device: &Device) -> Result<Self> {
        let (network, params) = Network::new(config);
        let bank = Bank::new(device, &Arc::new(params), &ALL)?;
        for (id, param) in bank.params().iter() {
            let initial = bank.params().initial(id, 1);
            bank.write(Set::Weights, &param.name, &initial);
            bank.write(Set::Average, &param.name, &initial);
        }
        Ok(Self { config: config.clone(), network, bank })
    }

    fn step(&self, batch: usize, update: Option<Update>, dropout: f32) -> Result<TrainStep> {
        let purpose = update.map_or(Purpose::Gradients, Purpose::Update);
        let shape = StepShape { batch, cameras: vec![Some(Dtype::F32)], t_per_slot: false, purpose, dropout };
        TrainStep::new(&self.config, &self.network, &self.bank, shape)
    }

    fn sampler(&self, batch: usize, steps: usize) -> Result<Sampler> {
        let shape = SamplerShape { steps, ..SamplerShape::of(&self.config, batch) };
        Sampler::new(&self.config, &self.network, &self.bank, shape)
    }

    fn sample(&self, batch: &Batch, steps: usize) -> Result<Vec<f64>> {
        let sampler = self.sampler(batch.len, steps)?;
        let program = sampler.program();
        program.write("images.0", &batch.images)?;
        program.write("noise", &batch.noise)?;
        program.run()?;
        program.read_wide("sample")
    }

    /// Every set, bit for bit.
    fn bits(&self, sets: &[Set]) -> Result<Vec<Vec<Vec<u64>>>> {
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
        let of = |&set| Ok(self.bank.read_wide(set)?.into_iter().map(bits).collect());
        sets.iter().map(of).collect()
    }
}

/// Random inputs.
#[derive(Clone)]
struct Batch {
    len: usize,
    images: Vec<f32>,
    actions: Vec<f32>,
    noise: Vec<f32>,
    times: Vec<f32>,
    weights: Vec<f32>,
}

impl Batch {
    fn new(config: &Config, len: usize) -> Self {
        let mut rng = Rng::new(3, Stream::Init, 0, 0);
        let (_, image) = config.images().next().expect("an image");
        let pixels = len * config.n_obs_steps * image.shape.iter().product::<usize>();
        let slots = len * config.chunk_size;
        let dims = config.action().1;
        Self {
            len,
            images: (0..pixels).map(|_| rng.uniform() as f32).collect(),
            actions: (0..slots * dims).map(|_| rng.normal() as f32).collect(),
            noise: (0..slots * dims).map(|_| rng.normal() as f32).collect(),
            times: (0..len).map(|_| rng.uniform() as f32).collect(),
            weights: vec![1.0 / (slots * dims) as f32; slots],
        }
    }

    /// One of the batch's samples by itself, which counts as much as it does in the batch.
    fn sample(&self, at: usize) -> Self {
        let run =
            |values: &[f32]| values.chunks(values.len() / self.len).nth(at).unwrap_or_default().to_vec();
        Self {
            len: 1,
            images: run(&self.images),
            actions: run(&self.actions),
            noise: run(&self.noise),
            times: run(&self.times),
            weights: run(&self.weights),
        }
    }

    fn inputs(&self) -> StepInputs<'_> {
        StepInputs {
            seen: Observations::of_images(Images::Floats(&self.images)),
            dropped: &[],
            actions: &self.actions,
            noise: &self.noise,
            times: &self.times,
            weights: &self.weights,
        }
    }
}

const HYPER: Hyper =
    Hyper { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01, ema_decay: 0.9, max_norm: 1.0 };
const UPDATE: Option<Update> = Some(Update { decoupled: true, average: true });

/// The graph of a training step without its update.
fn training_graph(config: &Config, batch: usize, dropout: f32) -> Graph {
    let (network, params) = Network::new(config);
    let shape = StepShape {
        batch,
        cameras: vec![Some(Dtype::F32)],
        t_per_slot: false,
        purpose: Purpose::Gradients,
        dropout,
    };
    step_graph(config, &network, &Arc::new(params), &shape)
}

/// The graph of a sampler on the CPU.
fn sampling_graph(config: &Config, batch: usize, steps: usize) -> Graph {
    graph_of(config, &SamplerShape { steps, ..SamplerShape::of(config, batch) }, &Device::Cpu)
}

/// The graph of a sampler, its launches as suits a device; the oracle's has each by itself.
fn graph_of(config: &Config, shape: &SamplerShape, device: &Device) -> Graph {
    let (network, params) = Network::new(config);
    policy::sampling_graph(config, &network, &Arc::new(params), shape, device).expect("fixed steps").0
}

/// Replays a plan next to the one in which every value has a buffer of its own, and checks that a buffer holds
/// what is read from it. Gives the values that buffers hold in the end.
fn replay(plan: &Plan, apart: &Plan) -> HashMap<Place, Place> {
    // By buffer of the plan, which value it holds: that value's own buffer.
    let mut holds: HashMap<Place, Place> = HashMap::new();
    // What the host writes before the first run, and never again.
    let mut given = HashSet::new();
    let mut written = HashSet::new();
    assert_eq!(plan.steps.len(), apart.steps.len());
    for (i, (step, own)) in plan.steps.iter().zip(&apart.steps).enumerate() {
        assert_eq!(step.kernel, own.kernel);
        for (input, value) in step.inputs.iter().zip(&own.inputs) {
            if value.place == Place::Nothing {
                continue;
            }
            assert_eq!((input.offset, input.len), (value.offset, value.len));
            if !written.contains(&value.place) {
                given.insert((input.place, value.place));
            }
            let held = *holds.entry(input.place).or_insert(value.place);
            assert_eq!(held, value.place, "launch {i}, {}, reads what was overwritten", step.kernel);
        }
        for (at, (output, value)) in step.outputs.iter().zip(&own.outputs).enumerate() {
            let others = step.inputs.iter().chain(&step.outputs[..at]);
            let shared = others.into_iter().any(|other| other.place == output.place);
            assert!(!shared, "launch {i}, {}, binds {:?} twice", step.kernel, output.place);
            let held = holds.insert(output.place, value.place);
            if !written.insert(value.place) {
                assert_eq!(
                    held,
                    Some(value.place),
                    "launch {i}, {}, writes more of what is gone",
                    step.kernel
                );
            }
        }
    }
    for (place, value) in given {
        assert_eq!(holds[&place], value, "an input is gone for the next run");
    }
    holds
}

#[test]
fn no_buffer_is_written_while_what_it_holds_is_needed() -> Result<()> {
    for config in [small(), pursuit()] {
        for dropout in [0.0, 0.1] {
            let graph = training_graph(&config, 3, dropout);
            let (plan, apart) = (graph.compile_plan(), graph.plan_without_sharing());
            let holds = replay(&plan, &apart);
            // The loss is still there for the host.
            let loss = |plan: &Plan| {
                let mse = plan.steps.iter().find(|step| step.kernel.name() == "weighted_mse");
                mse.expect("a loss").outputs[0].place
            };
            assert_eq!(holds[&loss(&plan)], loss(&apart));
        }
        let graph = sampling_graph(&config, 2, 5);
        let (plan, apart) = (graph.compile_plan(), graph.plan_without_sharing());
        let holds = replay(&plan, &apart);
        let sample = |plan: &Plan| plan.steps.last().expect("a launch").outputs[0].place;
        assert_eq!(holds[&sample(&plan)], sample(&apart));
    }
    // The graphs above are those of the real programs.
    let policy = Policy::new(&small(), &Device::Cpu)?;
    let (step, graph) = (policy.step(3, None, 0.1)?, training_graph(&small(), 3, 0.1));
    assert_eq!((step.launches(), step.program().bytes()), (graph.launches(), graph.compile_plan().bytes()));
    // Larger batches of so small a network are sampled in parts.
    let (sampler, graph) = (policy.sampler(1, 5)?, sampling_graph(&small(), 1, 5));
    let plan = graph.compile_plan();
    assert_eq!((sampler.launches(), sampler.program().bytes()), (graph.launches(), plan.bytes()));
    Ok(())
}

/// Bytes of temporaries in a plan that shares none, and the most that are in use at once: the least any plan needs.
fn temporaries(apart: &Plan) -> [usize; 2] {
    let mut lives: HashMap<usize, (usize, usize)> = HashMap::new();
    // What is read before it is written comes from the host.
    let mut given = HashSet::new();
    for (i, step) in apart.steps.iter().enumerate() {
        for (binding, read) in step
            .inputs
            .iter()
            .map(|input| (input, true))
            .chain(step.outputs.iter().map(|output| (output, false)))
        {
            let Place::Slot(slot) = binding.place else { continue };
            if read && !lives.contains_key(&slot) {
                given.insert(slot);
            }
            lives.entry(slot).or_insert((i, i)).1 = i;
        }
    }
    lives.retain(|slot, _| !given.contains(slot));
    let bytes = |i: Option<usize>| {
        let in_use = |life: &(usize, usize)| i.is_none_or(|i| life.0 <= i && i <= life.1);
        lives
            .iter()
            .filter(|(_, life)| in_use(life))
            .map(|(slot, _)| 4 * apart.slots[*slot].len)
            .sum::<usize>()
    };
    [bytes(None), (0..apart.steps.len()).map(|i| bytes(Some(i))).max().unwrap_or_default()]
}

#[test]
fn temporaries_share_little_more_memory_than_is_in_use_at_once() {
    let sample = SamplerShape { steps: 20, ..SamplerShape::of(&pursuit(), 1) };
    // Of a training step's temporaries 58 % are in use where the forward pass ends; less is not to be had.
    for (what, graph, share) in [
        ("a training step of 64", training_graph(&pursuit(), 64, 0.0), 0.62),
        ("a training step of 64 with dropout", training_graph(&pursuit(), 64, 0.1), 0.55),
        ("a sample, each launch by itself", graph_of(&pursuit(), &sample, &Device::Oracle), 0.15),
    ] {
        let apart = graph.plan_without_sharing();
        let [sum, peak] = temporaries(&apart);
        let planned = sum - (apart.bytes() - graph.compile_plan().bytes());
        let [planned, sum, peak] = [planned, sum, peak].map(|bytes| bytes as f64 / f64::from(1 << 20));
        println!("{what}: {planned:.2} MiB instead of {sum:.2}, of which {peak:.2} are in use at once");
        assert!(planned >= peak && planned <= 1.2 * peak && planned < share * sum);
    }
}

#[test]
fn some_launches_need_not_wait_for_others() -> Result<()> {
    let policy = Policy::new(&pursuit(), &Device::Cpu)?;
    let (step, sampler) = (policy.step(2, UPDATE, 0.1)?, policy.sampler(1, 20)?);
    for (what, program, launches) in [
        ("a training step", step.program(), step.launches()),
        ("a sample", sampler.program(), sampler.launches()),
    ] {
        println!("{what}: {launches} launches, {} barriers", program.barriers());
        assert!(program.barriers() > 0 && program.barriers() < launches);
    }
    Ok(())
}

#[test]
fn parts_of_a_batch_add_up_to_its_step() -> Result<()> {
    let (config, update) = (small(), Update { decoupled: true, average: true });
    // Adam makes steps of lr out of gradients that are nothing but rounding, unless ε is larger than those.
    let hyper = Hyper { eps: 1e-5, ..HYPER };
    for device in devices() {
        let [whole, parts] = [Policy::new(&config, &device)?, Policy::new(&config, &device)?];
        let shape = |batch, purpose| StepShape {
            batch,
            cameras: vec![Some(Dtype::F32)],
            t_per_slot: false,
            purpose,
            dropout: 0.0,
        };
        let step = |policy: &Policy, batch, purpose| {
            TrainStep::new(&policy.config, &policy.network, &policy.bank, shape(batch, purpose))
        };
        let in_one = step(&whole, 3, Purpose::Update(update))?;
        let (in_three, apply) =
            (step(&parts, 1, Purpose::Accumulate)?, UpdateStep::new(&parts.bank, update)?);
        let batch = Batch::new(&config, 3);
        for number in 1..=3 {
            in_one.run(&batch.inputs(), &hyper, 9, number)?;
            in_three.begin()?;
            for at in 0..3 {
                in_three.run(&batch.sample(at).inputs(), &hyper, 9, 3 * number + at as u64)?;
            }
            apply.run(&hyper, number)?;
            let (once, thrice) = (in_one.report()?, in_three.report()?);
            let (norm, bad) = apply.report()?;
            assert!((once.loss - thrice.loss).abs() <= 1e-6 * once.loss, "{device}: {once:?} {thrice:?}");
            assert!(
                (once.grad_norm - norm).abs() <= 1e-5 * norm && bad.is_none(),
                "{device}: {once:?} {norm}"
            );
        }
        for set in [Set::Weights, Set::Average] {
            let [whole, parts] = [whole.bank.read_wide(set)?.concat(), parts.bank.read_wide(set)?.concat()];
            let apart = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-5, "{device}: {set:?} differ by {apart}");
        }
        let left = parts.bank.read_wide(Set::Gradients)?.concat();
        assert!(left.iter().all(|&g| g == 0.0), "{device}: the next step begins with gradients");
    }
    Ok(())
}

/// Losses and all sets after some steps with dropout, bit for bit.
type Trained = (Vec<u64>, Vec<Vec<Vec<u64>>>);

fn train(config: &Config, device: &Device, batch: usize) -> Result<Trained> {
    let policy = Policy::new(config, device)?;
    let step = policy.step(batch, UPDATE, 0.1)?;
    let batch = Batch::new(config, batch);
    let mut losses = Vec::new();
    for k in 1..=3 {
        step.run(&batch.inputs(), &HYPER, 9, k)?;
        losses.push(step.loss()?.to_bits());
    }
    assert!(losses[0] != losses[2], "nothing was learnt");
    Ok((losses, policy.bits(&ALL)?))
}

#[test]
fn training_twice_gives_the_same_bits() -> Result<()> {
    assert!(train(&pursuit(), &Device::Cpu, 4)? == train(&pursuit(), &Device::Cpu, 4)?, "on the CPU");
    assert!(train(&small(), &GPU, 4)? == train(&small(), &GPU, 4)?, "on {}", *GPU);
    Ok(())
}

#[test]
fn training_does_not_depend_on_the_number_of_threads() -> Result<()> {
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| train(&pursuit(), &Device::Cpu, 4))
    };
    let one = with(1)?;
    for threads in [2, 3] {
        assert!(one == with(threads)?, "with {threads} threads");
    }
    Ok(())
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing_and_is_remembered() -> Result<()> {
    const CHANGED: [Set; 4] = [Set::Weights, Set::Moment1, Set::Moment2, Set::Average];
    for device in devices() {
        let policy = Policy::new(&small(), &device)?;
        let step = policy.step(2, UPDATE, 0.0)?;
        let good = Batch::new(&small(), 2);
        let mut bad = good.clone();
        bad.images[1234] = f32::NAN;
        let run = |batch: &Batch, k| -> Result<StepReport> {
            step.run(&batch.inputs(), &HYPER, 0, k)?;
            step.report()
        };
        let report = run(&good, 1)?;
        assert!(report.bad_step.is_none() && report.grad_norm > 0.0 && report.loss > 0.0, "{device}");
        let before = policy.bits(&CHANGED)?;
        for k in [2, 3] {
            let report = run(&bad, k)?;
            assert!(report.loss.is_nan(), "{device}: the loss is {}", report.loss);
            assert_eq!(report.bad_step, Some(2), "{device}");
            assert!(policy.bits(&CHANGED)? == before, "{device}: step {k} changed something");
        }
        let report = run(&good, 4)?;
        assert_eq!(report.bad_step, Some(2), "{device}");
        assert!(report.loss.is_finite() && report.grad_norm > 0.0, "{device}");
        for (set, (after, before)) in CHANGED.iter().zip(policy.bits(&CHANGED)?.iter().zip(&before)) {
            assert!(after.iter().zip(before).all(|(a, b)| a != b), "{device}: {set:?} stands still");
        }
    }
    Ok(())
}

/// Launches of a sampler.
///
/// | once | |
/// |---|---|
/// | patches, and their product with GELU and position | 2 |
/// | an encoder layer: qkv, attention, output, norm; two products, norm | 7, fewer where some are merged |
/// | a decoder layer: keys and values | 1 |
/// | the steps' times, added to the action projection's bias | 1 |
///
/// | each step, or 1 for all of them | |
/// |---|---|
/// | action projection | 1 |
/// | a decoder layer: qkv, attention, output, norm; q, attention, output, norm; two products, norm | 11, or fewer |
/// | velocity head, which also moves x | 1 |
fn launches_of_a_sampler(
    merged: Merged,
    encoder_layers: usize,
    decoder_layers: usize,
    steps: usize,
) -> usize {
    let (of_encoder, of_decoder) = match merged {
        Merged::Nothing => (7, 11),
        Merged::Norms | Merged::NormsAndSteps => (5, 8),
        Merged::AttentionsAndSteps => (4, 6),
    };
    let steps = match merged {
        Merged::NormsAndSteps | Merged::AttentionsAndSteps => 1,
        _ => steps * (1 + of_decoder * decoder_layers + 1),
    };
    2 + of_encoder * encoder_layers + decoder_layers + 1 + steps
}

/// What is one launch.
#[derive(Clone, Copy)]
enum Merged {
    /// Every product, attention and norm by itself.
    Nothing,
    /// A product and the norm behind it.
    Norms,
    /// The same, and all solver steps.
    NormsAndSteps,
    /// An attention, the product and the norm behind it, and all solver steps.
    AttentionsAndSteps,
}

#[test]
fn a_sample_is_one_program_that_encodes_once() -> Result<()> {
    let policy = Policy::new(&pursuit(), &Device::Cpu)?;
    assert_eq!(policy.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 20));
    assert_eq!(launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 20), 16);
    assert_eq!(policy.sampler(5, 1)?.launches(), launches_of_a_sampler(Merged::NormsAndSteps, 2, 2, 1));
    // The oracle, which the others are checked against, has every launch by itself.
    let oracle = Policy::new(&pursuit(), &Device::Oracle)?;
    assert_eq!(oracle.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::Nothing, 2, 2, 20));
    // A regression has one step whatever is asked for.
    let mut json = pursuit().to_json();
    json["objective"] = "regression".into();
    let regression = Policy::new(&Config::parse(&json.to_string())?, &Device::Cpu)?;
    assert_eq!(regression.sampler(1, 20)?.launches(), launches_of_a_sampler(Merged::Norms, 2, 2, 1));
    Ok(())
}

/// The adapter of the other tests, with the kernels and programs of a real GPU.
static REAL_GPU: LazyLock<Device> = LazyLock::new(|| {
    let others = trial::other_classes(&GPU).expect("opens again");
    std::iter::once(GPU.clone())
        .chain(others)
        .find(|device| matches!(device, Device::Gpu(gpu) if gpu.class().is_gpu()))
        .expect("there is a class for it")
});

#[test]
fn a_decoder_in_one_launch_samples_as_launch_by_launch() -> Result<()> {
    let mut json = small().to_json();
    json["flow"]["noise_at"] = 1.into();
    let backwards = Config::parse(&json.to_string())?;
    for (config, len, steps) in [(small(), 3, 7), (backwards, 2, 5), (pursuit(), 1, 20)] {
        let (shape, batch) =
            (SamplerShape { steps, ..SamplerShape::of(&config, len) }, Batch::new(&config, len));
        let on_the_adapter = match &*GPU {
            Device::Gpu(gpu) if gpu.class().is_gpu() => Merged::AttentionsAndSteps,
            Device::Gpu(gpu) if gpu.class() == AdapterClass::Software => Merged::Nothing,
            _ => Merged::NormsAndSteps,
        };
        for (device, made_for, largest, merged) in [
            (Device::Oracle, &*REAL_GPU, 1e-24, Merged::AttentionsAndSteps),
            (REAL_GPU.clone(), &*REAL_GPU, 1e-11, Merged::AttentionsAndSteps),
            (GPU.clone(), &*GPU, 1e-11, on_the_adapter),
            (Device::Cpu, &Device::Cpu, 1e-11, Merged::NormsAndSteps),
        ] {
            let policy = Policy::new(&config, &device)?;
            let sample = |made_for| -> Result<(Vec<f64>, usize)> {
                let program = Program::new(&graph_of(&config, &shape, made_for), &policy.bank)?;
                program.write("images.0", &batch.images)?;
                program.write("noise", &batch.noise)?;
                program.run()?;
                Ok((program.read_wide("sample")?, program.launches()))
            };
            let ((many, launches), (one, fewer)) = (sample(&Device::Oracle)?, sample(made_for)?);
            let distance = Distance::between(&one, &many);
            println!("{device}: {launches} launches, {fewer} launches: NMSE {:.1e}", distance.nmse);
            assert!(distance.nmse <= largest, "{device}: {distance:?}");
            assert_eq!(
                [fewer, launches],
                [merged, Merged::Nothing].map(|merged| launches_of_a_sampler(merged, 2, 2, steps)),
            );
            let chosen = policy.sampler(len, steps)?.launches();
            assert_eq!(chosen, if device.favours_few_launches() { fewer } else { launches }, "{device}");
        }
    }
    Ok(())
}

/// A golden file of which nothing but the sample is expected.
fn golden_sample(case: &str) -> Result<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{case}.safetensors"));
    let mut golden = Golden::parse(&std::fs::read(path).expect("a committed golden"))?;
    golden.tensors.retain(|name, _| !name.starts_with("expect/") || name == "expect/sample");
    Ok(golden)
}

#[test]
fn goldens_hold_where_a_decoder_is_one_launch() -> Result<()> {
    for case in ["seed", "default", "noise_at_1", "two_frames", "slot_time"] {
        let golden = golden_sample(case)?;
        let shape = SamplerShape::of(&golden.config, 1);
        let graph = graph_of(&golden.config, &shape, &REAL_GPU);
        let (plan, quantities) = (graph.compile_plan(), golden.verify(&REAL_GPU)?);
        println!("{case} on {}: {} launches, {quantities:?}", *REAL_GPU, plan.steps.len());
        assert_eq!(plan.steps.last().expect("a launch").kernel.name(), "decoder_steps");
        assert!(quantities.len() == 1 && quantities[0].pass, "{case}: {quantities:?}");
    }
    Ok(())
}

#[test]
fn what_has_no_decoder_in_one_launch_keeps_its_launches() -> Result<()> {
    let mut json = small().to_json();
    json["chunk_size"] = 9.into();
    json["n_action_steps"] = 9.into();
    let long = Config::parse(&json.to_string())?;
    let plain = SamplerShape { steps: 3, ..SamplerShape::of(&small(), 1) };
    let unconditional = Unconditional::Zeros;
    let guided = Guidance { scale: 2.0, unconditional };
    for (config, shape) in [
        (&long, plain.clone()),
        (&small(), SamplerShape { solver: Solver::Heun, ..plain.clone() }),
        (&small(), SamplerShape { path: true, ..plain.clone() }),
        (&small(), SamplerShape { guidance: Some(guided), ..plain.clone() }),
        (&small(), SamplerShape { steps: 129, ..plain }),
    ] {
        let plan = graph_of(config, &shape, &REAL_GPU).compile_plan();
        let count = |name| plan.steps.iter().filter(|step| step.kernel.name() == name).count();
        assert_eq!(count("decoder_steps"), 0, "{shape:?}");
        // All launches but those that are merged.
        let apart = graph_of(config, &shape, &Device::Oracle).launches();
        let merged = count("matmul_norm") + 2 * count("attention_norm");
        assert_eq!(plan.steps.len() + merged, apart, "{shape:?}");
    }
    Ok(())
}

/// Kernels of a sampler's launches, and its sample.
fn sampled(
    config: &Config,
    shape: &SamplerShape,
    device: &Device,
    batch: &Batch,
) -> Result<(Vec<&'static str>, Vec<f64>)> {
    let policy = Policy::new(config, device)?;
    let graph = graph_of(config, shape, device);
    let program = Program::new(&graph, &policy.bank)?;
    program.write("images.0", &batch.images)?;
    program.write("noise", &batch.noise)?;
    program.run()?;
    let kernels = graph.compile_plan().steps.iter().map(|step| step.kernel.name()).collect();
    Ok((kernels, program.read_wide("sample")?))
}

#[test]
fn layers_too_wide_for_a_workgroup_have_their_norms_in_the_products_behind_them() -> Result<()> {
    let mut json = small().to_json();
    json["d_model"] = 160.into();
    json["dim_feedforward"] = 200.into();
    let config = Config::parse(&json.to_string())?;
    let steps = 3;
    let (shape, batch) = (SamplerShape { steps, ..SamplerShape::of(&config, 2) }, Batch::new(&config, 2));
    let (apart, expected) = sampled(&config, &shape, &Device::Oracle, &batch)?;
    let (merged, sample) = sampled(&config, &shape, &REAL_GPU, &batch)?;
    let distance = Distance::between(&sample, &expected);
    println!("{} launches, {} launches: NMSE {:.1e}", apart.len(), merged.len(), distance.nmse);
    assert!(distance.nmse <= 1e-11, "{distance:?}");
    // 5 launches a layer of the encoder, 8 of the decoder, whose last norm is followed by a product too narrow to store it.
    assert_eq!(apart.len(), launches_of_a_sampler(Merged::Nothing, 2, 2, steps));
    assert_eq!(merged.len(), 2 + 5 * 2 + 2 + 1 + steps * (1 + 8 * 2 + 1 + 1));
    let norms = |name| merged.iter().filter(|kernel| **kernel == name).count();
    assert_eq!([norms("norm_matmul"), norms("layer_norm")], [2 * 2 + steps * 5, steps]);
    // Of one sample there are four rows here, too few for tiles.
    let one = SamplerShape { steps, ..SamplerShape::of(&config, 1) };
    assert!(!sampled(&config, &one, &REAL_GPU, &Batch::new(&config, 1))?.0.contains(&"norm_matmul"));
    Ok(())
}

#[test]
fn a_norm_joins_the_product_behind_it_only_where_nothing_is_lost_by_it() {
    let kernels = |build: fn(&mut Graph, Value, [Projection; 3])| {
        let mut params = Params::default();
        let norm = Norm::new(&mut params, "norm", 8, 1e-5);
        let projections =
            [12, 4, 8].map(|outputs| Projection::new(&mut params, &format!("to{outputs}"), 8, outputs));
        let mut graph = Graph::new(Arc::new(params), None).on(&REAL_GPU);
        let x = graph.input("x", Dtype::F32, &[16, 8]);
        let normed = norm.apply(&mut graph, x);
        build(&mut graph, normed, projections);
        let steps = graph.compile_plan().steps;
        steps.iter().map(|step| step.kernel.name()).collect::<Vec<_>>()
    };
    // Others may read the rows as well: they are stored.
    let read_twice = kernels(|graph, x, [wide, ..]| {
        let y = graph.linear(wide.of(x));
        graph.output("y", y);
        graph.output("x again", x);
    });
    assert_eq!(read_twice, ["norm_matmul"]);
    // Tiles of four columns would not store eight.
    let narrow = kernels(|graph, x, [_, narrow, _]| {
        graph.linear(narrow.of(x));
    });
    assert_eq!(narrow, ["layer_norm", "matmul"]);
    // Who runs the first part alone wants its norm.
    let parted = kernels(|graph, x, [wide, ..]| {
        graph.keep(x);
        assert_eq!(graph.end_part(), 1);
        graph.linear(wide.of(x));
    });
    assert_eq!(parted, ["layer_norm", "matmul"]);
    // What is added is read in the launch that would write it.
    let added = kernels(|graph, x, [_, _, square]| {
        graph.linear(square.of(x).plus(x, 16));
    });
    assert_eq!(added, ["layer_norm", "matmul"]);
}

#[test]
fn goldens_hold_where_norms_are_in_the_products_behind_them() -> Result<()> {
    for case in ["fm_cameras", "fm_zeroed", "fm_slot_time"] {
        let golden = golden_sample(case)?;
        let shape = SamplerShape::of(&golden.config, 1);
        let plan = graph_of(&golden.config, &shape, &REAL_GPU).compile_plan();
        let joined = plan.steps.iter().filter(|step| step.kernel.name() == "norm_matmul").count();
        let quantities = golden.verify(&REAL_GPU)?;
        println!("{case} on {}: {joined} of {} launches, {quantities:?}", *REAL_GPU, plan.steps.len());
        assert!(joined > 0 && quantities.len() == 1 && quantities[0].pass, "{case}: {quantities:?}");
    }
    Ok(())
}

/// A sample by as many programs as there are steps, each asked for the velocity, and Euler's method on the host.
fn sample_by_velocities(policy: &Policy, batch: &Batch, steps: usize) -> Result<Vec<f64>> {
    let Policy { config, network, bank } = policy;
    let evaluator = Evaluator::new(config, network, bank, SamplerShape::of(config, batch.len), false)?;
    let program = evaluator.program();
    program.write("images.0", &batch.images)?;
    let mut point: Vec<f64> = batch.noise.iter().map(|&x| f64::from(x)).collect();
    for time in config.flow.evaluation_times(steps) {
        program.write("x", &point.iter().map(|&x| x as f32).collect::<Vec<_>>())?;
        program.write("t", &vec![time as f32; batch.len])?;
        program.run()?;
        for (x, v) in point.iter_mut().zip(program.read_wide("velocity")?) {
            *x += config.flow.step_size(steps) * v;
        }
    }
    Ok(point)
}

#[test]
fn sampling_is_eulers_method_on_the_velocity() -> Result<()> {
    let mut json = small().to_json();
    json["flow"]["noise_at"] = 1.into();
    for config in [small(), Config::parse(&json.to_string())?] {
        for device in devices() {
            let policy = Policy::new(&config, &device)?;
            let batch = Batch::new(&config, 2);
            let reference = sample_by_velocities(&policy, &batch, 20)?;
            let distance = Distance::between(&policy.sample(&batch, 20)?, &reference);
            println!("{device}: the largest error is {:.1e} of {:.1}", distance.max_abs, distance.scale);
            assert!(distance.max_abs <= 1e-5 * distance.scale, "{device}: {distance:?}");
        }
    }
    Ok(())
}

#[test]
fn a_batch_of_three_is_three_batches_of_one() -> Result<()> {
    for (device, config) in [(Device::Oracle, small()), (Device::Cpu, pursuit()), (GPU.clone(), small())] {
        let policy = Policy::new(&config, &device)?;
        let batch = Batch::new(&config, 3);
        let ones: Vec<Batch> = (0..3).map(|i| batch.sample(i)).collect();
        let mut samples = Vec::new();
        for one in &ones {
            samples.extend(policy.sample(one, 4)?);
        }
        let distance = Distance::between(&policy.sample(&batch, 4)?, &samples);
        println!("{device}: samples: NMSE {:.1e}", distance.nmse);
        assert!(distance.nmse <= 1e-11, "{device}: {distance:?}");

        // Without dropout, whose mask knows an element's place, gradients add up.
        let gradients = |batch: &Batch| -> Result<Vec<f64>> {
            policy.step(batch.len, None, 0.0)?.run(&batch.inputs(), &HYPER, 0, 1)?;
            Ok(policy.bank.read_wide(Set::Gradients)?.concat())
        };
        let whole = gradients(&batch)?;
        let mut sum = vec![0.0; whole.len()];
        for one in &ones {
            gradients(one)?.iter().zip(&mut sum).for_each(|(g, sum)| *sum += g);
        }
        let distance = Distance::between(&whole, &sum);
        println!("{device}: gradients: NMSE {:.1e}", distance.nmse);
        assert!(distance.nmse <= 1e-11, "{device}: {distance:?}");
    }
    Ok(())
}

/// A graph over one linear layer of four, and its input.
fn layer() -> (Graph, Projection, Value) {
    let mut params = Params::default();
    let layer = Projection::new(&mut params, "layer", 4, 4);
    let mut graph = Graph::new(Arc::new(params), Some(Training { dropout: 0.0 }));
    let x = graph.input("x", Dtype::F32, &[3, 4]);
    (graph, layer, x)
}

#[test]
fn an_output_may_be_a_part_of_a_kept_value() -> Result<()> {
    let mut graph = Graph::new(Arc::default(), None);
    let x = graph.input("x", Dtype::F32, &[128]);
    let half = graph.view(x, 64, 64);
    let y = graph.temporary(&[64]);
    graph.launch(Activate { kind: Activation::Relu, len: 64 }, &[Some(half)], &[y]);
    graph.output("half", half);
    graph.output("y", y);
    let values: Vec<f32> = (0..128).map(|i| i as f32).collect();
    for device in devices() {
        let program = Program::new(&graph, &Bank::new(&device, graph.params(), &[])?)?;
        program.write("x", &values)?;
        program.run()?;
        assert_eq!(program.read("half")?, values[64..], "{device}");
        assert_eq!(program.read("y")?, values[64..], "{device}");
        // Written by its own name, too.
        program.write("half", &values[..64])?;
        assert_eq!(program.read("x")?, [&values[..64], &values[..64]].concat(), "{device}");
    }
    Ok(())
}

#[test]
#[should_panic(expected = "a graph is differentiated once")]
fn a_second_loss_is_refused() {
    let (mut graph, layer, x) = layer();
    let y = graph.linear(layer.of(x));
    let upstream = graph.constant(&[3, 4], vec![1.0; 12]);
    graph.differentiate(y, upstream);
    graph.differentiate(y, upstream);
}

#[test]
#[should_panic(expected = "input x has one type and size")]
fn an_input_of_another_size_is_refused() {
    layer().0.input("x", Dtype::F32, &[3, 5]);
}

#[test]
#[should_panic(expected = "which it binds twice")]
fn a_launch_that_writes_what_it_reads_is_refused() {
    let (mut graph, _, _) = layer();
    let y = graph.temporary(&[4]);
    graph.launch(Activate { kind: Activation::Relu, len: 4 }, &[Some(y)], &[y]);
    graph.compile_plan();
}

#[test]
#[should_panic(expected = "queries, keys and values are different columns")]
fn an_attention_whose_queries_are_its_keys_is_refused() {
    let mut params = Params::default();
    let p = params.declare("p", &[3, 8], Init::Zeros);
    let mut graph = Graph::new(Arc::new(params), Some(Training { dropout: 0.0 }));
    let p = graph.param(p);
    let [q, v] = [0, 4].map(|first| Columns { value: p, first });
    let shape = AttentionShape { batch: 1, heads: 1, queries: 3, keys: 3, head_width: 4 };
    let y = graph.attention(Attend { q, k: q, v, shape });
    let upstream = graph.constant(&[3, 4], vec![1.0; 12]);
    graph.differentiate(y, upstream);
}
