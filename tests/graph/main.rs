//! What programs promise: a memory plan that never overwrites what is still needed, the same bits every time,
//! nothing bad applied, and a sample in one go.

mod plans;
mod refusals;
mod sampling;
mod training;

use std::sync::{Arc, LazyLock};

use flowgpu::Result;
use flowgpu::graph::{Bank, Device, Graph, Program};
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{Dtype, Set};
use flowgpu::policy::presets::preset;
use flowgpu::policy::{self, Config, Images, Network, Observations, Sampler, SamplerShape};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::{Purpose, StepInputs, StepShape, TrainStep, Update, step_graph};

/// One device for all tests of this folder: pipelines are dear on software adapters.
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
        batch.sampled_by(self.sampler(batch.len, steps)?.program())
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

    /// What a sampler's program makes of it.
    fn sampled_by(&self, program: &Program) -> Result<Vec<f64>> {
        program.write("images.0", &self.images)?;
        program.write("noise", &self.noise)?;
        program.run()?;
        program.read_wide("sample")
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
