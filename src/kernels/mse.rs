//! The weighted squared error of a prediction, and its gradient.
//!
//! ```text
//! loss = Σ_r w[r] Σ_{c < dims} (prediction[r, c] − targets[r, c])²
//! d_prediction[r, c] = 2 w[r] (prediction[r, c] − targets[r, c]) d_loss        where c < dims, else 0
//! ```
//! The weights hold what the loss divides by: 1 / (rows · dims) everywhere is the mean, 0 leaves a padded step out.
//! Columns from `dims` on are padding. Targets are data and have no gradient.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// The loss. Inputs: prediction, targets `[rows, columns]`, weights `[rows]`. Outputs: loss `[1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedMse {
    /// Actions: samples times steps.
    pub rows: usize,
    /// Numbers of an action, padding included.
    pub columns: usize,
    /// Numbers of an action that count.
    pub dims: usize,
}

impl Describe for WeightedMse {
    const NAME: &'static str = "weighted_mse";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::groups(shader!("weighted_mse"), 1)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.columns), word(self.dims)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [prediction, targets, weights] = [0, 1, 2].map(|i| io.inputs[i].floats());
        let row = |r: usize| {
            let errors = (0..self.dims).map(|c| r * self.columns + c).map(|at| prediction[at] - targets[at]);
            weights[r] * errors.map(|error| error * error).sum()
        };
        io.outputs[0][0] = (0..self.rows).map(row).sum();
    }

    fn flops(&self) -> u64 {
        4 * (self.rows * self.dims) as u64
    }
}

/// Weights as a loss over valid steps has them: some zero, the others alike.
fn weights(rows: usize, dims: usize) -> Vec<f32> {
    let weight = |r: usize| if r % 5 == 3 { 0.0 } else { 1.0 / (rows * dims) as f32 };
    (0..rows).map(weight).collect()
}

/// Rows, columns and dims that both kernels are tried on.
fn shapes() -> Vec<(usize, usize, usize)> {
    let mut shapes: Vec<_> = ODD.into_iter().map(|rows| (rows, 17, 17)).collect();
    shapes.extend(ODD.map(|columns| (65, columns, columns.div_ceil(3))));
    shapes.extend([(1, 1, 1), (64 * 50, 32, 14)]);
    shapes
}

impl WeightedMse {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |(rows, columns, dims)| {
            let case =
                Case::new(format!("{rows}x{columns}, {dims} count"), WeightedMse { rows, columns, dims });
            case.input(rows * columns).input(rows * columns).floats(weights(rows, dims)).output(1)
        };
        shapes().into_iter().map(case).collect()
    }
}

/// The gradient. Inputs: prediction, targets `[rows, columns]`, weights `[rows]`, d_loss `[1]`. Outputs:
/// d_prediction `[rows, columns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedMseBackward {
    /// Actions: samples times steps.
    pub rows: usize,
    /// Numbers of an action, padding included.
    pub columns: usize,
    /// Numbers of an action that count.
    pub dims: usize,
}

impl Describe for WeightedMseBackward {
    const NAME: &'static str = "weighted_mse_backward";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("weighted_mse_backward"), self.rows * self.columns, 64)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.columns), word(self.dims)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [prediction, targets, weights, d_loss] = [0, 1, 2, 3].map(|i| io.inputs[i].floats());
        for (i, slope) in io.outputs[0].iter_mut().enumerate() {
            let (r, c) = (i / self.columns, i % self.columns);
            let error = prediction[i] - targets[i];
            *slope = if c < self.dims { T::of(2.0) * weights[r] * error * d_loss[0] } else { T::ZERO };
        }
    }

    fn flops(&self) -> u64 {
        4 * (self.rows * self.columns) as u64
    }
}

impl WeightedMseBackward {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |(rows, columns, dims)| {
            let kernel = WeightedMseBackward { rows, columns, dims };
            let case = Case::new(format!("{rows}x{columns}, {dims} count"), kernel);
            let case = case.input(rows * columns).input(rows * columns).floats(weights(rows, dims));
            case.floats(vec![-1.7]).output(rows * columns)
        };
        // The last has more than 65,535 workgroups.
        shapes().into_iter().chain([(65_537, 64, 63)]).map(case).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slice;
    use super::*;

    #[test]
    fn the_gradient_is_the_finite_difference_of_the_loss() {
        let wave = |len: usize, speed: f64| (0..len).map(|i| (i as f64 * speed).sin()).collect::<Vec<_>>();
        for (rows, columns, dims) in [(1, 1, 1), (3, 17, 17), (17, 7, 3)] {
            let (prediction, targets) = (wave(rows * columns, 0.7), wave(rows * columns, 1.3));
            let (weights, upstream) = (wave(rows, 2.1), -0.6);
            let loss = |prediction: &[f64]| {
                let mut loss = [9.0];
                let inputs = [Slice::F(prediction), Slice::F(&targets), Slice::F(&weights)];
                WeightedMse { rows, columns, dims }
                    .twin(&mut Io { inputs: &inputs, outputs: &mut [&mut loss[..]] });
                upstream * loss[0]
            };
            let mut slopes = vec![9.0; rows * columns];
            let upstreams = [upstream];
            let inputs =
                [Slice::F(&prediction), Slice::F(&targets), Slice::F(&weights), Slice::F(&upstreams)];
            WeightedMseBackward { rows, columns, dims }
                .twin(&mut Io { inputs: &inputs, outputs: &mut [&mut slopes[..]] });
            for i in 0..prediction.len() {
                let moved = |h: f64| {
                    let mut prediction = prediction.clone();
                    prediction[i] += h;
                    loss(&prediction)
                };
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                approx::assert_abs_diff_eq!(slopes[i], difference, epsilon = 1e-9);
            }
        }
    }
}
