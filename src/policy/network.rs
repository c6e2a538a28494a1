//! A policy's network, whichever family it is of.

use super::flowmatching::FlowMatching;
use super::observations::image_input;
use super::patch_decoder::{Layers, PatchDecoder};
use super::velocity_mlp::{StateMemory, VelocityMlp};
use super::{Config, Family, Guidance, Objective, Unconditional};
use crate::Result;
use crate::flow::{Field, Solver};
use crate::graph::{Graph, Params, Value};
use crate::kernels::Dtype;

/// The network of a configuration.
#[derive(Debug, Clone)]
pub enum Network {
    /// Seed 000's.
    PatchDecoder(Box<PatchDecoder>),
    /// Seed 001's.
    FlowMatching(Box<FlowMatching>),
    /// Seed 002's and seed 004's.
    VelocityMlp(Box<VelocityMlp>),
}

/// What a network sees of B samples, normalised.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The cameras in the configuration's order, [B, 3·T, H, W] each; none for one that is missing.
    pub images: Vec<Option<Value>>,
    /// State vectors, [B, T·S].
    pub state: Option<Value>,
    /// Which samples see nothing, [B, 1] of 0 and 1; none do unless said.
    pub dropped: Option<Value>,
}

/// An encoded observation.
#[derive(Debug, Clone)]
pub enum Memory {
    /// Each decoder layer's keys and values.
    Layers(Layers),
    /// A condition [B, d].
    Condition(Value),
    /// A state.
    State(StateMemory),
}

impl Memory {
    /// Gives it buffers that outlive a run.
    pub fn keep(&self, graph: &mut Graph) {
        match self {
            Self::Condition(value) => graph.keep(*value),
            Self::Layers(layers) => layers.iter().for_each(|layer| graph.keep(layer.value())),
            Self::State(StateMemory::State(value) | StateMemory::Product(value)) => graph.keep(*value),
        }
    }
}

/// What a sampler's velocities come from: an encoded observation, and, under guidance, what stands for none with the
/// scale.
#[derive(Debug, Clone)]
pub struct Branches {
    /// The observation.
    pub memory: Memory,
    /// The other branch.
    pub guided: Option<(Memory, f64)>,
}

/// The flow time of an evaluation.
#[derive(Debug, Clone, Copy)]
pub enum Time {
    /// `[B]` or, where the family has slot tokens, [B, H].
    Given(Value),
    /// A row of [`Network::time_table`], the same for all samples; inference only.
    Row {
        /// The table.
        table: Value,
        /// Which row.
        row: usize,
    },
}

/// An Euler step: from + size · velocity, in the network's last product.
#[derive(Debug, Clone, Copy)]
pub struct Euler {
    /// [B, H, A].
    pub from: Value,
    /// Its length.
    pub size: f64,
}

impl Network {
    /// The network and its parameters.
    pub fn new(config: &Config) -> (Self, Params) {
        let mut params = Params::default();
        let network = match config.family {
            Family::PatchDecoder(_) => Self::PatchDecoder(Box::new(PatchDecoder::new(config, &mut params))),
            Family::FlowMatching(_) => Self::FlowMatching(Box::new(FlowMatching::new(config, &mut params))),
            Family::VelocityMlp(_) => Self::VelocityMlp(Box::new(VelocityMlp::new(config, &mut params))),
        };
        (network, params)
    }

    /// Declares the inputs that observations are written to: `images.<i>`, bytes or floats in [0, 1], for every camera
    /// that is not missing, `states`, and, while a learned stand-in for dropped observations trains, `dropped`.
    pub fn inputs(
        &self,
        graph: &mut Graph,
        config: &Config,
        batch: usize,
        cameras: &[Option<Dtype>],
    ) -> Seen {
        let mut seen = Seen::default();
        for (i, ((_, image), dtype)) in config.images().zip(cameras).enumerate() {
            let [height, width] = config.seen_size(image);
            let shape = [batch, config.n_obs_steps * image.shape[0], height, width];
            seen.images.push(dtype.map(|dtype| graph.input(&image_input(i), dtype, &shape)));
        }
        if config.state_dim() > 0 {
            let shape = [batch, config.n_obs_steps * config.state_dim()];
            seen.state = Some(graph.input("states", Dtype::F32, &shape));
        }
        if config.unconditional == Unconditional::Learned && graph.learns() {
            seen.dropped = Some(graph.input("dropped", Dtype::F32, &[batch, 1]));
        }
        seen
    }

