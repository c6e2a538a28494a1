//! How a cost grows with a size.

/// p of the power law cost ≈ c · size^p that fits best: the slope of the least-squares line through the logarithms. None
/// where there are fewer than two sizes, or a value has no logarithm.
pub fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, cost)| (size.ln(), cost.ln())).collect();
    if logs.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
        return None;
    }
    let n = logs.len() as f64;
    let mean = |value: fn(&(f64, f64)) -> f64| logs.iter().map(value).sum::<f64>() / n;
    let (x0, y0) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = logs.iter().map(|(x, _)| (x - x0).powi(2)).sum();
    let common: f64 = logs.iter().map(|(x, y)| (x - x0) * (y - y0)).sum();
    (spread > 0.0).then(|| common / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_recognised() {
        for power in [0.0, 0.5, 1.0, 2.0, 3.0] {
            let points: Vec<_> = [1.0, 2.0, 3.0, 8.0_f64].map(|size| (size, 0.3 * size.powf(power))).to_vec();
            approx::assert_abs_diff_eq!(exponent(&points).expect("fits"), power, epsilon = 1e-12);
        }
    }

    #[test]
    fn a_constant_part_lowers_it_and_noise_does_not_move_it_far() {
        let affine: Vec<_> = [1.0, 2.0, 4.0, 8.0_f64].map(|size| (size, 5.0 + size)).to_vec();
        assert!((0.2..0.5).contains(&exponent(&affine).expect("fits")));
        let noisy = [(1.0, 1.1), (2.0, 1.9), (4.0, 4.2), (8.0, 7.8)];
        approx::assert_abs_diff_eq!(exponent(&noisy).expect("fits"), 1.0, epsilon = 0.1);
    }

    #[test]
    fn what_has_no_slope_has_none() {
        assert_eq!(exponent(&[]), None);
        assert_eq!(exponent(&[(4.0, 1.0)]), None);
        assert_eq!(exponent(&[(4.0, 1.0), (4.0, 2.0)]), None);
        assert_eq!(exponent(&[(1.0, 0.0), (2.0, 2.0)]), None);
    }
}
