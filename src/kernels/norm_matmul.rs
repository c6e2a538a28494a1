//! Matrix product of normalised rows: N = LN(A), C = R + α f(N B + bias), the formulas of [`super::layer_norm`] and
//! [`super::matmul`].
//!
//! | binding | shape |
//! |---|---|
//! | A, B, bias, R | as the product's |
//! | gamma, beta | `[k]` |
//! | C (out) | as the product's |
//! | N (out) | `[m, k]`: a post-norm layer adds to it later |
//!
//! Where rows are too wide for [`super::matmul_norm`], the norm joins the product behind it instead of the one before. A
//! workgroup's tile sees all of its rows, a piece at a time, and knows their means μ and deviations 1/ρ at the end:
//!
//! ```text
//! Σ_k N[i, k] B[k, j] = ρ[i] ( Σ_k d[i, k] γ[k] B[k, j] − (μ[i] − s[i]) Σ_k γ[k] B[k, j] ) + Σ_k β[k] B[k, j]
//! d[i, k] = A[i, k] − s[i],    s[i] the mean of a row's first 16 values, so that nothing large cancels
//! ```
//! so that the sums need no second pass: only a row's first values, and what is stored of N, are read again. μ and ρ are not kept: there is no backward pass.

use super::activation::Activation;
use super::check::{Case, Data, ODD};
use super::layer_norm::LayerNorm;
use super::matmul::{Matmul, Matrix};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Merged, Slice};

/// The norm and the product. Inputs: A, B, bias (or nothing), R (or nothing), gamma, beta. Outputs: C, N.
#[derive(Debug, Clone, PartialEq)]
pub struct NormMatmul {
    /// The product: one, the rows of its A packed, with no fewer columns in C than in A.
    pub product: Matmul,
    /// ε.
    pub eps: f32,
}

impl Merged for NormMatmul {
    /// Where the product would be by square tiles: with the largest, a launch more is little beside their work.
    fn suits(&self, class: AdapterClass) -> bool {
        class.is_gpu() && self.fits() && self.product.dispatch(class).shader == shader!("matmul")
    }
}

impl NormMatmul {
    fn fits(&self) -> bool {
        let Matmul { batch, k, n, a, gated, .. } = self.product;
        batch == 1 && a == Matrix::rows(k) && n >= k && !gated
    }

    /// The norm of A's rows.
    pub fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.product.m, width: self.product.k, eps: self.eps }
    }
}

impl Describe for NormMatmul {
    const NAME: &'static str = "norm_matmul";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        assert!(self.fits(), "tiles beside one another store all columns of A");
        self.product.by_tiles(shader!("norm_matmul"))
    }

    fn params(&self) -> Vec<u32> {
        let mut words = self.product.params();
        words.push(self.eps.to_bits());
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [a, b, bias, residual, gamma, beta] = *io.inputs else { panic!("norm_matmul has six inputs") };
        let [c, normed] = io.outputs else { panic!("norm_matmul has two outputs") };
        let mut stats = vec![T::ZERO; self.product.m * 2];
        self.norm().twin(&mut Io { inputs: &[a, gamma, beta], outputs: &mut [&mut *normed, &mut stats] });
        let inputs = [Slice::F(normed), b, bias, residual];
        self.product.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut *c] });
    }

    fn flops(&self) -> u64 {
        self.norm().flops() + self.product.flops()
    }
}

impl NormMatmul {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |name: &str, product: Matmul| cases.push(Self { product, eps: 1e-5 }.case(name));
        for m in ODD {
            for (k, n) in [(1, 1), (17, 17), (65, 129), (129, 192), (3, 257)] {
                add("plain", Matmul::new(m, k, n));
            }
        }
        // As in layers: tiles of 32, of 64, and a row of less than all of a piece.
        for (m, k, n) in [(50, 160, 480), (197, 192, 576), (33, 15, 64)] {
            let layer = Matmul { b: Matrix::transposed(k), bias: Some(3), ..Matmul::new(m, k, n) };
            for activation in [Activation::None, Activation::Relu, Activation::Gelu] {
                add(&format!("as a layer's, {activation:?}"), Matmul { activation, ..layer.clone() });
            }
            add("f16", Matmul { half_b: true, ..layer.clone() });
            let strided = Matmul {
                b: Matrix::transposed(k + 4).at(4),
                c: Matrix::rows(n + 3).at(2),
                residual_rows: Some(2),
                alpha: 0.5,
                ..layer
            };
            add("strided, residual rows, alpha", strided.clone());
            add("strided, f16", Matmul { half_b: true, ..strided });
        }
        let product = Matmul { bias: Some(0), ..Matmul::new(9, 64, 96) };
        cases.push(Self { product, eps: 1e-6 }.case("with a bias,").far_from_zero());
        cases
    }

    fn case(self, name: &str) -> Case {
        let product = &self.product;
        let (m, k, n, half_b) = (product.m, product.k, product.n, product.half_b);
        let residual = product.residual_rows.map_or(0, |rows| rows * n);
        let bias = product.bias.map_or(0, |offset| offset + n);
        let b = product.b.offset + (k + 4) * (n + 4);
        let c = product.c.offset + m * product.c.stride;
        let case = Case::new(format!("{m}x{k}x{n} {name}"), self).input(m * k);
        let case = if half_b { case.half_input(b) } else { case.input(b) };
        let case = if bias > 0 { case.input(bias) } else { case.data(Data::Nothing) };
        let case = if residual > 0 { case.input(residual) } else { case.data(Data::Nothing) };
        case.input(k).input(k).output(c).output(m * k)
    }
}
