//! Layer normalisation: y = γ ∘ x̂ + β, x̂ = (x − μ) ρ, over rows.
//!
//! Ba et al., arXiv 1607.06450. For each row r of `width` columns:
//!
//! ```text
//! μ[r]    = mean_c x[r, c]
//! ρ[r]    = 1 / √(mean_c (x[r, c] − μ[r])² + ε)            "rstd"
//! y[r, c] = γ[c] (x[r, c] − μ[r]) ρ[r] + β[c]
//! ```
//!
//! | binding | shape |
//! |---|---|
//! | x | `[rows, width]` |
//! | gamma, beta | `[width]` |
//! | y (out) | `[rows, width]` |
//! | stats (out) | `[rows, 2]`: μ, ρ, kept for the backward pass |
//!
//! The variance is made in a second pass over the row, from differences: no cancellation. The backward pass is in
//! [`super::layer_norm_backward`].

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Shader, word};

/// The normalisation. Inputs: x, gamma, beta. Outputs: y, stats.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerNorm {
    /// Rows.
    pub rows: usize,
    /// Columns; at least one.
    pub width: usize,
    /// ε.
    pub eps: f32,
}

/// Invocations that share a row: a power of two from 4 to 32, about a quarter of the columns.
pub(super) fn lanes(width: usize) -> usize {
    width.div_ceil(4).next_power_of_two().clamp(4, 32)
}

/// Whether the invocations that share a row are of one subgroup, so that they add without barriers.
fn rows_fit_subgroups(class: AdapterClass, width: usize) -> bool {
    let size = class.abilities().subgroup;
    size.is_some_and(|size| size.is_power_of_two() && size <= 64 && lanes(width) <= size as usize)
}

/// Whether an invocation takes a whole row, of vec4s: on software adapters, where meeting at barriers costs more.
fn takes_rows(class: AdapterClass, width: usize) -> bool {
    !class.is_gpu() && width.is_multiple_of(4)
}

/// The launch of one of a kernel's variants: an invocation for each row, sums by subgroups, or through workgroup memory.
pub(super) fn by_rows(class: AdapterClass, rows: usize, width: usize, shaders: [Shader; 3]) -> Dispatch {
    let [whole_rows, subgroup, memory] = shaders;
    let groups = rows.div_ceil(64 / lanes(width));
    match class {
        _ if takes_rows(class, width) => Dispatch::linear(whole_rows, rows, 8),
        _ if rows_fit_subgroups(class, width) => Dispatch::groups(subgroup, groups),
        _ => Dispatch::groups(memory, groups),
    }
}

impl Describe for LayerNorm {
    const NAME: &'static str = "layer_norm";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let shaders = [shader!("layer_norm_rows"), shader!("layer_norm_subgroup"), shader!("layer_norm")];
        by_rows(class, self.rows, self.width, shaders)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.width), word(lanes(self.width)), self.eps.to_bits()]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [x, gamma, beta] = [0, 1, 2].map(|n| io.inputs[n].floats());
        let [y, stats] = io.outputs else { panic!("layer_norm has two outputs") };
        let count = T::of(self.width as f64);
        let rows = x.chunks_exact(self.width).zip(y.chunks_exact_mut(self.width));
        for ((x, y), stats) in rows.zip(stats.chunks_exact_mut(2)).take(self.rows) {
            let mean = x.iter().copied().sum::<T>() / count;
            let variance = x.iter().map(|&x| (x - mean) * (x - mean)).sum::<T>() / count;
            let rstd = T::ONE / (variance + T::of(f64::from(self.eps))).sqrt();
            for (((y, &x), &gamma), &beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = gamma * ((x - mean) * rstd) + beta;
            }
            stats.copy_from_slice(&[mean, rstd]);
        }
    }

    fn flops(&self) -> u64 {
        8 * (self.rows * self.width) as u64
    }
}

impl LayerNorm {
    /// Rows and columns that the normalisation and its gradients are tried on.
    pub(super) fn shapes() -> impl Iterator<Item = (usize, usize)> {
        let odd = ODD.into_iter().flat_map(|width| [(1, width), (3, width), (65, width)]);
        odd.chain([(17, 64), (129, 256), (5, 768), (3, 1024), (2, 3000)])
    }

    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        // More than 65,535 workgroups, two rows each.
        let shapes = Self::shapes().chain([(131_073, 65)]);
        let mut cases: Vec<Case> =
            shapes.map(|(rows, width)| Self { rows, width, eps: 1e-5 }.case()).collect();
        cases.push(Self { rows: 9, width: 64, eps: 1e-6 }.case().far_from_zero());
        cases
    }

    pub(super) fn case(&self) -> Case {
        let Self { rows, width, .. } = *self;
        let case = Case::new(format!("{rows}x{width}"), self.clone());
        case.input(rows * width).input(width).input(width).output(rows * width).output(rows * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Slice;
    use crate::kernels::check::Data;

    #[test]
    fn rows_come_out_with_mean_beta_and_deviation_gamma() {
        let (rows, width) = (3, 65);
        let mut rng = crate::rng::Rng::new(1, crate::rng::Stream::Init, 0, 0);
        let x: Vec<f64> = (0..rows * width).map(|_| 5.0 + 2.0 * rng.normal()).collect();
        let (gamma, beta) = (vec![3.0; width], vec![0.5; width]);
        let (mut y, mut stats) = (vec![0.0; rows * width], vec![0.0; rows * 2]);
        let inputs = [Slice::F(&x), Slice::F(&gamma), Slice::F(&beta)];
        LayerNorm { rows, width, eps: 0.0 }
            .twin(&mut Io { inputs: &inputs, outputs: &mut [&mut y, &mut stats] });
        for (y, stats) in y.chunks_exact(width).zip(stats.chunks_exact(2)) {
            let mean = y.iter().sum::<f64>() / width as f64;
            let variance = y.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / width as f64;
            approx::assert_abs_diff_eq!(mean, 0.5, epsilon = 1e-12);
            approx::assert_abs_diff_eq!(variance, 9.0, epsilon = 1e-10);
            assert!((stats[0] - 5.0).abs() < 1.0 && (1.0 / stats[1] - 2.0).abs() < 0.5);
        }
    }

    #[test]
    fn a_constant_row_becomes_beta() {
        let case = LayerNorm { rows: 1, width: 1, eps: 1e-5 }.case();
        let Data::F(beta) = &case.inputs[2] else { panic!("beta is floats") };
        approx::assert_abs_diff_eq!(case.reference()[0][0], f64::from(beta[0]), epsilon = 1e-12);
    }
}
