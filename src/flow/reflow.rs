//! Rectified flow: straighter paths by training again on a policy's own samples (Liu et al., arXiv 2209.03003).
//!
//! 1. Train a policy.
//! 2. [`rectified_pairs`]: what each noise became.
//! 3. Train on these pairs instead of random ones ([`rectified_loss`]): [`straightness`] falls, and fewer steps do.
//! 4. [`distillation_loss`]: one step does.
//!
//! A field holds its observations: pairs remember noise and actions alone, so ask both policies at the same ones.

use super::path::{Velocity, ask, interpolate, loss, row_length, target_velocity, velocity_loss};
use super::{FlowConfig, NoiseAt, sample};
use crate::{Error, Result};

/// Noise, and the actions a policy made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    /// [B, n], as it was given.
    pub noise: Vec<f64>,
    /// [B, n].
    pub actions: Vec<f64>,
}

/// Samples a policy from `noise` [B, n] and keeps both ends.
///
/// # Errors
/// Those of [`sample`].
pub fn rectified_pairs(
    velocity: &mut Velocity<'_>,
    noise: &[f64],
    batch: usize,
    flow: &FlowConfig,
) -> Result<Pairs> {
    let actions = sample(velocity, noise, batch, flow)?.actions;
    Ok(Pairs { noise: noise.to_vec(), actions })
}

/// The loss of flow matching over pairs: E |v(x_t, t) − (x1 − x0)|², t `[B]`. Of velocities at hand it is
/// [`velocity_loss`].
///
/// # Errors
/// Those of [`loss`].
pub fn rectified_loss(
    velocity: &mut Velocity<'_>,
    pairs: &Pairs,
    t: &[f64],
    noise_at: NoiseAt,
) -> Result<f64> {
    loss(velocity, &pairs.actions, &pairs.noise, t, noise_at)
}

/// How far a field is from the straight paths between x0 (at t = 0) and x1 (at t = 1), both [B, n]: the mean of
/// |v(x_t, t) − (x1 − x0)|² over t = i/(P + 1), i = 1…P. 0 is straight: one Euler step is exact.
///
/// # Errors
/// If lengths do not fit or there are no points; the field's own.
pub fn straightness(
    velocity: &mut Velocity<'_>,
    x0: &[f64],
    x1: &[f64],
    batch: usize,
    points: usize,
) -> Result<f64> {
    if points == 0 {
        return Err(Error::input("0 points on the path: use at least 1"));
    }
    row_length(x0, batch)?;
    let target = target_velocity(x0, x1)?;
    let mut sum = 0.0;
    for i in 1..=points {
        let t = vec![i as f64 / (points + 1) as f64; batch];
        let x = interpolate(x0, x1, &t)?;
        sum += velocity_loss(&target, &ask(velocity, &x, &t)?)?;
    }
    Ok(sum / points as f64)
}

