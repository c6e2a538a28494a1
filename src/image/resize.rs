//! Bilinear resizing as PyTorch's `interpolate(mode="bilinear", align_corners=False, antialias=False)`.
//!
//! ```text
//! s(i)    = max(0, (i + 1/2) · in / out − 1/2),   j = ⌊s⌋,   λ = s − j
//! y[i]    = (1 − λ) x[j] + λ x[min(j + 1, in − 1)]          along rows, then along columns
//! ```

use rayon::prelude::*;

/// A pixel's value in [0, 1].
pub trait Pixel: Copy + Send + Sync {
    /// It.
    fn level(self) -> f32;
}

impl Pixel for u8 {
    fn level(self) -> f32 {
        f32::from(self) / 255.0
    }
}

impl Pixel for f32 {
    fn level(self) -> f32 {
        self
    }
}

/// A place between two neighbours: the first's index, the second's, and the second's share.
type Between = (usize, usize, f32);

/// Where each of `to` outputs lies among `from` inputs.
fn places(from: usize, to: usize) -> Vec<Between> {
    let scale = from as f64 / to as f64;
    let place = |i: usize| {
        let s = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let first = (s as usize).min(from - 1);
        (first, (first + 1).min(from - 1), (s - first as f64) as f32)
    };
    (0..to).map(place).collect()
}

/// Planes [.., H, W] of bytes or of floats in [0, 1] as floats of another height and width, [.., H', W'].
///
/// # Panics
/// If a side is 0, or the values are no whole number of planes.
pub fn resize<P: Pixel>(planes: &[P], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let ([height, width], [to_height, to_width]) = (from, to);
    let (size, to_size) = (height * width, to_height * to_width);
    assert!(size > 0 && to_size > 0 && planes.len().is_multiple_of(size), "planes of {from:?} to {to:?}");
    let (rows, columns) = (places(height, to_height), places(width, to_width));
    let mut resized = vec![0.0; planes.len() / size * to_size];
    resized.par_chunks_mut(to_size).zip(planes.par_chunks(size)).for_each(|(out, plane)| {
        for (line, &(top, bottom, below)) in out.chunks_mut(to_width).zip(&rows) {
            let [top, bottom] = [top, bottom].map(|row| &plane[row * width..][..width]);
            for (value, &(left, right, beside)) in line.iter_mut().zip(&columns) {
                let across = |row: &[P]| row[left].level() * (1.0 - beside) + row[right].level() * beside;
                *value = across(top) * (1.0 - below) + across(bottom) * below;
            }
        }
    });
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_the_same_picture() {
        let planes: Vec<f32> = (0..2 * 3 * 5).map(|i| i as f32 / 30.0).collect();
        assert_eq!(resize(&planes, [3, 5], [3, 5]), planes);
        let bytes: Vec<u8> = (0..30).collect();
        assert_eq!(resize(&bytes, [3, 5], [3, 5])[29], 29.0 / 255.0);
    }

    #[test]
    fn halving_takes_the_mean_of_two_by_two() {
        assert_eq!(resize(&[0.0_f32, 1.0, 0.5, 0.5], [2, 2], [1, 1]), [0.5]);
    }

    #[test]
    fn doubling_holds_the_edges() {
        assert_eq!(resize(&[0.0_f32, 1.0], [1, 2], [1, 4]), [0.0, 0.25, 0.75, 1.0]);
    }
}
