//! Multi-head softmax attention: O = D ∘ softmax(s Q Kᵀ) V for each head, s = 1/√(head width).
//!
//! Vaswani et al., arXiv 1706.03762. With w the head width, for each batch entry b and head h:
//!
//! ```text
//! S[i, j] = s · Σ_c Q[i, c] K[j, c]                               i < tq, j < tk, c < w
//! L[i]    = ln Σ_j exp S[i, j]                                    "lse", kept for the backward pass
//! O[i, c] = Σ_j D[i, j] exp(S[i, j] − L[i]) V[j, c]               D = 1 without dropout
//! ```
//!
//! | binding | shape |
//! |---|---|
//! | q | `[batch * tq, heads * w]`, strided |
//! | k, v | `[batch * tk, heads * w]`, strided |
//! | control | `[4]`, or nothing without dropout; see [`super::dropout`] |
//! | o (out) | `[batch * tq, heads * w]`, strided |
//! | lse (out) | `[batch, heads, tq]` |
//!
//! Q, K and V may lie side by side in one buffer, which is then bound three times. The dropout mask D is element
//! ((b · heads + h) · tq + i) · tk + j of its site. Preconditions: w is a multiple of 4 of at most 128
//! ([`Attention::serves`]); offsets and strides are multiples of 4; tk > 0. The shader keeps a running maximum
//! and a running sum over tiles of keys (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., 2205.14135) from
//! the finite maximum −1e30 on. The backward pass is in [`super::attention_backward`].

use super::check::{Case, Data};
use super::dropout::{CONTROL, DropoutSite, Mask};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Slice, word};

/// Where a matrix of tokens, `[batch * tokens, heads * w]`, lies in its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    /// First element.
    pub offset: usize,
    /// Elements from one token to the next.
    pub stride: usize,
}

impl Tokens {
    /// Tokens of `width` elements, one after the other.
    pub fn packed(width: usize) -> Self {
        Self { offset: 0, stride: width }
    }

    /// Part `part` of tokens that hold several parts of `width` elements side by side, such as Q, K and V.
    pub fn part(part: usize, width: usize, parts: usize) -> Self {
        Self { offset: part * width, stride: parts * width }
    }

    /// One head's part of a token.
    pub(super) fn of<T>(self, data: &[T], token: usize, h: usize, width: usize) -> &[T] {
        let at = self.offset + token * self.stride + h * width;
        &data[at..at + width]
    }

    /// As [`Tokens::of`], to write to.
    pub(super) fn of_mut<T>(self, data: &mut [T], token: usize, h: usize, width: usize) -> &mut [T] {
        let at = self.offset + token * self.stride + h * width;
        &mut data[at..at + width]
    }

    /// Offset and stride in vec4s, as shaders count them.
    pub(super) fn params(self) -> [u32; 2] {
        assert!(
            self.offset.is_multiple_of(4) && self.stride.is_multiple_of(4),
            "attention reads whole vec4s"
        );
        [word(self.offset / 4), word(self.stride / 4)]
    }

    /// Elements of a binding that ends with the last of `count` tokens of `width` elements.
    pub(super) fn len(self, count: usize, width: usize) -> usize {
        count * self.stride + if self.offset + width > self.stride { self.offset } else { 0 }
    }
}

/// The attention. Inputs: q, k, v, control (or nothing). Outputs: o, lse.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Batch entries.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries of a batch entry.
    pub tq: usize,
    /// Keys of a batch entry.
    pub tk: usize,
    /// Channels of a head.
    pub head_width: usize,
    /// Where Q lies.
    pub q: Tokens,
    /// Where K lies.
    pub k: Tokens,
    /// Where V lies.
    pub v: Tokens,
    /// Where O lies.
    pub o: Tokens,
    /// Which of the probabilities are dropped, where any are.
    pub dropout: Option<DropoutSite>,
}