/// What a student's single step from the noise misses of the teacher's samples: the mean square of
/// x0 + v(x0, 0) − x1, or x1 − v(x1, 1) − x0 where noise is at 1.
///
/// # Errors
/// If lengths do not fit; the field's own.
pub fn distillation_loss(
    student: &mut Velocity<'_>,
    teacher: &Pairs,
    batch: usize,
    noise_at: NoiseAt,
) -> Result<f64> {
    row_length(&teacher.noise, batch)?;
    let [x0, x1] = noise_at.ends(&teacher.noise, &teacher.actions);
    let target = target_velocity(x0, x1)?;
    let t = if noise_at == NoiseAt::Zero { 0.0 } else { 1.0 };
    velocity_loss(&target, &ask(student, &teacher.noise, &vec![t; batch])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Solver, random};

    const ENDS: [NoiseAt; 2] = [NoiseAt::Zero, NoiseAt::One];

    #[test]
    fn pairs_keep_the_noise_and_hold_the_policy_s_samples() {
        let noise = random(1, 8);
        for noise_at in ENDS {
            for solver in Solver::ALL {
                let flow = FlowConfig { solver, noise_at, num_steps: 6, ..FlowConfig::default() };
                let mut field = |x: &[f64], t: &[f64]| Ok(x.iter().map(|x| t[0] - x).collect());
                let pairs = rectified_pairs(&mut field, &noise, 2, &flow).expect("smooth");
                assert_eq!(pairs.noise, noise);
                assert_eq!(Ok(pairs.actions), sample(&mut field, &noise, 2, &flow).map(|s| s.actions));
            }
        }
    }

    #[test]
    fn a_straight_field_has_no_loss_and_one_euler_step_is_exact() {
        let pairs = Pairs { noise: random(2, 8), actions: random(3, 8) };
        for noise_at in ENDS {
            let [x0, x1] = noise_at.ends(&pairs.noise, &pairs.actions);
            let mut straight = |_: &[f64], _: &[f64]| target_velocity(x0, x1);
            assert_eq!(straightness(&mut straight, x0, x1, 2, 10), Ok(0.0));
            assert_eq!(rectified_loss(&mut straight, &pairs, &[0.3, 0.8], noise_at), Ok(0.0));
            assert_eq!(distillation_loss(&mut straight, &pairs, 2, noise_at), Ok(0.0));
            let once = FlowConfig { noise_at, num_steps: 1, ..FlowConfig::default() };
            let sampled = sample(&mut straight, &pairs.noise, 2, &once).expect("shapes fit");
            assert!(sampled.actions.iter().zip(&pairs.actions).all(|(x, a)| (x - a).abs() < 1e-15));
        }
    }

    #[test]
    fn straightness_is_the_mean_over_points_within_the_path() {
        let mut times = Vec::new();
        let mut field = |x: &[f64], t: &[f64]| {
            times.push(t[0]);
            Ok(vec![1.0 + 3.0 * t[0]; x.len()])
        };
        // Off by 3 t at t = 1/4, 1/2, 3/4.
        let off = straightness(&mut field, &[0.0; 2], &[1.0; 2], 2, 3).expect("shapes fit");
        assert!((off - 9.0 * (1.0 / 16.0 + 1.0 / 4.0 + 9.0 / 16.0) / 3.0).abs() < 1e-15);
        assert_eq!(times, [0.25, 0.5, 0.75]);
    }

    #[test]
    fn losses_agree_with_their_parts() {
        let pairs = Pairs { noise: random(4, 6), actions: random(5, 6) };
        let mut field = |x: &[f64], t: &[f64]| Ok(x.iter().map(|x| x * t[0] + 0.5).collect());
        let t = [0.25, 0.25, 0.25];
        let target = target_velocity(&pairs.noise, &pairs.actions).expect("shapes fit");
        let x = interpolate(&pairs.noise, &pairs.actions, &t).expect("shapes fit");
        let predicted: Vec<f64> = x.iter().map(|x| x * 0.25 + 0.5).collect();
        let whole = rectified_loss(&mut field, &pairs, &t, NoiseAt::Zero);
        assert_eq!(whole, velocity_loss(&target, &predicted));
        // The student's step: noise + v(noise, 0) = noise + 1/2, or noise − v(noise, 1) = −1/2.
        let missed = |step: &dyn Fn(f64) -> f64| {
            let pairs = pairs.noise.iter().zip(&pairs.actions);
            pairs.map(|(x, a)| (step(*x) - a).powi(2)).sum::<f64>() / 6.0
        };
        let zero = distillation_loss(&mut field, &pairs, 3, NoiseAt::Zero).expect("shapes fit");
        assert!((zero - missed(&|x| x + 0.5)).abs() < 1e-14);
        let one = distillation_loss(&mut field, &pairs, 3, NoiseAt::One).expect("shapes fit");
        assert!((one - missed(&|_| -0.5)).abs() < 1e-14);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut still = |x: &[f64], _: &[f64]| Ok(vec![0.0; x.len()]);
        assert!(straightness(&mut still, &[0.0; 2], &[1.0; 2], 2, 0).is_err());
        assert!(straightness(&mut still, &[0.0; 2], &[1.0; 3], 2, 4).is_err());
        assert!(straightness(&mut still, &[0.0; 3], &[1.0; 3], 2, 4).is_err());
        let pairs = Pairs { noise: vec![0.0; 2], actions: vec![0.0; 3] };
        assert!(rectified_loss(&mut still, &pairs, &[0.5], NoiseAt::Zero).is_err());
        assert!(distillation_loss(&mut still, &pairs, 1, NoiseAt::Zero).is_err());
        assert!(distillation_loss(&mut still, &pairs, 0, NoiseAt::Zero).is_err());
    }
}
