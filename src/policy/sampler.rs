//! A whole sample as one program: observations encoded once, then every solver step.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::{Config, Guidance, Network, Time};
use crate::Result;
use crate::flow::Solver;
use crate::graph::{Bank, Device, Graph, Params, Program};
use crate::kernels::Dtype;

/// What a sampler's program is built for.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerShape {
    /// B.
    pub batch: usize,
    /// Solver steps.
    pub steps: usize,
    /// The solver, by its fixed-step form.
    pub solver: Solver,
    /// Guidance; none where its scale is 1.
    pub guidance: Option<Guidance>,
    /// What each camera's pictures come as; none for a camera that is missing.
    pub cameras: Vec<Option<Dtype>>,
    /// Whether the points of the path are kept to be read.
    pub path: bool,
}

impl SamplerShape {
    /// The configuration's own solver and steps for a batch of B, every camera there, in floats.
    pub fn of(config: &Config, batch: usize) -> Self {
        Self {
            batch,
            steps: config.flow.num_steps,
            solver: config.flow.solver,
            guidance: None,
            cameras: vec![Some(Dtype::F32); config.images().count()],
            path: false,
        }
    }
}

/// A compiled sampler. Its inputs are `images.<i>` [B, 3·T, H, W] for each camera and `states` [B, T·S], as far as the policy sees them, and
/// `noise` [B, H, A].
pub struct Sampler {
    program: Program,
    shape: SamplerShape,
    launches: usize,
    points: usize,
}

impl Sampler {
    /// Builds and compiles a sampler over the bank's weights.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(config: &Config, network: &Network, bank: &Bank, shape: SamplerShape) -> Result<Self> {
        let parts = sampling_parts(bank.device(), shape.batch, bank.params());
        let mut graphs: BTreeMap<usize, (Graph, usize)> = BTreeMap::new();
        for &batch in &parts {
            if let Entry::Vacant(place) = graphs.entry(batch) {
                let part = SamplerShape { batch, ..shape.clone() };
                place.insert(sampling_graph(config, network, bank.params(), &part, bank.device())?);
            }
        }
        let of_parts: Vec<&Graph> = parts.iter().map(|batch| &graphs[batch].0).collect();
        let program = match is_small(bank.device(), bank.params()) {
            true => Program::of_parts(&of_parts, bank)?,
            false => Program::new(of_parts[0], bank)?,
        };
        let points = graphs[&parts[0]].1;
        Ok(Self { launches: program.launches(), program, shape, points })
    }

    /// The compiled program: write the inputs, run, read `sample`.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it was built for.
    pub fn shape(&self) -> &SamplerShape {
        &self.shape
    }

    /// Kernel launches of one sample.
    pub fn launches(&self) -> usize {
        self.launches
    }

    /// Points of the path, the first included.
    pub fn points(&self) -> usize {
        self.points
    }
}

/// Samples of a part: their activations, and the weights, stay in a core's cache from the first solver step to the
/// last.
const PART: usize = 8;
/// Parameters of a network that stays there as well.
const SMALL: usize = 512 * 1024;

/// Whether a policy is sampled in parts: on the CPU, where a core's cache holds its weights.
fn is_small(device: &Device, params: &Params) -> bool {
    matches!(device, Device::Cpu) && params.iter().map(|(_, param)| param.len).sum::<usize>() <= SMALL
}

/// The batches that a sampler's batch is made in: one graph each, side by side in one program, all of one size or of two
/// that differ by one. They depend on the batch alone, so that a sample's bits do not depend on the number of threads.
pub fn sampling_parts(device: &Device, batch: usize, params: &Params) -> Vec<usize> {
    if !is_small(device, params) {
        return vec![batch];
    }
    let count = batch.div_ceil(PART).max(batch.min(4)).max(1);
    (0..count).map(|i| (batch + i) / count).collect()
}