    /// What samples see that see nothing.
    fn nothing(graph: &mut Graph, config: &Config, seen: &Seen, unconditional: &Unconditional) -> Seen {
        let zeros = |graph: &mut Graph, value: Value| {
            let shape = graph.shape(value).to_vec();
            graph.constant(&shape, vec![0.0; shape.iter().product()])
        };
        let Seen { images, state, .. } = seen;
        let batch =
            images.iter().flatten().next().or(state.as_ref()).map_or(0, |value| graph.shape(*value)[0]);
        let images = images.iter().map(|images| images.map(|images| zeros(graph, images))).collect();
        let state = state.map(|state| match unconditional {
            Unconditional::Given(values) => graph.constant(
                &[batch, config.n_obs_steps * values.len()],
                values.repeat(batch * config.n_obs_steps),
            ),
            _ => zeros(graph, state),
        });
        let learned = *unconditional == Unconditional::Learned;
        let dropped = learned.then(|| graph.constant(&[batch, 1], vec![1.0; batch]));
        Seen { images, state, dropped }
    }

    /// Encodes observations; done once per chunk.
    ///
    /// # Panics
    /// If the family sees something else: [`Self::inputs`] declares what it sees.
    pub fn encode(&self, graph: &mut Graph, seen: Seen) -> Memory {
        match self {
            Self::PatchDecoder(network) => {
                let camera = seen.images.first().copied().flatten();
                Memory::Layers(network.encode(graph, camera.expect("a patch_decoder sees a camera")))
            }
            Self::FlowMatching(network) => Memory::Condition(network.encode(graph, &seen)),
            Self::VelocityMlp(network) => {
                let state = seen.state.expect("a velocity_mlp sees a state");
                let state = network.observe(graph, state, seen.dropped);
                Memory::State(network.encode(graph, state))
            }
        }
    }

    /// What the network makes of a solver's known times, a row for each.
    pub fn time_table(&self, graph: &mut Graph, times: &[f64]) -> Value {
        match self {
            Self::PatchDecoder(network) => network.time_table(graph, times),
            Self::FlowMatching(network) => network.time_table(graph, times),
            Self::VelocityMlp(network) => network.time_table(graph, times),
        }
    }

    /// The velocity, B·H·A values, at x [B, H, A]; or, where a step is asked for, the point it leads to.
    ///
    /// # Panics
    /// If the memory is another family's.
    pub fn velocity(
        &self,
        graph: &mut Graph,
        memory: &Memory,
        x: Value,
        time: Time,
        step: Option<Euler>,
    ) -> Value {
        match (self, memory) {
            (Self::PatchDecoder(network), Memory::Layers(layers)) => {
                network.velocity(graph, layers, x, time, step)
            }
            (Self::FlowMatching(network), Memory::Condition(condition)) => {
                network.velocity(graph, *condition, x, time, step)
            }
            (Self::VelocityMlp(network), Memory::State(state)) => {
                network.velocity(graph, *state, x, time, step)
            }
            _ => panic!("a network takes its own memory"),
        }
    }

    /// Encodes observations for a sampler, and what stands for none where guidance asks for it.
    pub fn branches(
        &self,
        graph: &mut Graph,
        config: &Config,
        seen: Seen,
        guidance: Option<&Guidance>,
    ) -> Branches {
        let Some(guidance) = guidance.filter(|guidance| guidance.scale != 1.0) else {
            return Branches { memory: self.encode(graph, seen), guided: None };
        };
        let nothing = Self::nothing(graph, config, &seen, &guidance.unconditional);
        let unseen = self.encode(graph, nothing);
        if guidance.scale == 0.0 {
            return Branches { memory: unseen, guided: None };
        }
        Branches { memory: self.encode(graph, seen), guided: Some((unseen, guidance.scale)) }
    }

