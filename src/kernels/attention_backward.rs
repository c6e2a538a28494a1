//! Gradients of softmax attention, with the words of [`super::attention`].
//!
//! Probabilities are recomputed from L instead of kept (Dao et al., arXiv 2205.14135). With dO = ∂loss/∂O:
//!
//! ```text
//! P[i, j]  = exp(S[i, j] − L[i])
//! δ[i]     = Σ_c dO[i, c] O[i, c]                                 = Σ_j P dP, with dropout as well
//! dV[j, c] = Σ_i D[i, j] P[i, j] dO[i, c]
//! dP[i, j] = D[i, j] Σ_c dO[i, c] V[j, c]
//! dS[i, j] = P[i, j] (dP[i, j] − δ[i])
//! dQ[i, c] = s Σ_j dS[i, j] K[j, c]            by `AttentionBackwardQuery`
//! dK[j, c] = s Σ_i dS[i, j] Q[i, c]            by `AttentionBackwardKeyValue`, with dV
//! ```
//!
//! Both kernels read the same bindings, and each makes δ for itself: a dot product beside the tq or tk that
//! every row takes part in.
//!
//! | binding | shape |
//! |---|---|
//! | q | `[batch * tq, heads * w]`, strided |
//! | k, v | `[batch * tk, heads * w]`, strided |
//! | control | `[4]`, or nothing without dropout |
//! | o, d_o | `[batch * tq, heads * w]`, strided |
//! | lse | `[batch, heads, tq]` |
//! | d_q (out) | `[batch * tq, heads * w]`, strided |
//! | d_kv (out) | dK and dV, `[batch * tk, heads * w]` each, strided, in one binding |
//!
//! Only the elements of a gradient are written, so that dQ, dK and dV may lie side by side in one buffer that
//! both launches write to. Every sum is made by one invocation in a fixed order: no atomics, the same bits run
//! after run.

use super::attention::{Attention, Tokens, dot};
use super::check::{Case, Data};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io};

/// dQ. Inputs: q, k, v, control (or nothing), o, d_o, lse. Outputs: d_q.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionBackwardQuery {
    /// The attention whose gradient this is.
    pub attention: Attention,
    /// Where dO lies.
    pub d_o: Tokens,
    /// Where dQ goes.
    pub d_q: Tokens,
}

/// dK and dV. Inputs: q, k, v, control (or nothing), o, d_o, lse. Outputs: d_kv.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionBackwardKeyValue {
    /// The attention whose gradient this is.
    pub attention: Attention,
    /// Where dO lies.
    pub d_o: Tokens,
    /// Where dK goes.
    pub d_k: Tokens,
    /// Where dV goes, in the same binding.
    pub d_v: Tokens,
}

/// One head of one batch entry, by its `[tq, tk]` matrices.
struct Head<T> {
    /// D P.
    weights: Vec<T>,
    /// dS.
    d_s: Vec<T>,
}

impl Attention {
    /// Runs `each` with every head's D P and dS; its arguments are batch entry, head and matrices.
    fn heads_backward<T: Float>(
        &self,
        d_o: Tokens,
        io: &mut Io<'_, '_, T>,
        mut each: impl FnMut(usize, usize, &Head<T>, &mut [T]),
    ) {
        let [q, k, v, o, gradient, lse] = [0, 1, 2, 4, 5, 6].map(|n| io.inputs[n].floats());
        let (width, scale) = (self.head_width, T::of(self.scale()));
        let matrix = || vec![T::ZERO; self.tq * self.tk];
        let mut head_of = Head { weights: matrix(), d_s: matrix() };
        for head in 0..self.batch * self.heads {
            let (entry, h) = (head / self.heads, head % self.heads);
            self.factors(io.inputs[3], head, &mut head_of.weights);
            for i in 0..self.tq {
                let token = entry * self.tq + i;
                let (qi, gi) = (self.q.of(q, token, h, width), d_o.of(gradient, token, h, width));
                let delta = dot(gi, self.o.of(o, token, h, width));
                for j in 0..self.tk {
                    let token = entry * self.tk + j;
                    let score = scale * dot(qi, self.k.of(k, token, h, width));
                    let p = (score - lse[head * self.tq + i]).exp();
                    let factor = head_of.weights[i * self.tk + j];
                    let d_p = factor * dot(gi, self.v.of(v, token, h, width));
                    head_of.weights[i * self.tk + j] = factor * p;
                    head_of.d_s[i * self.tk + j] = p * (d_p - delta);
                }
            }
            each(entry, h, &head_of, io.outputs[0]);
        }
    }