impl Attention {
    /// Attention without dropout over packed Q, K, V and O in bindings of their own.
    pub fn new(batch: usize, heads: usize, tq: usize, tk: usize, head_width: usize) -> Self {
        let packed = Tokens::packed(heads * head_width);
        let [q, k, v, o] = [packed; 4];
        Self { batch, heads, tq, tk, head_width, q, k, v, o, dropout: None }
    }

    /// Whether the shaders work with this head width.
    pub fn serves(head_width: usize) -> bool {
        head_width > 0 && head_width <= 128 && head_width.is_multiple_of(4)
    }

    /// Whether a subgroup of eight has an invocation for every vec4 of a head's channels, on adapters that run best by them.
    pub(super) fn fits_subgroup(&self, class: AdapterClass) -> bool {
        class == AdapterClass::SoftwareSubgroup && self.head_width <= 32
    }

    /// s.
    pub fn scale(&self) -> f64 {
        1.0 / (self.head_width as f64).sqrt()
    }

    /// The dropout factors of one head of one batch entry, `[tq, tk]`; all 1 without dropout.
    pub(super) fn factors<T: Float>(&self, control: Slice<'_, T>, head: usize, out: &mut [T]) {
        match self.dropout {
            Some(site) => Mask::new(site, control.words()).factors(word(head * self.tq * self.tk), out),
            None => out.fill(T::ONE),
        }
    }

    /// The words that all attention kernels share, in the order of `shaders/shared/attention.wgsl`.
    ///
    /// # Panics
    /// If the sizes are not served: checked where graphs are built.
    pub(super) fn shared_params(&self) -> Vec<u32> {
        assert!(Self::serves(self.head_width), "attention has no shader for heads of {}", self.head_width);
        let elements = self.batch * self.heads * self.tq * self.tk;
        assert!(
            self.dropout.is_none() || u32::try_from(elements).is_ok(),
            "a dropout site has 2^32 elements"
        );
        let sizes = [self.batch, self.heads, self.tq, self.tk, self.head_width / 4].map(word);
        let places = [self.q, self.k, self.v, self.o].map(Tokens::params);
        let mut words = [sizes.as_slice(), places.as_flattened()].concat();
        words.push((self.scale() as f32).to_bits());
        words.extend(DropoutSite::params(self.dropout));
        words
    }

    /// Floating-point operations of `products` of the size of Q Kᵀ.
    pub(super) fn products(&self, products: usize) -> u64 {
        (2 * products * self.batch * self.heads * self.tq * self.tk * self.head_width) as u64
    }
}

/// Σ a b.
#[inline(always)]
pub(super) fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).fold(T::ZERO, |sum, (&a, &b)| sum + a * b)
}

impl Describe for Attention {
    const NAME: &'static str = "attention";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let heads = self.batch * self.heads;
        match self.fits_subgroup(class) {
            true => Dispatch::groups(shader!("attention_subgroup"), heads * self.tq.div_ceil(8)),
            false => Dispatch::groups(shader!("attention"), heads * self.tq.div_ceil(16)),
        }
    }

    fn params(&self) -> Vec<u32> {
        self.shared_params()
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [q, k, v] = [0, 1, 2].map(|n| io.inputs[n].floats());
        let scale = T::of(self.scale());
        let mut weights = vec![T::ZERO; self.tk];
        let mut factors = vec![T::ONE; self.tq * self.tk];
        for head in 0..self.batch * self.heads {
            let (entry, h) = (head / self.heads, head % self.heads);
            self.factors(io.inputs[3], head, &mut factors);
            for i in 0..self.tq {
                let qi = self.q.of(q, entry * self.tq + i, h, self.head_width);
                let mut top = T::of(-1e30);
                for (j, weight) in weights.iter_mut().enumerate() {
                    *weight = scale * dot(qi, self.k.of(k, entry * self.tk + j, h, self.head_width));
                    top = top.larger(*weight);
                }
                let mut total = T::ZERO;
                for weight in &mut weights {
                    *weight = (*weight - top).exp();
                    total += *weight;
                }
                io.outputs[1][head * self.tq + i] = top + total.ln();
                let oi = self.o.of_mut(io.outputs[0], entry * self.tq + i, h, self.head_width);
                oi.fill(T::ZERO);
                for (j, (&weight, &factor)) in weights.iter().zip(&factors[i * self.tk..]).enumerate() {
                    let vj = self.v.of(v, entry * self.tk + j, h, self.head_width);
                    for (o, &v) in oi.iter_mut().zip(vj) {
                        *o += weight * factor / total * v;
                    }
                }
            }
        }
    }

    fn flops(&self) -> u64 {
        self.products(2)
    }
}

