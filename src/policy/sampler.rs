//! A whole sample as one program: observations encoded once, then every solver step.

use std::sync::Arc;

use super::{Config, Network};
use crate::Result;
use crate::graph::{Bank, Graph, Program};
use crate::kernels::Dtype;

/// Shapes of a sampler's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SamplerShape {
    /// B.
    pub batch: usize,
    /// Solver steps.
    pub steps: usize,
    /// What images come as.
    pub images: Dtype,
    /// Whether the points of the path are kept to be read.
    pub path: bool,
}

/// A compiled sampler. Its inputs are `images` [B, 3·T, H, W] and `noise` [B, H, A].
pub struct Sampler {
    program: Program,
    shape: SamplerShape,
    launches: usize,
}

impl Sampler {
    /// Builds and compiles a sampler over the bank's weights.
    ///
    /// # Errors
    /// If the device lacks memory or refuses a shader.
    pub fn new(config: &Config, network: &Network, bank: &Bank, shape: SamplerShape) -> Result<Self> {
        let mut graph = Graph::new(Arc::clone(bank.params()), None);
        let (_, dims) = config.action();
        let images = network.image_input(&mut graph, "images", shape.batch, shape.images);
        let noise = graph.input("noise", Dtype::F32, &[shape.batch, config.chunk_size, dims]);
        let memory = network.encode(&mut graph, images);
        let path = network.sample(&mut graph, config, &memory, noise, shape.steps);
        if shape.path {
            for (i, point) in path.iter().enumerate() {
                graph.output(&format!("path.{i}"), *point);
            }
        }
        let last = *path.last().unwrap_or(&noise);
        graph.output("sample", last);
        Ok(Self { program: Program::new(&graph, bank)?, shape, launches: graph.launches() })
    }

    /// The compiled program: write `images` and `noise`, run, read `sample`.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The shapes it was built for.
    pub fn shape(&self) -> SamplerShape {
        self.shape
    }

    /// Kernel launches of one sample.
    pub fn launches(&self) -> usize {
        self.launches
    }
}