    /// A case of a gradient: its inputs are the forward kernel's, what that makes of them, and noise as dO.
    fn backward_case(&self, kernel: impl Into<super::Kernel>, d_o: usize) -> Case {
        let forward = self.case();
        let [o, lse] = [0, 1].map(|n| forward.reference()[n].iter().map(|&x| x as f32).collect());
        let mut case = Case::new(self.title(), kernel);
        case.inputs.clone_from(&forward.inputs);
        case.data(Data::F(o)).input(d_o).data(Data::F(lse))
    }
}

/// sums[..] += factor · row[..].
#[inline(always)]
fn add<T: Float>(sums: &mut [T], factor: T, row: &[T]) {
    for (sum, &x) in sums.iter_mut().zip(row) {
        *sum += factor * x;
    }
}

impl Describe for AttentionBackwardQuery {
    const NAME: &'static str = "attention_backward_query";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let Attention { batch, heads, tq, .. } = self.attention;
        match self.attention.fits_subgroup(class) {
            true => {
                let tiles = batch * heads * tq.div_ceil(8);
                Dispatch::groups(shader!("attention_backward_query_subgroup"), tiles)
            }
            false => Dispatch::groups(shader!("attention_backward_query"), batch * heads * tq.div_ceil(16)),
        }
    }

    fn params(&self) -> Vec<u32> {
        let places = [self.d_o, self.d_q].map(Tokens::params);
        [self.attention.shared_params().as_slice(), places.as_flattened()].concat()
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let Attention { tq, tk, head_width: width, k: place, .. } = self.attention;
        let (k, scale) = (io.inputs[1].floats(), T::of(self.attention.scale()));
        self.attention.heads_backward(self.d_o, io, |entry, h, head, out| {
            for i in 0..tq {
                let sums = self.d_q.of_mut(out, entry * tq + i, h, width);
                sums.fill(T::ZERO);
                for j in 0..tk {
                    add(sums, scale * head.d_s[i * tk + j], place.of(k, entry * tk + j, h, width));
                }
            }
        });
    }

    fn flops(&self) -> u64 {
        self.attention.products(3)
    }
}

impl Describe for AttentionBackwardKeyValue {
    const NAME: &'static str = "attention_backward_key_value";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let Attention { batch, heads, tk, .. } = self.attention;
        match self.attention.fits_subgroup(class) {
            true => {
                let tiles = batch * heads * tk.div_ceil(8);
                Dispatch::groups(shader!("attention_backward_key_value_subgroup"), tiles)
            }
            false => {
                Dispatch::groups(shader!("attention_backward_key_value"), batch * heads * tk.div_ceil(16))
            }
        }
    }

    fn params(&self) -> Vec<u32> {
        // The block has dQ's place between those of dO and dK; this kernel leaves it empty.
        let places = [self.d_o, Tokens { offset: 0, stride: 0 }, self.d_k, self.d_v].map(Tokens::params);
        [self.attention.shared_params().as_slice(), places.as_flattened()].concat()
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let Attention { tq, tk, head_width: width, q: place, .. } = self.attention;
        let [q, gradient] = [0, 5].map(|n| io.inputs[n].floats());
        let scale = T::of(self.attention.scale());
        self.attention.heads_backward(self.d_o, io, |entry, h, head, out| {
            for j in 0..tk {
                self.d_k.of_mut(out, entry * tk + j, h, width).fill(T::ZERO);
                self.d_v.of_mut(out, entry * tk + j, h, width).fill(T::ZERO);
                for i in 0..tq {
                    let (at, token) = (i * tk + j, entry * tq + i);
                    let d_k = self.d_k.of_mut(out, entry * tk + j, h, width);
                    add(d_k, scale * head.d_s[at], place.of(q, token, h, width));
                    let d_v = self.d_v.of_mut(out, entry * tk + j, h, width);
                    add(d_v, head.weights[at], self.d_o.of(gradient, token, h, width));
                }
            }
        });
    }

    fn flops(&self) -> u64 {
        self.attention.products(4)
    }
}

impl AttentionBackwardQuery {
    /// The gradient of an attention, its dO and dQ laid out like O and Q.
    pub fn of(attention: Attention) -> Self {
        Self { d_o: attention.o, d_q: attention.q, attention }
    }

    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |attention: Attention| {
            let [d_q, _, _, d_o] = attention.lens();
            attention.backward_case(Self::of(attention.clone()), d_o).output(d_q)
        };
        // With one key dS is zero, and an answer would be rounding beside rounding.
        Attention::shapes().into_iter().filter(|attention| attention.tk > 1).map(case).collect()
    }
}

