//! The update after gradients that were added up over the parts of a batch.

use std::sync::Arc;

use super::Update;
use super::step::{append_update, clipped};
use crate::Result;
use crate::graph::{Bank, Graph, Params, Program};
use crate::kernels::Set;
use crate::kernels::optimizer::Hyper;

/// Clipping, optimiser and average over [`Set::Gradients`], which are zeros afterwards.
pub struct UpdateStep {
    program: Program,
}

impl UpdateStep {
    /// Builds and compiles it.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(bank: &Bank, update: Update) -> Result<Self> {
        Ok(Self { program: Program::new(&update_graph(bank.params(), update), bank)? })
    }

    /// Applies the gradients as step `step`, counted from 1; on a GPU it is submitted, not awaited.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn run(&self, hyper: &Hyper, step: u64) -> Result<()> {
        self.program.write("hyper", &hyper.words(step))?;
        self.program.run()
    }

    /// The gradient's norm before clipping, and the first step whose gradient was not finite, if there was one.
    ///
    /// # Errors
    /// If the GPU was lost.
    pub fn report(&self) -> Result<(f32, Option<u64>)> {
        clipped(&self.program)
    }
}

/// The graph of an [`UpdateStep`].
pub fn update_graph(params: &Arc<Params>, update: Update) -> Graph {
    let mut graph = Graph::new(Arc::clone(params), None);
    append_update(&mut graph, update);
    for (shard, place) in params.learning_shards() {
        let gradients = graph.shard(Set::Gradients, shard);
        graph.zero(gradients, 0..place.len);
    }
    graph
}
