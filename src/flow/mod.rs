//! Flow matching: paths and conventions, time laws, solvers' grids.
//!
//! A path runs straight between noise and action (Lipman et al., arXiv 2210.02747; Liu et al., arXiv 2209.03003).
//! v is dx/dt for increasing t in either convention:
//!
//! | convention | x_t | v | Euler step |
//! |---|---|---|---|
//! | noise at t = 0 | (1 − t) ε + t a | a − ε | t_i = i/N, x += v/N |
//! | noise at t = 1 (π0, LeRobot) | t ε + (1 − t) a | ε − a | t_i = 1 − i/N, x −= v/N |

mod config;
mod solver;
mod time_law;

pub use config::{FlowConfig, NoiseAt, Tolerances};
pub use solver::{Field, Solver, Tableau};
pub use time_law::TimeLaw;

impl FlowConfig {
    /// The times at which a solver of `steps` fixed steps asks for the velocity, by whole-number arithmetic.
    pub fn grid(&self, steps: usize) -> Vec<f64> {
        let share = |i: usize| i as f64 / steps as f64;
        match self.noise_at {
            NoiseAt::Zero => (0..steps).map(share).collect(),
            NoiseAt::One => (0..steps).map(|i| share(steps - i)).collect(),
        }
    }

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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_are_exact_and_never_reach_the_action() {
        let zero = FlowConfig::default();
        assert_eq!(zero.grid(4), [0.0, 0.25, 0.5, 0.75]);
        let one = FlowConfig { noise_at: NoiseAt::One, ..zero };
        assert_eq!(one.grid(4), [1.0, 0.75, 0.5, 0.25]);
        assert_eq!(one.grid(10).len(), 10);
        assert_eq!(one.step_size(10), -0.1);
    }
}
