//! Attention with all that follows it in a post-norm layer: C = LN(R + α f(O B + bias)) with O what [`super::attention`]
//! answers, the formulas of [`super::matmul_norm`].
//!
//! | binding | shape |
//! |---|---|
//! | q | as attention's |
//! | B, bias, R | as the product's |
//! | gamma, beta | `[n]` |
//! | keys and values | as attention's k and v, which lie in one buffer |
//! | C (out) | `[batch * tq, n]` |
//!
//! An output row needs all heads, so that a workgroup answers eight queries of a sample for all of them, and then makes
//! eight whole rows, of at most 128 columns. Nothing is kept for a backward pass. Software adapters, whose launches cost
//! little, have each by itself.

use super::activation::Activation;
use super::attention::{Attention, Tokens};
use super::check::{Case, Data};
use super::matmul::{Matmul, Matrix};
use super::matmul_norm::{MatmulNorm, WIDEST, whole_rows};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Merged, Slice, word};

/// Heads that the workgroup has scores for.
const MOST_HEADS: usize = 32;

/// The attention, the product and the norm. Inputs: q, B, bias (or nothing), R (or nothing), gamma, beta, keys and values.
/// Outputs: C.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionNorm {
    /// The attention, without dropout, its answers packed.
    pub attention: Attention,
    /// The product of these, and the norm.
    pub out: MatmulNorm,
}

impl Merged for AttentionNorm {
    fn suits(&self, class: AdapterClass) -> bool {
        class.is_gpu() && self.fits() && self.out.suits(class)
    }
}

impl AttentionNorm {
    /// Whether a workgroup holds it.
    fn fits(&self) -> bool {
        let Attention { batch, heads, tq, head_width, ref o, ref dropout, .. } = self.attention;
        let (width, product) = (heads * head_width, &self.out.product);
        let answers = [product.m, product.k] == [batch * tq, width] && product.a == Matrix::rows(width);
        let plain = answers && *o == Tokens::packed(width) && dropout.is_none() && self.out.is_plain();
        plain && width.max(product.n) <= WIDEST && heads <= MOST_HEADS && Attention::serves(head_width)
    }
}

impl Describe for AttentionNorm {
    const NAME: &'static str = "attention_norm";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        let Attention { batch, heads, tq, head_width, .. } = self.attention;
        assert!(self.fits(), "a workgroup makes whole rows of all heads");
        let (groups, columns) = (batch * tq.div_ceil(8), self.out.product.n.max(heads * head_width));
        whole_rows(Dispatch::groups(shader!("attention_norm"), groups), columns, self.out.product.half_b)
    }

    fn params(&self) -> Vec<u32> {
        let Attention { heads, tq, tk, head_width, q, k, v, .. } = self.attention;
        let mut words = self.out.params();
        words.extend([heads, tq, tk, head_width / 4].map(word));
        words.extend([q, k, v].map(Tokens::params).as_flattened());
        words.push((self.attention.scale() as f32).to_bits());
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [q, b, bias, residual, gamma, beta, seen] = *io.inputs else {
            panic!("attention_norm has seven inputs")
        };
        let Attention { batch, heads, tq, .. } = self.attention;
        let mut answers = vec![T::ZERO; self.out.product.m * self.out.product.k];
        let mut lse = vec![T::ZERO; batch * heads * tq];
        let inputs = [q, seen, seen, Slice::Nothing];
        self.attention.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut answers, &mut lse] });
        let inputs = [Slice::F(&answers), b, bias, residual, gamma, beta];
        self.out.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut *io.outputs[0]] });
    }

    fn flops(&self) -> u64 {
        self.attention.flops() + self.out.flops()
    }
}

impl AttentionNorm {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |attention: Attention, n: usize, change: fn(Matmul) -> Matmul| {
            let [q, k, v, _] = attention.lens();
            let (m, width) = (attention.batch * attention.tq, attention.heads * attention.head_width);
            let plain = Matmul { b: Matrix::transposed(width), bias: Some(0), ..Matmul::new(m, width, n) };
            let product = change(Matmul { residual_rows: Some(m), ..plain });
            let residual = product.residual_rows.map_or(0, |rows| rows * n);
            let (bias, b) =
                (product.bias.map_or(0, |offset| offset + n), product.b.offset + (width + 4) * (n + 4));
            let name = format!("{}, to {n} {:?}", attention.title(), product.activation);
            let half = product.half_b;
            let kernel = Self { attention, out: MatmulNorm { product, eps: 1e-5 } };
            let case = Case::new(name, kernel).input(q);
            let case = if half { case.half_input(b) } else { case.input(b) };
            let case = if bias > 0 { case.input(bias) } else { case.data(Data::Nothing) };
            let case = if residual > 0 { case.input(residual) } else { case.data(Data::Nothing) };
            cases.push(case.input(n).input(n).input(k.max(v)).output(m * n));
        };
        // As in layers: queries, keys and values in one buffer, or queries in their own.
        let own = |batch, heads, tokens, head_width| {
            let width = heads * head_width;
            let [q, k, v] = [0, 1, 2].map(|part| Tokens::part(part, width, 3));
            Attention { q, k, v, ..Attention::new(batch, heads, tokens, tokens, head_width) }
        };
        let other = |batch, heads, tq, tk, head_width| {
            let [k, v] = [0, 1].map(|part| Tokens::part(part, heads * head_width, 2));
            Attention { k, v, ..Attention::new(batch, heads, tq, tk, head_width) }
        };
        for attention in
            [own(1, 2, 64, 32), own(3, 4, 17, 16), own(2, 2, 8, 32), own(1, 2, 33, 64), own(2, 5, 9, 4)]
        {
            let width = attention.heads * attention.head_width;
            add(attention, width, |product| product);
        }
        for attention in
            [other(2, 2, 8, 64, 32), other(1, 1, 1, 1, 8), other(3, 8, 7, 129, 8), other(1, 32, 9, 40, 4)]
        {
            let width = attention.heads * attention.head_width;
            add(attention, width, |product| product);
        }
        add(other(2, 3, 9, 20, 12), 31, |product| Matmul { bias: None, residual_rows: None, ..product });
        add(other(1, 3, 9, 20, 12), 44, |product| Matmul { activation: Activation::Gelu, ..product });
        add(own(1, 2, 5, 24), 64, |product| Matmul { residual_rows: Some(2), alpha: 0.5, ..product });
        add(own(1, 2, 5, 24), 64, |product| Matmul {
            b: Matrix::transposed(product.k + 4).at(4),
            bias: Some(5),
            ..product
        });
        add(own(1, 2, 5, 24), 48, |product| Matmul { half_b: true, ..product });
        // Answers narrower than a row, and wider, where the other has 128 columns.
        add(own(1, 2, 9, 12), 100, |product| product);
        add(own(1, 2, 9, 48), 20, |product| product);
        cases
    }
}
