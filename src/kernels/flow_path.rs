//! The straight path between noise and actions.
//!
//! ```text
//! noise at t = 0:   x_t = (1 − t) noise + t actions      v = actions − noise
//! noise at t = 1:   x_t = (1 − t) actions + t noise      v = noise − actions
//! ```
//! Either way v is dx_t/dt for increasing t (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003). Noise,
//! actions and times are data, so there is no gradient through this kernel.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// The path. Inputs: noise, actions `[batch, horizon, dim]`, t `[batch]` or `[batch, horizon]`. Outputs: x_t, v
/// `[batch, horizon, dim]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowPath {
    /// Samples.
    pub batch: usize,
    /// Actions of a chunk.
    pub horizon: usize,
    /// Numbers of an action.
    pub dim: usize,
    /// Whether each action of a chunk has a time of its own.
    pub t_per_slot: bool,
    /// Where the noise is: t = 0 or t = 1.
    pub noise_at: u32,
}

impl FlowPath {
    fn len(&self) -> usize {
        self.batch * self.horizon * self.dim
    }

    /// Neighbouring elements that share a time.
    fn span(&self) -> usize {
        if self.t_per_slot { self.dim } else { self.horizon * self.dim }
    }
}

impl Describe for FlowPath {
    const NAME: &'static str = "flow_path";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("flow_path"), self.len(), 64)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.len()), word(self.span()), self.noise_at]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [noise, actions, t] = [0, 1, 2].map(|i| io.inputs[i].floats());
        let (start, end) = if self.noise_at == 1 { (actions, noise) } else { (noise, actions) };
        for i in 0..self.len() {
            let t = t[i / self.span()];
            io.outputs[0][i] = (T::ONE - t) * start[i] + t * end[i];
            io.outputs[1][i] = end[i] - start[i];
        }
    }

    fn flops(&self) -> u64 {
        5 * self.len() as u64
    }
}

impl FlowPath {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |batch, horizon, dim, t_per_slot, noise_at| {
            let kernel = FlowPath { batch, horizon, dim, t_per_slot, noise_at };
            let (len, times) = (kernel.len(), kernel.len() / kernel.span());
            let times = (0..times).map(|i| ((i * 619) % 1009) as f32 / 1008.0).collect();
            let name = format!("{batch}x{horizon}x{dim}, noise at {noise_at}");
            let name = name + if t_per_slot { ", a time for each action" } else { "" };
            let case = Case::new(name, kernel).input(len).input(len).floats(times);
            cases.push(case.output(len).output(len));
        };
        for noise_at in [0, 1] {
            for t_per_slot in [false, true] {
                for size in ODD {
                    add(size, 8, 2, t_per_slot, noise_at);
                    add(3, size, 17, t_per_slot, noise_at);
                }
            }
        }
        // More than 65,535 workgroups.
        add(1, 65_537, 64, true, 1);
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::super::Slice;
    use super::*;

    fn run(kernel: &FlowPath, noise: &[f64], actions: &[f64], t: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut x, mut v) = (vec![0.0; kernel.len()], vec![0.0; kernel.len()]);
        let inputs = [Slice::F(noise), Slice::F(actions), Slice::F(t)];
        kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut x[..], &mut v[..]] });
        (x, v)
    }

    #[test]
    fn a_worked_example_comes_out() {
        let kernel = FlowPath { batch: 1, horizon: 1, dim: 2, t_per_slot: false, noise_at: 0 };
        let (x, v) = run(&kernel, &[-0.5, 0.2], &[0.3, 0.6], &[0.25]);
        for (answer, expected) in x.iter().chain(&v).zip([-0.3, 0.3, 0.8, 0.4]) {
            approx::assert_abs_diff_eq!(*answer, expected, epsilon = 1e-15);
        }
    }

    #[test]
    fn the_ends_are_noise_and_actions_and_the_velocity_is_the_slope() {
        let wave = |speed: f64| (0..24).map(|i| (f64::from(i) * speed).sin()).collect::<Vec<_>>();
        let (noise, actions) = (wave(0.7), wave(1.9));
        for noise_at in [0, 1] {
            for t_per_slot in [false, true] {
                let kernel = FlowPath { batch: 2, horizon: 4, dim: 3, t_per_slot, noise_at };
                let at = |t: f64| vec![t; if t_per_slot { 8 } else { 2 }];
                assert_eq!(run(&kernel, &noise, &actions, &at(f64::from(noise_at))).0, noise);
                assert_eq!(run(&kernel, &noise, &actions, &at(1.0 - f64::from(noise_at))).0, actions);
                // A different time for each, moved by h.
                let times: Vec<f64> =
                    at(0.0).iter().enumerate().map(|(i, _)| 0.1 * i as f64 + 0.05).collect();
                let moved = |h: f64| {
                    let times: Vec<f64> = times.iter().map(|t| t + h).collect();
                    run(&kernel, &noise, &actions, &times).0
                };
                let velocity = run(&kernel, &noise, &actions, &times).1;
                for ((after, before), v) in moved(1e-3).iter().zip(moved(-1e-3)).zip(velocity) {
                    approx::assert_abs_diff_eq!((after - before) / 2e-3, v, epsilon = 1e-12);
                }
            }
        }
    }
}
