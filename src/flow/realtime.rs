//! Real-time chunking (Black, Galliker, Levine, arXiv 2506.07339): a chunk that is drawn towards what is left of the
//! one before it, while it is made.
//!
//! ΠGDM's inpainting (Song et al., ICLR 2023) on a flow. With τ the way from noise to action (t, or 1 − t where the
//! noise is at t = 1), u the velocity along τ, Y the planned actions and W a mask:
//!
//! ```text
//! a  = x + (1 − τ) u(x, τ)                      the action that x is on its way to
//! e  = W (Y − a)
//! g  = (∂a/∂x)ᵀ e = e + (1 − τ) (∂u/∂x)ᵀ e
//! u' = u + min(max_weight, (1 − τ) / (τ r²)) g        r² = (1 − τ)² / (τ² + (1 − τ)²)
//! ```
//! The Jacobian is the exact one: whoever calls multiplies by its transpose. In the paper's letters the first d actions
//! will have been executed when the new chunk arrives, H − s are planned, and H are in a chunk.

use super::NoiseAt;
use super::path::{row_length, same_length};
use crate::Result;

/// W of `slots` actions, of which the first `known` are planned and the first `delay` cannot be changed any more: 1 for
/// these, then c (e^c − 1) / (e − 1) with c falling linearly to 0 behind the last planned one (equation 5).
pub fn soft_mask(slots: usize, known: usize, delay: usize) -> Vec<f64> {
    let delay = delay.min(known);
    let weight = |slot: usize| {
        if slot < delay {
            return 1.0;
        }
        let c = known.saturating_sub(slot) as f64 / (known - delay + 1) as f64;
        c * c.exp_m1() / 1_f64.exp_m1()
    };
    (0..slots).map(weight).collect()
}

/// What the correction counts at τ, the way from noise (0) to action (1): at most `most`, which it is at both ends.
pub fn guidance_weight(tau: f64, most: f64) -> f64 {
    let rest = 1.0 - tau;
    // (1 − τ) / (τ r²), which is infinite at both ends.
    ((tau * tau + rest * rest) / (tau * rest)).min(most)
}

/// What chunks [B, n] are drawn towards.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// Y, [B, n]; where the mask is 0 it does not matter.
    pub actions: Vec<f64>,
    /// W, [B, n].
    pub mask: Vec<f64>,
    /// The largest weight of the correction; the paper's is 5.
    pub max_weight: f64,
}