impl Attention {
    /// The shapes that attention and its gradients are tried on.
    pub(super) fn shapes() -> Vec<Self> {
        let mut shapes = Vec::new();
        for head_width in [8, 16, 20, 32, 64, 128] {
            shapes.push(Self::new(2, 2, 17, 17, head_width));
            shapes.push(Self::new(1, 3, 3, 65, head_width));
        }
        for (tq, tk) in [(1, 1), (63, 1), (1, 129), (65, 63), (129, 129)] {
            shapes.push(Self::new(1, 2, tq, tk, 12));
        }
        // A mask's counter covers eight keys: rows that begin on a counter, and rows that do not.
        for (tq, tk, head_width) in [(17, 64, 16), (64, 64, 64), (33, 17, 20), (3, 63, 8), (1, 1, 8)] {
            let dropout = Some(DropoutSite::new(7 + tq as u32, if tk > 17 { 0.1 } else { 0.5 }));
            shapes.push(Self { dropout, ..Self::new(2, 3, tq, tk, head_width) });
        }
        let (heads, head_width) = (2, 16);
        let width = heads * head_width;
        let [q, k, v] = [0, 1, 2].map(|part| Tokens::part(part, width, 3));
        let packed_qkv = Self { q, k, v, ..Self::new(3, heads, 33, 33, head_width) };
        let dropout = Some(DropoutSite::new(1, 0.25));
        let [k, v] = [0, 1].map(|part| Tokens::part(part, width, 2));
        let q = Tokens { offset: 8, stride: width + 4 };
        let o = Tokens { offset: 12, stride: width + 8 };
        let packed_kv = Self { q, k, v, o, ..Self::new(3, heads, 9, 40, head_width) };
        shapes.extend([Self { dropout, ..packed_qkv.clone() }, packed_qkv, packed_kv]);
        shapes
    }

    /// A case's name.
    pub(super) fn title(&self) -> String {
        let Self { batch, heads, tq, tk, head_width, dropout, .. } = self;
        let dropout = dropout.map_or(String::new(), |site| format!(" dropout {}", site.threshold));
        let packed = Tokens::packed(heads * head_width);
        let strided = if [self.q, self.k, self.v, self.o] == [packed; 4] { "" } else { " strided" };
        format!("{batch} x {heads} heads of {head_width}, {tq} on {tk}{dropout}{strided}")
    }

