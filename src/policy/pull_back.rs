//! A velocity with its vector-Jacobian product as one program: what guidance towards planned actions asks for.

use std::ops::Range;
use std::sync::Arc;

use super::{Config, Network, SamplerShape, Time};
use crate::Result;
use crate::graph::{Bank, Graph, Program};
use crate::kernels::Dtype;

/// The network's velocity at x, and Jᵀ e for its Jacobian J = ∂v/∂x there, by the hand-written backward pass. Inputs
/// are an evaluator's, `x` [B, H, N] and `t` `[B]`, and `e` [B, H, N]. Parameters have no gradient and need none.
pub struct PullBack {
    program: Program,
    shape: SamplerShape,
    encoding: Range<usize>,
    forward: Range<usize>,
    backward: Range<usize>,
}

impl PullBack {
    /// Builds and compiles it over the bank's weights. Of `shape`, the solver, its steps and guidance do not matter.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(config: &Config, network: &Network, bank: &Bank, shape: SamplerShape) -> Result<Self> {
        let mut graph = Graph::frozen(Arc::clone(bank.params()));
        let chunks = [shape.batch, config.chunk_size, config.network_action_dim()];
        let seen = network.inputs(&mut graph, config, shape.batch, &shape.cameras);
        let x = graph.input("x", Dtype::F32, &chunks);
        graph.want_gradient(x);
        let t = graph.input("t", Dtype::F32, &[shape.batch]);
        let e = graph.input("e", Dtype::F32, &chunks);
        let memory = network.encode(&mut graph, seen);
        memory.keep(&mut graph);
        let encoding = 0..graph.end_part();
        let velocity = network.velocity(&mut graph, &memory, x, Time::Given(t), None);
        graph.output("velocity", velocity);
        let forward = encoding.end..graph.end_part();
        graph.differentiate(velocity, e);
        // A network that did not look at x would have no gradient, and its Jacobian would be zeros.
        let pulled = match graph.gradient(x) {
            Some(pulled) => pulled,
            None => graph.constant(&chunks, vec![0.0; chunks.iter().product()]),
        };
        graph.output("pulled", pulled);
        let backward = forward.end..graph.launches();
        Ok(Self { program: Program::new(&graph, bank)?, shape, encoding, forward, backward })
    }

    /// Encodes the observations that were written to [`Self::program`].
    ///
    /// # Errors
    /// If the device was lost.
    pub fn encode(&self) -> Result<()> {
        self.program.run_part(self.encoding.clone())
    }

    /// The velocity at x [B, H, N] and t `[B]`, for the observations encoded last, in the device's own precision.
    ///
    /// # Errors
    /// If a length does not fit, or the device was lost.
    pub fn velocity(&self, x: &[f32], t: &[f32]) -> Result<Vec<f64>> {
        self.program.write("x", x)?;
        self.program.write("t", t)?;
        self.program.run_part(self.forward.clone())?;
        self.program.read_wide("velocity")
    }

    /// Jᵀ e at the x and t of the last velocity, e and the answer [B, H, N], in the device's own precision. Once for each
    /// velocity: the backward pass takes over the buffers in which the forward pass left what it needs.
    ///
    /// # Errors
    /// If the length does not fit, or the device was lost.
    pub fn pull_back(&self, e: &[f32]) -> Result<Vec<f64>> {
        self.program.write("e", e)?;
        self.program.run_part(self.backward.clone())?;
        self.program.read_wide("pulled")
    }

    /// The compiled program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What it was built for.
    pub fn shape(&self) -> &SamplerShape {
        &self.shape
    }
}
