//! A policy's network, whichever family it is of.

use super::patch_decoder::{Memory, PatchDecoder};
use super::{Config, Objective};
use crate::graph::{Graph, Params, Value};
use crate::kernels::Dtype;

/// The network of a configuration.
#[derive(Debug, Clone)]
pub enum Network {
    /// Seed 000's.
    PatchDecoder(Box<PatchDecoder>),
}

impl Network {
    /// The network and its parameters.
    pub fn new(config: &Config) -> (Self, Params) {
        let mut params = Params::default();
        let network = Self::PatchDecoder(Box::new(PatchDecoder::new(config, &mut params)));
        (network, params)
    }

    /// The image input [B, 3·T, H, W].
    pub fn image_input(&self, graph: &mut Graph, name: &str, batch: usize, dtype: Dtype) -> Value {
        let Self::PatchDecoder(network) = self;
        network.image_input(graph, name, batch, dtype)
    }

    /// Encodes observations; done once per chunk.
    pub fn encode(&self, graph: &mut Graph, images: Value) -> Memory {
        let Self::PatchDecoder(network) = self;
        network.encode(graph, images)
    }

    /// The velocity [B·H, A] at x [B, H, A] and times `[B]` or [B, H].
    pub fn velocity(&self, graph: &mut Graph, memory: &Memory, x: Value, t: Value) -> Value {
        let Self::PatchDecoder(network) = self;
        network.velocity(graph, memory, x, t)
    }

    /// Appends a whole sample: from noise [B, H, A] to normalised actions, every point of the path, the first
    /// included. A regression has one step.
    pub fn sample(
        &self,
        graph: &mut Graph,
        config: &Config,
        memory: &Memory,
        noise: Value,
        steps: usize,
    ) -> Vec<Value> {
        let Self::PatchDecoder(network) = self;
        match config.objective {
            Objective::Flow => {
                let (times, step_size) = (config.flow.grid(steps), config.flow.step_size(steps));
                network.integrate(graph, memory, noise, &times, step_size)
            }
            Objective::Regression => {
                let shape = graph.shape(noise).to_vec();
                let zeros = graph.constant(&shape, vec![0.0; shape.iter().product()]);
                network.integrate(graph, memory, zeros, &[config.flow.noise_time()], 1.0)
            }
        }
    }
}
