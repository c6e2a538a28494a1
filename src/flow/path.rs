//! The straight path, its velocity, and the loss of a field against it.
//!
//! x0 is what is at t = 0 and x1 what is at t = 1: noise and action, or action and noise where noise is at 1. Rows are
//! samples: x [B, n], t `[B]`.

use super::NoiseAt;
use crate::{Error, Result};

/// v(x, t) of x [B, n] and t `[B]`, as [B, n]. What it is conditioned on, it holds.
pub type Velocity<'a> = dyn FnMut(&[f64], &[f64]) -> Result<Vec<f64>> + 'a;

/// x_t = (1 − t) x0 + t x1 (Lipman et al., arXiv 2210.02747): x0 [B, n], x1 [B, n], t `[B]` to [B, n]. It is x0 at
/// t = 0 and x1 at t = 1 to the last bit.
///
/// # Errors
/// If lengths do not fit, or a time lies outside [0, 1].
pub fn interpolate(x0: &[f64], x1: &[f64], t: &[f64]) -> Result<Vec<f64>> {
    same_length(x0, x1)?;
    let n = row_length(x0, t.len())?;
    times_on_path(t)?;
    let ends = x0.iter().zip(x1);
    Ok(ends.enumerate().map(|(i, (x0, x1))| (1.0 - t[i / n]) * x0 + t[i / n] * x1).collect())
}

/// v = x1 − x0: the same all along the path.
///
/// # Errors
/// If lengths do not fit.
pub fn target_velocity(x0: &[f64], x1: &[f64]) -> Result<Vec<f64>> {
    same_length(x0, x1)?;
    Ok(x0.iter().zip(x1).map(|(x0, x1)| x1 - x0).collect())
}

/// The mean square of target − predicted.
///
/// # Errors
/// If lengths do not fit, or there is nothing to compare.
pub fn velocity_loss(target: &[f64], predicted: &[f64]) -> Result<f64> {
    same_length(target, predicted)?;
    if target.is_empty() {
        return Err(Error::input("no velocities to compare: pass at least one"));
    }
    let sum: f64 = target.iter().zip(predicted).map(|(a, b)| (a - b).powi(2)).sum();
    Ok(sum / target.len() as f64)
}

/// The whole loss of flow matching: E |v(x_t, t) − (x1 − x0)|² over the batch (Lipman et al., arXiv 2210.02747;
/// Tong et al., arXiv 2302.00482). Actions [B, n], noise [B, n], t `[B]`.
///
/// # Errors
/// If lengths do not fit, or a time lies outside [0, 1]; the field's own.
pub fn loss(
    velocity: &mut Velocity<'_>,
    actions: &[f64],
    noise: &[f64],
    t: &[f64],
    noise_at: NoiseAt,
) -> Result<f64> {
    let [x0, x1] = noise_at.ends(noise, actions);
    let x = interpolate(x0, x1, t)?;
    velocity_loss(&target_velocity(x0, x1)?, &ask(velocity, &x, t)?)
}

impl NoiseAt {
    /// x0 and x1: what is at t = 0 and what is at t = 1.
    pub fn ends<'a>(self, noise: &'a [f64], actions: &'a [f64]) -> [&'a [f64]; 2] {
        match self {
            Self::Zero => [noise, actions],
            Self::One => [actions, noise],
        }
    }
}

/// v(x, t), of the right length.
pub(super) fn ask(velocity: &mut Velocity<'_>, x: &[f64], t: &[f64]) -> Result<Vec<f64>> {
    let v = velocity(x, t)?;
    if v.len() != x.len() {
        let (has, needs) = (v.len(), x.len());
        return Err(Error::input(format!("the velocity has {has} values, x has {needs}: they must agree")));
    }
    Ok(v)
}

/// n of x [B, n].
pub(super) fn row_length(x: &[f64], batch: usize) -> Result<usize> {
    if batch == 0 || x.is_empty() || !x.len().is_multiple_of(batch) {
        let values = x.len();
        return Err(Error::input(format!(
            "{values} values do not make a batch of {batch}: pass B times as many values as a sample has"
        )));
    }
    Ok(x.len() / batch)
}

/// Checks that two slices are as long as each other.
pub(super) fn same_length(a: &[f64], b: &[f64]) -> Result<()> {
    if a.len() != b.len() {
        let (a, b) = (a.len(), b.len());
        return Err(Error::input(format!("lengths {a} and {b} do not fit: pass two of the same shape")));
    }
    Ok(())
}