    /// The velocity as guidance wants it, B·H·A values.
    pub fn guided_velocity(&self, graph: &mut Graph, branches: &Branches, x: Value, time: Time) -> Value {
        let seen = self.velocity(graph, &branches.memory, x, time, None);
        let Some((memory, scale)) = &branches.guided else { return seen };
        let unseen = self.velocity(graph, memory, x, time, None);
        graph.combine(&[(*scale, seen), (1.0 - scale, unseen)])
    }

    /// Appends a whole sample: from noise [B, H, A] to normalised actions, every point of the path, the first
    /// included. A regression has one step, MIP two.
    ///
    /// # Errors
    /// If there are no steps.
    pub fn sample(
        &self,
        graph: &mut Graph,
        config: &Config,
        seen: Seen,
        noise: Value,
        steps: usize,
        guidance: Option<&Guidance>,
    ) -> Result<Vec<Value>> {
        let times = config.objective.times(&config.flow, steps);
        let table = self.time_table(graph, &times);
        let branches = self.branches(graph, config, seen, guidance);
        let shape = graph.shape(noise).to_vec();
        let mut field = GraphField { graph, network: self, branches, table, row: 0, shape };
        match config.objective {
            Objective::Flow => config.flow.integrate(&mut field, noise, steps),
            Objective::Regression | Objective::Mip => {
                let zeros = vec![0.0; field.shape.iter().product()];
                let mut path = vec![field.graph.constant(&field.shape, zeros)];
                for &t in &times {
                    let answer = field.velocity(&path[path.len() - 1], t)?;
                    path.push(answer);
                }
                Ok(path)
            }
        }
    }

    /// The same where only the end is asked for, as few launches make it whose work is small: nothing where there is no
    /// other way than [`Self::sample`]'s.
    pub fn sample_in_one_launch(
        &self,
        graph: &mut Graph,
        config: &Config,
        seen: &Seen,
        noise: Value,
        steps: usize,
    ) -> Option<Value> {
        let flow = &config.flow;
        if config.objective != Objective::Flow || flow.solver != Solver::Euler || steps == 0 {
            return None;
        }
        match self {
            Self::PatchDecoder(network) => {
                let images = seen.images.first().copied().flatten()?;
                let (times, size) = (flow.evaluation_times(steps), flow.step_size(steps));
                network.sample_in_one_launch(graph, images, noise, &times, size)
            }
            Self::FlowMatching(_) | Self::VelocityMlp(_) => None,
        }
    }
}

/// A network's velocity as a solver sees it: points are values of a graph.
struct GraphField<'a> {
    graph: &'a mut Graph,
    network: &'a Network,
    branches: Branches,
    table: Value,
    /// Evaluations so far: times come in the table's order.
    row: usize,
    shape: Vec<usize>,
}

impl GraphField<'_> {
    fn next_time(&mut self) -> Time {
        self.row += 1;
        Time::Row { table: self.table, row: self.row - 1 }
    }

    fn shaped(&mut self, value: Value) -> Value {
        self.graph.reshape(value, &self.shape);
        value
    }
}

impl Field for GraphField<'_> {
    type Point = Value;

    fn velocity(&mut self, x: &Value, _: f64) -> Result<Value> {
        let time = self.next_time();
        let velocity = self.network.guided_velocity(self.graph, &self.branches, *x, time);
        Ok(self.shaped(velocity))
    }

    fn combine(&mut self, base: &Value, terms: &[(f64, Value)]) -> Result<Value> {
        let terms: Vec<_> = std::iter::once((1.0, *base)).chain(terms.iter().copied()).collect();
        let sum = self.graph.combine(&terms);
        Ok(self.shaped(sum))
    }

    fn advance(&mut self, base: &Value, h: f64, x: &Value, t: f64) -> Result<Value> {
        if self.branches.guided.is_some() {
            let velocity = self.velocity(x, t)?;
            return self.combine(base, &[(h, velocity)]);
        }
        let time = self.next_time();
        let step = Euler { from: *base, size: h };
        let next = self.network.velocity(self.graph, &self.branches.memory, *x, time, Some(step));
        Ok(self.shaped(next))
    }
}
