//! Sizes of the residual velocity network, and how many parameters they make.
//!
//! x_t [B, h·a] and the observation [B, O] each go through a linear layer to width H, are added to the time's features
//! [B, H], pass L residual blocks of two linear layers H → H, and a linear layer back to h·a.

use super::{FlowConfig, Solver};

/// A network's sizes and how it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// O: values of an observation.
    pub obs_size: usize,
    /// a: values of an action.
    pub action_dim: usize,
    /// h: actions of a chunk.
    pub horizon: usize,
    /// H: the network's width.
    pub hidden_size: usize,
    /// L: residual blocks.
    pub num_layers: usize,
    /// Solver steps.
    pub num_steps: usize,
    /// The solver.
    pub solver: Solver,
}

impl Sizes {
    /// 8 actions a chunk, width 256, 4 blocks, 20 Euler steps: 862,976 parameters at 287 values an observation.
    pub const fn recommended(obs_size: usize) -> Self {
        Self {
            obs_size,
            action_dim: 64,
            horizon: 8,
            hidden_size: 256,
            num_layers: 4,
            num_steps: 20,
            solver: Solver::Euler,
        }
    }

    /// Half of everything: 168,832 parameters at 287 values an observation, 10 evaluations.
    pub const fn fast(obs_size: usize) -> Self {
        Self { horizon: 4, hidden_size: 128, num_layers: 2, num_steps: 10, ..Self::recommended(obs_size) }
    }

    /// The recommended network with 50 steps of rk4: 200 evaluations.
    pub const fn quality(obs_size: usize) -> Self {
        Self { num_steps: 50, solver: Solver::Rk4, ..Self::recommended(obs_size) }
    }

    /// [`output_size`] of these sizes.
    pub const fn output_size(&self) -> usize {
        output_size(self.horizon, self.action_dim)
    }

    /// [`param_count`] of these sizes.
    pub const fn param_count(&self) -> usize {
        param_count(self.obs_size, self.action_dim, self.horizon, self.hidden_size, self.num_layers)
    }

    /// Noise at 0 and uniform times, with these steps of this solver.
    pub fn flow(&self) -> FlowConfig {
        FlowConfig { num_steps: self.num_steps, solver: self.solver, ..FlowConfig::default() }
    }
}

/// Values of a chunk: h · a.
pub const fn output_size(horizon: usize, action_dim: usize) -> usize {
    horizon * action_dim
}

/// All parameters: [`weight_count`] + [`bias_count`].
pub const fn param_count(
    obs_size: usize,
    action_dim: usize,
    horizon: usize,
    hidden_size: usize,
    num_layers: usize,
) -> usize {
    weight_count(obs_size, action_dim, horizon, hidden_size, num_layers)
        + bias_count(action_dim, horizon, hidden_size, num_layers)
}

/// Entries of the matrices alone, O·H + h·a·H + 2·L·H² + H·h·a: what Edifice publishes as its parameter count.
pub const fn weight_count(
    obs_size: usize,
    action_dim: usize,
    horizon: usize,
    hidden_size: usize,
    num_layers: usize,
) -> usize {
    let chunk = output_size(horizon, action_dim);
    obs_size * hidden_size + 2 * chunk * hidden_size + 2 * num_layers * hidden_size * hidden_size
}

/// What that leaves out: H + H + 2·L·H + h·a.
pub const fn bias_count(action_dim: usize, horizon: usize, hidden_size: usize, num_layers: usize) -> usize {
    2 * hidden_size + 2 * num_layers * hidden_size + output_size(horizon, action_dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers one by one: (inputs, outputs).
    fn layers(sizes: &Sizes) -> Vec<(usize, usize)> {
        let (chunk, width) = (sizes.horizon * sizes.action_dim, sizes.hidden_size);
        let mut layers = vec![(chunk, width), (sizes.obs_size, width), (width, chunk)];
        layers.extend(vec![(width, width); 2 * sizes.num_layers]);
        layers
    }

    #[test]
    fn counts_are_those_of_the_layers() {
        for sizes in [Sizes::recommended(287), Sizes::fast(287), Sizes::quality(12)] {
            let all: usize = layers(&sizes).iter().map(|(i, o)| i * o + o).sum();
            assert_eq!(sizes.param_count(), all);
        }
        assert_eq!(Sizes::recommended(287).param_count(), 862_976);
        assert_eq!(Sizes::fast(287).param_count(), 168_832);
        assert_eq!(weight_count(287, 64, 8, 256, 4), 859_904);
        assert_eq!(weight_count(287, 64, 4, 128, 2), 167_808);
    }

    #[test]
    fn counts_grow_with_layers() {
        let sizes = Sizes::recommended(287);
        let deeper = Sizes { num_layers: 6, ..sizes };
        assert_eq!(deeper.param_count() - sizes.param_count(), 4 * 256 * 257);
        assert!((500_000..10_000_000).contains(&sizes.param_count()));
    }

    #[test]
    fn presets_have_their_values() {
        assert_eq!(output_size(4, 32), 128);
        assert_eq!(Sizes::recommended(1).output_size(), 512);
        let evaluations = |sizes: Sizes| sizes.flow().evaluations(sizes.num_steps);
        assert_eq!(evaluations(Sizes::recommended(1)), 20);
        assert_eq!(evaluations(Sizes::fast(1)), 10);
        assert_eq!(evaluations(Sizes::quality(1)), 200);
    }
}
