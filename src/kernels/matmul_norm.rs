//! Matrix product whose rows are normalised: C = LN(R + α f(A B + bias)), the formulas of [`super::matmul`] and
//! [`super::layer_norm`].
//!
//! | binding | shape |
//! |---|---|
//! | A, B, bias, R | as the product's |
//! | gamma, beta | `[n]` |
//! | C (out) | `[m, n]` |
//!
//! A post-norm layer wants nothing else of a product's rows: one launch instead of two, and the rows are not stored in
//! between. Their means and deviations are not kept either, so that there is no backward pass.
//!
//! A workgroup makes whole rows: `matmul_norm` of at most 128 columns, `matmul_norm_uniform` (lavapipe) of at most 64.
//! Wider ones would leave a GPU with a workgroup for every few rows, each of which reads all of B.

use super::activation::Activation;
use super::check::{Case, Data, ODD};
use super::layer_norm::LayerNorm;
use super::matmul::{Matmul, Matrix};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Merged, Slice};

/// Columns that a workgroup holds at most.
pub const WIDEST: usize = 128;
/// The same of a subgroup of eight.
const WIDEST_OF_A_SUBGROUP: usize = 64;

/// The product and the norm. Inputs: A, B, bias (or nothing), R (or nothing), gamma, beta. Outputs: C.
#[derive(Debug, Clone, PartialEq)]
pub struct MatmulNorm {
    /// The product: one, whose rows are packed.
    pub product: Matmul,
    /// ε.
    pub eps: f32,
}

impl Merged for MatmulNorm {
    fn suits(&self, class: AdapterClass) -> bool {
        match class {
            AdapterClass::Gpu(abilities) => {
                let by_matrices = abilities.matrices.is_some() && self.product.half_a && self.product.half_b;
                self.is_plain() && self.product.n <= WIDEST && !by_matrices
            }
            AdapterClass::SoftwareSubgroup => self.suits_a_subgroup(),
            AdapterClass::Software => false,
        }
    }

    fn suits_cpu(&self) -> bool {
        self.is_plain()
    }
}

impl MatmulNorm {
    /// Whether the product is one, and C is nothing but its rows.
    pub(super) fn is_plain(&self) -> bool {
        self.product.batch == 1 && !self.product.gated && self.product.c == Matrix::rows(self.product.n)
    }

    fn suits_a_subgroup(&self) -> bool {
        let few = self.product.n <= WIDEST_OF_A_SUBGROUP;
        self.is_plain() && few && self.product.b.transposed && self.product.fits_uniform()
    }

    /// The norm of the product's rows.
    pub fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.product.m, width: self.product.n, eps: self.eps }
    }
}

/// A launch whose workgroups make whole rows of so many columns.
pub(super) fn whole_rows(dispatch: Dispatch, columns: usize, half_b: bool) -> Dispatch {
    let dispatch = dispatch.with("COLUMNS", if columns <= 64 { 64.0 } else { 128.0 });
    if half_b { dispatch.with("HALF", 1.0) } else { dispatch }
}

impl Describe for MatmulNorm {
    const NAME: &'static str = "matmul_norm";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        assert!(
            self.is_plain() && self.product.n <= WIDEST,
            "a workgroup makes whole rows, and nothing else"
        );
        let groups = self.product.m.div_ceil(8);
        if class == AdapterClass::SoftwareSubgroup && self.suits_a_subgroup() {
            return Dispatch::groups(shader!("matmul_norm_uniform"), groups).with_uniform_input(1);
        }
        whole_rows(Dispatch::groups(shader!("matmul_norm"), groups), self.product.n, self.product.half_b)
    }

    fn params(&self) -> Vec<u32> {
        let mut words = self.product.params();
        words.push(self.eps.to_bits());
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let mut sums = vec![T::ZERO; self.product.m * self.product.n];
        let mut stats = vec![T::ZERO; self.product.m * 2];
        self.product.twin(&mut Io { inputs: &io.inputs[..4], outputs: &mut [&mut sums] });
        let inputs = [Slice::F(&sums), io.inputs[4], io.inputs[5]];
        self.norm().twin(&mut Io { inputs: &inputs, outputs: &mut [&mut *io.outputs[0], &mut stats] });
    }

    fn flops(&self) -> u64 {
        self.product.flops() + self.norm().flops()
    }
}

impl MatmulNorm {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |name: &str, product: Matmul| {
            let Matmul { m, k, n, half_b, .. } = product;
            let residual = product.residual_rows.map_or(0, |rows| rows * n);
            let (bias, b) =
                (product.bias.map_or(0, |offset| offset + n), product.b.offset + (k + 4) * (n + 4));
            let case = Case::new(format!("{m}x{k}x{n} {name}"), Self { product, eps: 1e-5 }).input(m * k);
            let case = if half_b { case.half_input(b) } else { case.input(b) };
            let case = if bias > 0 { case.input(bias) } else { case.data(Data::Nothing) };
            let case = if residual > 0 { case.input(residual) } else { case.data(Data::Nothing) };
            cases.push(case.input(n).input(n).output(m * n));
        };
        for m in ODD {
            for (k, n) in [(64, 64), (256, 64), (12, 20), (17, 65), (129, 128), (3, 3)] {
                let product = Matmul { b: Matrix::transposed(k), bias: Some(0), ..Matmul::new(m, k, n) };
                add("as a layer's", Matmul { residual_rows: Some(m), ..product });
            }
        }
        for (m, k, n) in [(9, 64, 64), (3, 20, 31), (17, 33, 96)] {
            let plain = Matmul::new(m, k, n);
            add("plain", plain.clone());
            let strided = Matmul { b: Matrix::transposed(k + 4).at(4), bias: Some(5), ..plain.clone() };
            for activation in [Activation::Relu, Activation::Gelu] {
                add(&format!("bias {activation:?}"), Matmul { activation, ..strided.clone() });
            }
            let alpha = Matmul { residual_rows: Some(2), alpha: 0.5, ..strided };
            add("residual rows, alpha", alpha.clone());
            add("f16", Matmul { half_b: true, ..alpha });
        }
        cases
    }
}