    /// Elements of Q, K, V and O.
    pub(super) fn lens(&self) -> [usize; 4] {
        let (queries, keys, width) =
            (self.batch * self.tq, self.batch * self.tk, self.heads * self.head_width);
        [
            self.q.len(queries, width),
            self.k.len(keys, width),
            self.v.len(keys, width),
            self.o.len(queries, width),
        ]
    }

    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        // More than 65,535 workgroups, a tile each.
        let folded = Self::new(65_537, 1, 1, 3, 8);
        let mut cases: Vec<Case> =
            Self::shapes().into_iter().chain([folded]).map(|kernel| kernel.case()).collect();
        // Scores that leave most weights zero.
        let mut peaked = Self::new(1, 2, 17, 65, 32).case();
        peaked.name.push_str(" peaked");
        if let Data::F(q) = &mut peaked.inputs[0] {
            q.iter_mut().for_each(|q| *q *= 8.0);
        }
        cases.push(peaked);
        cases
    }

    pub(super) fn case(&self) -> Case {
        let [q, k, v, o] = self.lens();
        let case = Case::new(self.title(), self.clone()).input(q).input(k).input(v);
        let control = self.dropout.map_or(Data::Nothing, |_| Data::U32(CONTROL.to_vec()));
        case.data(control).output(o).output(self.batch * self.heads * self.tq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Kernel, dropout};

    #[test]
    fn one_key_is_attended_wholly() {
        let case = Attention::new(2, 2, 3, 1, 8).case();
        let answers = case.reference();
        let Data::F(v) = &case.inputs[2] else { panic!("v is floats") };
        for (n, &o) in answers[0].iter().enumerate() {
            let (token, column) = (n / 16, n % 16);
            approx::assert_abs_diff_eq!(o, f64::from(v[token / 3 * 16 + column]), epsilon = 1e-12);
        }
    }

    #[test]
    fn attention_is_the_textbook_formula() {
        // Two queries, three keys, one head of four channels, worked out without a maximum.
        let kernel = Attention::new(1, 1, 2, 3, 4);
        let q = [0.3, -1.0, 0.5, 2.0, 1.0, 0.0, -0.7, 0.1];
        let k = [1.0, 0.2, 0.0, 0.4, -0.5, 0.6, 0.9, 1.1, 0.0, 0.3, -0.2, 0.8];
        let v: Vec<f64> = (0..12).map(|n| f64::from(n) * 0.25 - 1.0).collect();
        let (mut o, mut lse) = (vec![0.0; 8], vec![0.0; 2]);
        let inputs = [Slice::F(&q), Slice::F(&k), Slice::F(&v), Slice::Nothing];
        kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut o, &mut lse] });
        for i in 0..2 {
            let e = [0, 1, 2].map(|j| (dot(&q[4 * i..4 * i + 4], &k[4 * j..4 * j + 4]) / 2.0_f64).exp());
            let total: f64 = e.iter().sum();
            approx::assert_abs_diff_eq!(lse[i], total.ln(), epsilon = 1e-12);
            for c in 0..4 {
                let expected = (0..3).map(|j| e[j] / total * v[4 * j + c]).sum::<f64>();
                approx::assert_abs_diff_eq!(o[4 * i + c], expected, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn probabilities_are_dropped_by_the_mask_of_the_dropout_kernel() {
        // With V = 1 a head's output is Σ_j D P; with Q = 0 every P is 1/tk.
        let site = DropoutSite::new(5, 0.3);
        let (batch, heads, tq, tk) = (2, 3, 5, 11);
        let kernel = Attention { dropout: Some(site), ..Attention::new(batch, heads, tq, tk, 4) };
        let mut case = kernel.case();
        case.inputs[0] = Data::F(vec![0.0; batch * tq * heads * 4]);
        case.inputs[2] = Data::F(vec![1.0; batch * tk * heads * 4]);
        let o = case.reference().swap_remove(0);

        let len = batch * heads * tq * tk;
        let mask = dropout::Dropout { len, site, residual: false };
        let mask = Case::new("mask", Kernel::Dropout(mask)).floats(vec![1.0; len]);
        let mask = mask.data(Data::Nothing).data(Data::U32(CONTROL.to_vec())).output(len).reference();
        for (row, factors) in mask[0].chunks_exact(tk).enumerate() {
            let (entry, h, i) = (row / (heads * tq), row / tq % heads, row % tq);
            let expected = factors.iter().sum::<f64>() / tk as f64;
            approx::assert_abs_diff_eq!(o[(entry * tq + i) * heads * 4 + h * 4], expected, epsilon = 1e-12);
        }
    }

    #[test]
    fn what_lies_between_strided_tokens_is_left_alone() {
        let (d, parts) = (8, 3);
        let kernel = Attention { o: Tokens::part(1, d, parts), ..Attention::new(2, 2, 3, 3, 4) };
        let case = kernel.case();
        let o = case.reference().swap_remove(0);
        for (n, (&now, &before)) in o.iter().zip(&case.outputs[0]).enumerate() {
            let inside = n % (d * parts) / d == 1;
            assert_eq!(now != f64::from(before), inside, "element {n}");
        }
    }
}