impl AttentionBackwardKeyValue {
    /// The gradient of an attention: dO laid out like O, dK and dV side by side as tokens of `[dK, dV]`.
    pub fn of(attention: Attention) -> Self {
        let width = attention.heads * attention.head_width;
        let [d_k, d_v] = [0, 1].map(|part| Tokens::part(part, width, 2));
        Self { d_o: attention.o, d_k, d_v, attention }
    }

    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |attention: Attention| {
            let width = attention.heads * attention.head_width;
            let mut kernel = Self::of(attention.clone());
            if attention.k.stride == 3 * width {
                (kernel.d_k, kernel.d_v) = (attention.k, attention.v);
            }
            let len = kernel.d_v.len(attention.batch * attention.tk, width);
            attention.backward_case(kernel, attention.lens()[3]).output(len)
        };
        Attention::shapes().into_iter().map(case).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Slice;
    use crate::kernels::dropout::{CONTROL, DropoutSite};
    use crate::rng::{Rng, Stream};

    /// Every element of dQ, dK and dV beside the central difference of Σ weights · O.
    fn check(kernel: &Attention) {
        let mut rng = Rng::new(5, Stream::Init, 0, 0);
        let mut noise = |len: usize| (0..len).map(|_| rng.normal()).collect::<Vec<f64>>();
        let [q, k, v, o] = kernel.lens();
        let (parts, d_o) = ([noise(q), noise(k), noise(v)], noise(o));
        let forward = |parts: &[Vec<f64>; 3]| {
            let (mut o, mut lse) = (vec![0.0; o], vec![0.0; kernel.batch * kernel.heads * kernel.tq]);
            let inputs = [&parts[0], &parts[1], &parts[2]].map(|part| Slice::F(part.as_slice()));
            let inputs = [inputs.as_slice(), &[Slice::U32(&CONTROL)]].concat();
            kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut o, &mut lse] });
            (o, lse)
        };

        let (o, lse) = forward(&parts);
        let inputs = [
            Slice::F(&parts[0]),
            Slice::F(&parts[1]),
            Slice::F(&parts[2]),
            Slice::U32(&CONTROL),
            Slice::F(&o),
            Slice::F(&d_o),
            Slice::F(&lse),
        ];
        let query = AttentionBackwardQuery::of(kernel.clone());
        let mut d_q = vec![0.0; q];
        query.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut d_q] });
        let key_value = AttentionBackwardKeyValue::of(kernel.clone());
        let width = kernel.heads * kernel.head_width;
        let mut d_kv = vec![0.0; 2 * kernel.batch * kernel.tk * width];
        key_value.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut d_kv] });

        let mut moved = parts.clone();
        let places = [(kernel.q, query.d_q), (kernel.k, key_value.d_k), (kernel.v, key_value.d_v)];
        let tokens = [kernel.tq, kernel.tk, kernel.tk].map(|tokens| tokens * kernel.batch);
        for part in 0..3 {
            let (place, gradient_place) = places[part];
            let gradients = [&d_q, &d_kv, &d_kv][part];
            for n in 0..tokens[part] * width {
                let (token, column) = (n / width, n % width);
                let at = place.offset + token * place.stride + column;
                let (x, h) = (parts[part][at], 1e-5);
                let mut loss = |x: f64| {
                    moved[part][at] = x;
                    dot(&forward(&moved).0, &d_o)
                };
                let difference = (loss(x + h) - loss(x - h)) / (2.0 * h);
                moved[part][at] = x;
                let gradient = gradients[gradient_place.offset + token * gradient_place.stride + column];
                approx::assert_abs_diff_eq!(gradient, difference, epsilon = 1e-8);
            }
        }
    }

    #[test]
    fn gradients_are_the_finite_differences_of_attention() {
        check(&Attention::new(2, 2, 3, 5, 4));
    }

    #[test]
    fn gradients_under_dropout_are_finite_differences_under_the_same_mask() {
        let dropout = Some(DropoutSite::new(3, 0.4));
        check(&Attention { dropout, ..Attention::new(2, 3, 4, 7, 4) });
    }

    #[test]
    fn gradients_of_strided_tokens_are_finite_differences() {
        let width = 8;
        let [q, k, v] = [0, 1, 2].map(|part| Tokens::part(part, width, 3));
        let o = Tokens { offset: 4, stride: 12 };
        let dropout = Some(DropoutSite::new(3, 0.2));
        check(&Attention { q, k, v, o, dropout, ..Attention::new(2, 2, 3, 3, 4) });
    }
}
