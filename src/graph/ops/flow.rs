//! What turns observations, noise and time into a network's inputs, and its answer into a loss.

use crate::graph::backward::Backward;
use crate::graph::{Graph, Value};
use crate::kernels::Dtype;
use crate::kernels::flow_path::FlowPath;
use crate::kernels::mse::{WeightedMse, WeightedMseBackward};
use crate::kernels::patchify::Patchify;
use crate::kernels::time_embedding::TimeFeatures;

/// What pictures have as mean and deviation, channel by channel: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChannelScale {
    /// µ.
    pub mean: [f64; 3],
    /// σ.
    pub std: [f64; 3],
}

impl ChannelScale {
    /// What becomes of a channel's value.
    pub fn of(&self, value: f64, channel: usize) -> f32 {
        ((value - self.mean[channel]) / self.std[channel]) as f32
    }

    /// Scales 1/σ and shifts −µ/σ.
    fn affine(&self) -> Vec<f32> {
        let scales = self.std.iter().map(|std| 1.0 / std);
        let shifts = self.mean.iter().zip(&self.std).map(|(mean, std)| -mean / std);
        scales.chain(shifts).map(|value| value as f32).collect()
    }
}

impl Graph {
    /// Images [B, C, H, W], bytes or floats in [0, 1], as rows of patches [B·N, C·P·P].
    pub fn patchify(&mut self, images: Value, patch: usize) -> Value {
        self.patchify_all(&[images], patch, None)
    }

    /// The same of several cameras one after the other, [cameras · B·N, C·P·P], of which some may be bytes and others
    /// floats; every channel less its mean, over its deviation, if asked for.
    pub fn patchify_all(&mut self, cameras: &[Value], patch: usize, scale: Option<ChannelScale>) -> Value {
        let &[batch, channels, height, width] = self.shape(cameras[0]) else {
            panic!("images are [B, C, H, W]")
        };
        let affine = scale.map(|scale| self.constant(&[2, 3], scale.affine()));
        let kernel = Patchify {
            batch,
            channels,
            height,
            width,
            patch,
            bytes: false,
            normalize: affine.is_some(),
            first: 0,
        };
        let one = batch * kernel.patches();
        let rows = self.temporary(&[cameras.len() * one, kernel.columns()]);
        for (i, &images) in cameras.iter().enumerate() {
            assert_eq!(self.shape(images), [batch, channels, height, width], "cameras are alike here");
            let bytes = self.values[images.0].dtype == Dtype::U8;
            let kernel = Patchify { bytes, first: i * one, ..kernel.clone() };
            self.launch(kernel, &[Some(images), affine], &[rows]);
        }
        rows
    }

    /// Features [.., dim] of times [..].
    pub fn time_embedding(&mut self, t: Value, dim: usize, features: TimeFeatures) -> Value {
        let rows = self.len(t);
        let table = features.table(dim);
        let table = self.constant(&[table.len()], table);
        let y = self.temporary(&[rows, dim]);
        self.launch(features.kernel(rows, dim), &[Some(t), Some(table)], &[y]);
        y
    }

    /// The point x_t on the path between noise and actions [B, H, A] at times `[B]` or [B, H], and its velocity.
    pub fn flow_path(&mut self, noise: Value, actions: Value, t: Value, noise_at: u32) -> (Value, Value) {
        let shape = self.shape(actions).to_vec();
        let (x, v) = (self.temporary(&shape), self.temporary(&shape));
        let &[batch, horizon, dim] = shape.as_slice() else { panic!("actions are [B, H, A]") };
        let t_per_slot = self.len(t) != batch;
        let kernel = FlowPath { batch, horizon, dim, t_per_slot, noise_at };
        self.launch(kernel, &[Some(noise), Some(actions), Some(t)], &[x, v]);
        (x, v)
    }

    /// Σ_r w_r Σ_{a < dims} (prediction − target)², one number.
    pub fn weighted_mse(&mut self, prediction: Value, target: Value, weights: Value, dims: usize) -> Value {
        let rows = self.len(weights);
        let columns = self.len(prediction) / rows;
        let loss = self.temporary(&[1]);
        let kernel = WeightedMse { rows, columns, dims };
        self.launch(kernel, &[Some(prediction), Some(target), Some(weights)], &[loss]);
        self.record(MseBackward { prediction, target, weights, dims, loss });
        loss
    }
}

struct MseBackward {
    prediction: Value,
    target: Value,
    weights: Value,
    dims: usize,
    loss: Value,
}

impl Backward for MseBackward {
    fn output(&self) -> Value {
        self.loss
    }

    fn backward(&self, graph: &mut Graph, upstream: Value) {
        let rows = graph.len(self.weights);
        let columns = graph.len(self.prediction) / rows;
        let d_prediction = graph.temporary(&[rows, columns]);
        let kernel = WeightedMseBackward { rows, columns, dims: self.dims };
        let inputs = [Some(self.prediction), Some(self.target), Some(self.weights), Some(upstream)];
        graph.launch(kernel, &inputs, &[d_prediction]);
        graph.add_gradient(self.prediction, d_prediction);
    }
}
