//! Flow matching: the path, its losses, time laws, solvers, guidance, straightening.
//!
//! A path runs straight between noise and action (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003).
//! v is dx/dt for increasing t in either convention:
//!
//! | convention | x_t | v | Euler step |
//! |---|---|---|---|
//! | noise at t = 0 | (1 − t) ε + t a | a − ε | t_i = i/N, x += v/N |
//! | noise at t = 1 (π0, LeRobot) | t ε + (1 − t) a | ε − a | t_i = 1 − i/N, x −= v/N |
//!
//! Everything here is plain arithmetic on the host, in f64. The solvers are written over a [`Field`], so that a graph
//! is integrated by the same code.
//!
//! A quarter of the way from noise to an action of two values:
//!
//! ```
//! use flowgpu::flow::{interpolate, target_velocity};
//!
//! let (noise, action) = ([-0.5, 0.2], [0.3, 0.6]);
//! let x = interpolate(&noise, &action, &[0.25])?;
//! let v = target_velocity(&noise, &action)?;
//! for i in 0..2 {
//!     assert!((x[i] - [-0.3, 0.3][i]).abs() < 1e-12);
//!     assert!((v[i] - [0.8, 0.4][i]).abs() < 1e-12);
//! }
//! # Ok::<(), flowgpu::Error>(())
//! ```
//!
//! Why a flow: the action is −1 or +1, each half the time. The least squared error is at 0, which nobody does. The
//! field that training aims at, v(x, t) = (E[a | x_t = x] − x) / (1 − t) with E[a | x_t = x] = tanh(x t / (1 − t)²),
//! keeps both:
//!
//! ```
//! use flowgpu::flow::{FlowConfig, sample};
//! use flowgpu::rng::{Rng, Stream};
//!
//! let mut rng = Rng::new(7, Stream::SampleNoise, 0, 0);
//! let noise: Vec<f64> = (0..1000).map(|_| rng.normal()).collect();
//! let mut field = |x: &[f64], t: &[f64]| {
//!     let expected = |x: f64, t: f64| (x * t / (1.0 - t).powi(2)).tanh();
//!     Ok(x.iter().zip(t).map(|(&x, &t)| (expected(x, t) - x) / (1.0 - t)).collect())
//! };
//! let actions = sample(&mut field, &noise, 1000, &FlowConfig::default())?.actions;
//! assert!(actions.iter().all(|a| (a.abs() - 1.0).abs() < 0.05));
//! let right = actions.iter().filter(|a| **a > 0.0).count();
//! assert!((450..550).contains(&right));
//! // Regression answers with the mean: as far as can be from both.
//! let mean = actions.iter().sum::<f64>() / 1000.0;
//! assert!((mean.abs() - 1.0).abs() > 0.9);
//! # Ok::<(), flowgpu::Error>(())
//! ```

mod adaptive;
mod config;
mod guidance;
mod path;
mod realtime;
mod reflow;
mod sample;
mod sizes;
mod solver;
mod time_law;

pub use adaptive::{Adaptive, dopri5};
pub use config::{FlowConfig, MAX_STEPS, NoiseAt, Tolerances};
pub use guidance::{guide, sample_guided};
pub use path::{Velocity, interpolate, loss, target_velocity, velocity_loss};
pub use realtime::{Goal, guidance_weight, soft_mask};
pub use reflow::{Pairs, distillation_loss, rectified_loss, rectified_pairs, straightness};
pub use sample::{Sample, sample};
pub use sizes::{Sizes, bias_count, output_size, param_count, weight_count};
pub use solver::{Field, Solver, Tableau};
pub use time_law::TimeLaw;

impl FlowConfig {
    /// What one of `steps` Euler steps multiplies the velocity with: +1/N or −1/N.
    pub fn step_size(&self, steps: usize) -> f64 {
        match self.noise_at {
            NoiseAt::Zero => 1.0 / steps as f64,
            NoiseAt::One => -1.0 / steps as f64,
        }
    }

    /// The time at which x is pure noise.
    pub fn noise_time(&self) -> f64 {
        match self.noise_at {
            NoiseAt::Zero => 0.0,
            NoiseAt::One => 1.0,
        }
    }

    /// The time at which x is the action.
    pub fn action_time(&self) -> f64 {
        1.0 - self.noise_time()
    }
}

/// Normal numbers that differ with `seed`, for tests.
#[cfg(test)]
fn random(seed: u64, n: usize) -> Vec<f64> {
    let mut rng = crate::rng::Rng::new(seed, crate::rng::Stream::SampleNoise, 0, 0);
    (0..n).map(|_| rng.normal()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_exact_and_never_reach_the_action() {
        let zero = FlowConfig::default();
        assert_eq!(zero.evaluation_times(4), [0.0, 0.25, 0.5, 0.75]);
        let one = FlowConfig { noise_at: NoiseAt::One, ..zero };
        assert_eq!(one.evaluation_times(4), [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(one.evaluation_times(10).len(), 10);
        assert_eq!(one.step_size(10), -0.1);
    }
}