/// The graph of a sampler for a device, and how many points its path has. Where the device favours it and the network has
/// one, the decoder is one launch: but not if the points between are asked for, or guidance.
///
/// # Errors
/// As [`Network::sample`].
pub fn sampling_graph(
    config: &Config,
    network: &Network,
    params: &Arc<Params>,
    shape: &SamplerShape,
    device: &Device,
) -> Result<(Graph, usize)> {
    let mut config = config.clone();
    config.flow.solver = shape.solver;
    let mut graph = Graph::new(Arc::clone(params), None).on(device);
    let dims = config.network_action_dim();
    let seen = network.inputs(&mut graph, &config, shape.batch, &shape.cameras);
    let noise = graph.input("noise", Dtype::F32, &[shape.batch, config.chunk_size, dims]);
    let guidance = shape.guidance.as_ref();
    let only_the_end = !shape.path && guidance.is_none_or(|guidance| guidance.scale == 1.0);
    let sample = match device.favours_few_launches() && only_the_end {
        true => network.sample_in_one_launch(&mut graph, &config, &seen, noise, shape.steps),
        false => None,
    };
    let path = match sample {
        Some(sample) => vec![noise, sample],
        None => network.sample(&mut graph, &config, seen, noise, shape.steps, guidance)?,
    };
    if shape.path {
        for (i, point) in path.iter().enumerate() {
            graph.output(&format!("path.{i}"), *point);
        }
    }
    graph.output("sample", *path.last().unwrap_or(&noise));
    Ok((graph, path.len()))
}

/// One evaluation of the network as a program: inputs as a sampler's, `x` [B, H, A] and `t`, `[B]` or [B, H]; it leaves
/// `velocity` [B, H, A]. Adaptive solvers, straightness and plots ask it again and again.
pub struct Evaluator {
    program: Program,
    shape: SamplerShape,
    t_per_slot: bool,
    /// Launches that encode the observation.
    encoding: usize,
}

impl Evaluator {
    /// Builds and compiles it over the bank's weights. Of `shape`, the solver and its steps do not matter.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(
        config: &Config,
        network: &Network,
        bank: &Bank,
        shape: SamplerShape,
        t_per_slot: bool,
    ) -> Result<Self> {
        let mut graph = Graph::new(Arc::clone(bank.params()), None).on(bank.device());
        let dims = config.network_action_dim();
        let seen = network.inputs(&mut graph, config, shape.batch, &shape.cameras);
        let x = graph.input("x", Dtype::F32, &[shape.batch, config.chunk_size, dims]);
        let times: &[usize] = if t_per_slot { &[shape.batch, config.chunk_size] } else { &[shape.batch] };
        let t = graph.input("t", Dtype::F32, times);
        let branches = network.branches(&mut graph, config, seen, shape.guidance.as_ref());
        for memory in
            std::iter::once(&branches.memory).chain(branches.guided.iter().map(|(memory, _)| memory))
        {
            memory.keep(&mut graph);
        }
        let encoding = graph.end_part();
        let velocity = network.guided_velocity(&mut graph, &branches, x, Time::Given(t));
        graph.output("velocity", velocity);
        Ok(Self { program: Program::new(&graph, bank)?, shape, t_per_slot, encoding })
    }

    /// Encodes the observations that were written to [`Self::program`].
    ///
    /// # Errors
    /// If the device was lost.
    pub fn encode(&self) -> Result<()> {
        self.program.run_part(0..self.encoding)
    }

    /// The velocity at x [B, H, A] and times, for the observations encoded last.
    ///
    /// # Errors
    /// If a length does not fit, or the device was lost.
    pub fn velocity(&self, x: &[f32], t: &[f32]) -> Result<Vec<f32>> {
        self.program.write("x", x)?;
        self.program.write("t", t)?;
        self.program.run_part(self.encoding..self.program.launches())?;
        self.program.read("velocity")
    }

    /// The compiled program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Whether each action slot has a time of its own.
    pub fn t_per_slot(&self) -> bool {
        self.t_per_slot
    }

    /// What it was built for.
    pub fn shape(&self) -> &SamplerShape {
        &self.shape
    }
}