fn times_on_path(t: &[f64]) -> Result<()> {
    // NaN is in no range.
    match t.iter().position(|t| !(0.0..=1.0).contains(t)) {
        Some(at) => Err(Error::input(format!("time {at} is {}: use times from 0 to 1", t[at]))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::random;

    #[test]
    fn ends_of_the_path_are_exact_and_the_middle_is_the_mean() {
        let [x0, x1] = [random(1, 12), random(2, 12)];
        assert_eq!(interpolate(&x0, &x1, &[0.0; 3]), Ok(x0.clone()));
        assert_eq!(interpolate(&x0, &x1, &[1.0; 3]), Ok(x1.clone()));
        let middle = interpolate(&x0, &x1, &[0.5; 3]).expect("shapes fit");
        assert!(middle.iter().zip(x0.iter().zip(&x1)).all(|(x, (a, b))| *x == 0.5 * a + 0.5 * b));
    }

    #[test]
    fn the_path_is_linear_in_time_and_its_slope_is_the_target() {
        let [x0, x1] = [random(3, 8), random(4, 8)];
        let v = target_velocity(&x0, &x1).expect("shapes fit");
        for t in [0.1, 0.3, 0.7, 0.9] {
            let x = interpolate(&x0, &x1, &[t, t]).expect("shapes fit");
            for i in 0..8 {
                assert!((x[i] - (x0[i] + t * v[i])).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn every_sample_has_its_own_time() {
        let x = interpolate(&[0.0; 4], &[8.0; 4], &[0.25, 0.75]);
        assert_eq!(x, Ok(vec![2.0, 2.0, 6.0, 6.0]));
    }

    #[test]
    fn shapes_of_chunks_come_back() {
        for dim in [16, 32, 64] {
            for horizon in [2, 4, 8] {
                let size = 3 * horizon * dim;
                let [x0, x1] = [random(5, size), random(6, size)];
                let x = interpolate(&x0, &x1, &[0.1, 0.5, 0.8]).expect("shapes fit");
                assert_eq!(x.len(), size);
                assert_eq!(target_velocity(&x0, &x1).map(|v| v.len()), Ok(size));
            }
        }
    }

    #[test]
    fn losses_are_means_of_squares() {
        assert_eq!(velocity_loss(&[1.0, 2.0, 3.0], &[1.0, 0.0, 0.0]), Ok(13.0 / 3.0));
        let [a, b] = [random(7, 6), random(8, 6)];
        assert_eq!(velocity_loss(&a, &a), Ok(0.0));
        assert_eq!(velocity_loss(&a, &b), velocity_loss(&b, &a));
    }

    #[test]
    fn the_whole_loss_asks_on_the_path_in_both_conventions() {
        let [actions, noise] = [random(9, 4), random(10, 4)];
        let t = [0.25, 0.5];
        for (noise_at, sign) in [(NoiseAt::Zero, 1.0), (NoiseAt::One, -1.0)] {
            let share = |i: usize| if sign > 0.0 { t[i / 2] } else { 1.0 - t[i / 2] };
            let mut asked = Vec::new();
            let mut exact = |x: &[f64], _: &[f64]| {
                asked = x.to_vec();
                Ok((0..4).map(|i| sign * (actions[i] - noise[i])).collect())
            };
            assert_eq!(loss(&mut exact, &actions, &noise, &t, noise_at), Ok(0.0));
            for (i, x) in asked.iter().enumerate() {
                assert!((x - (noise[i] + share(i) * (actions[i] - noise[i]))).abs() < 1e-14);
            }
            let still = loss(&mut |x, _| Ok(vec![0.0; x.len()]), &actions, &noise, &t, noise_at);
            assert_eq!(still, velocity_loss(&actions, &noise));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let two = [0.0, 1.0];
        for t in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            let message = interpolate(&two, &two, &[t]).expect_err("off the path").to_string();
            assert!(message.contains("from 0 to 1"), "{message}");
        }
        assert!(interpolate(&two, &two[..1], &[0.5]).is_err());
        assert!(interpolate(&two, &two, &[0.5; 3]).is_err());
        assert!(interpolate(&two, &two, &[]).is_err());
        assert!(target_velocity(&two, &[]).is_err());
        assert!(velocity_loss(&two, &[0.0]).is_err());
        assert!(velocity_loss(&[], &[]).is_err());
        let short = loss(&mut |_, _| Ok(vec![0.0]), &two, &two, &[0.5], NoiseAt::Zero);
        assert!(short.expect_err("one value").to_string().contains("the velocity has 1 values"));
    }
}