impl Goal {
    /// The velocity v(x, t) [B, n] turned towards the goal, at x [B, n] and t `[B]`. `pull_back` multiplies the
    /// transposed Jacobian ∂v/∂x at (x, t) with what it is given, [B, n].
    ///
    /// # Errors
    /// If lengths do not fit; those of `pull_back`.
    pub fn steer(
        &self,
        v: &[f64],
        x: &[f64],
        t: &[f64],
        noise_at: NoiseAt,
        pull_back: impl FnOnce(&[f64]) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let (len, n) = (self.actions.len(), row_length(x, t.len())?);
        same_length(x, &self.actions)?;
        same_length(x, &self.mask)?;
        same_length(x, v)?;
        // Signed: v points away from the action where the noise is at t = 1.
        let rest = |i: usize| {
            let t = t[i / n];
            match noise_at {
                NoiseAt::Zero => 1.0 - t,
                NoiseAt::One => -t,
            }
        };
        let error = |i: usize| self.mask[i] * (self.actions[i] - (x[i] + rest(i) * v[i]));
        let error: Vec<f64> = (0..len).map(error).collect();
        let pulled = pull_back(&error)?;
        same_length(x, &pulled)?;
        let steered = |i: usize| {
            let (rest, weight) = (rest(i), guidance_weight(1.0 - rest(i).abs(), self.max_weight));
            v[i] + weight.copysign(rest) * (error[i] + rest * pulled[i])
        };
        Ok((0..len).map(steered).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{FlowConfig, random, sample};

    #[test]
    fn the_mask_is_one_then_falls_and_ends_with_the_plan() {
        // By the paper's reference implementation: start 2, end 6, total 10, schedule "exp".
        let linear = [1.0, 1.0, 4.0 / 5.0, 3.0 / 5.0, 2.0 / 5.0, 1.0 / 5.0, 0.0, 0.0, 0.0, 0.0_f64];
        for (weight, c) in soft_mask(10, 6, 2).into_iter().zip(linear) {
            approx::assert_relative_eq!(
                weight,
                c * (c.exp() - 1.0) / (1_f64.exp() - 1.0),
                max_relative = 1e-12
            );
        }
        assert_eq!(soft_mask(4, 0, 0), [0.0; 4]);
        assert_eq!(soft_mask(4, 2, 3), [1.0, 1.0, 0.0, 0.0], "what is not planned holds nothing");
        assert_eq!(soft_mask(3, 3, 3), [1.0; 3]);
    }

    #[test]
    fn the_weight_is_bounded_at_both_ends() {
        assert_eq!(guidance_weight(0.0, 5.0), 5.0);
        assert_eq!(guidance_weight(1.0, 5.0), 5.0);
        let (t, r2) = (0.4_f64, 0.36 / (0.16 + 0.36));
        approx::assert_relative_eq!(guidance_weight(t, 5.0), 0.6 / (0.4 * r2), max_relative = 1e-12);
        assert_eq!(guidance_weight(0.4, 0.0), 0.0);
    }

    /// v = c x + t in either convention; its Jacobian is c.
    fn chunk(noise_at: NoiseAt, goal: &Goal) -> Vec<f64> {
        let flow = FlowConfig { noise_at, num_steps: 50, ..FlowConfig::default() };
        let sign = if noise_at == NoiseAt::Zero { 1.0 } else { -1.0 };
        let slope = -0.7;
        let mut steered = |x: &[f64], t: &[f64]| {
            let tau = |t: f64| if noise_at == NoiseAt::Zero { t } else { 1.0 - t };
            let v: Vec<f64> = (0..x.len()).map(|i| sign * (slope * x[i] + tau(t[i / 4]))).collect();
            let pull_back = |e: &[f64]| Ok(e.iter().map(|e| sign * slope * e).collect());
            goal.steer(&v, x, t, noise_at, pull_back)
        };
        sample(&mut steered, &random(3, 8), 2, &flow).expect("fits").actions
    }

    #[test]
    fn a_steered_chunk_comes_near_its_goal_and_both_conventions_agree() {
        let goal = |mask: Vec<f64>, max_weight| Goal { actions: random(4, 8), mask, max_weight };
        let mask: Vec<f64> = (0..2).flat_map(|_| soft_mask(4, 2, 2)).collect();
        let (held, free) = (goal(mask.clone(), 5.0), goal(vec![0.0; 8], 5.0));
        let [near, plain] = [&held, &free].map(|goal| chunk(NoiseAt::Zero, goal));
        for i in 0..8 {
            let far = |chunk: &[f64]| (chunk[i] - held.actions[i]).abs();
            match i % 4 < 2 {
                true => assert!(far(&near) < 0.25 * far(&plain), "{i}: {} of {}", far(&near), far(&plain)),
                // What is diagonal does not mix, so what is free stays as it was.
                false => assert_eq!(near[i], plain[i]),
            }
        }
        for goal in [&held, &free, &goal(mask, 0.0)] {
            let [zero, one] = [NoiseAt::Zero, NoiseAt::One].map(|noise_at| chunk(noise_at, goal));
            assert!(zero.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-12), "{zero:?} {one:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let goal = Goal { actions: vec![0.0; 4], mask: vec![1.0; 4], max_weight: 5.0 };
        let told = goal.steer(&[0.0; 4], &[0.0; 3], &[0.5], NoiseAt::Zero, |_| Ok(vec![0.0; 4]));
        assert!(told.expect_err("three values").to_string().contains("lengths 3 and 4"));
        let told = goal.steer(&[0.0; 4], &[0.0; 4], &[0.5], NoiseAt::Zero, |_| Ok(vec![0.0; 2]));
        assert!(told.expect_err("two values").to_string().contains("lengths 4 and 2"));
    }
}
