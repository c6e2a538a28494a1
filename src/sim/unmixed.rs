//! What lies behind measurements tanh(W h): h by weighted least squares.

/// Nearer to ±1 than this a measurement says no more than that it is large.
const SATURATED: f64 = 0.999;

/// h of measurements tanh(W h) `[rows of W]`; none if there are fewer of them or W does not determine it.
///
/// It makes Σ wᵢ (Wᵢ h − artanh mᵢ)² least. A measurement m with some noise has that over 1 − m² in artanh m, so that
/// its weight w is (1 − m²)². The normal equations are solved by Cholesky's factors.
pub(super) fn unmixed<const N: usize>(mixing: &[[f64; N]], measured: &[f32]) -> Option<[f64; N]> {
    if mixing.len() != measured.len() {
        return None;
    }
    let (mut square, mut right) = ([[0.0; N]; N], [0.0; N]);
    for (row, measured) in mixing.iter().zip(measured) {
        let value = f64::from(*measured).clamp(-SATURATED, SATURATED);
        let weight = (1.0 - value * value).powi(2);
        for i in 0..N {
            right[i] += weight * row[i] * value.atanh();
            for j in 0..=i {
                square[i][j] += weight * row[i] * row[j];
            }
        }
    }
    // The lower factor replaces the lower half.
    for i in 0..N {
        for j in 0..=i {
            let rest = square[i][j] - (0..j).map(|k| square[i][k] * square[j][k]).sum::<f64>();
            if i != j {
                square[i][j] = rest / square[j][j];
            } else if rest > 0.0 {
                square[i][i] = rest.sqrt();
            } else {
                return None;
            }
        }
    }
    for i in 0..N {
        right[i] = (right[i] - (0..i).map(|k| square[i][k] * right[k]).sum::<f64>()) / square[i][i];
    }
    for i in (0..N).rev() {
        right[i] = (right[i] - (i + 1..N).map(|k| square[k][i] * right[k]).sum::<f64>()) / square[i][i];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXING: [[f64; 2]; 4] = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1], [0.9, 0.9]];

    fn measured(hidden: [f64; 2]) -> Vec<f32> {
        MIXING.iter().map(|row| (row[0] * hidden[0] + row[1] * hidden[1]).tanh() as f32).collect()
    }

    #[test]
    fn what_was_mixed_is_found_again() {
        let found = unmixed(&MIXING, &measured([0.4, -1.3])).expect("determined");
        assert!((found[0] - 0.4).abs() < 1e-5 && (found[1] + 1.3).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn too_few_measurements_tell_nothing() {
        assert_eq!(unmixed(&MIXING[..1], &measured([0.4, -1.3])[..1]), None);
        assert_eq!(unmixed(&MIXING, &[0.1]), None);
    }
}
