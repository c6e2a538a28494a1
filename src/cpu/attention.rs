//! Attention on the CPU: head by head through small matrix products, batch entries side by side.

use rayon::prelude::*;

use super::panel_product::{Finish, multiply};
use super::panels::{pack, panels_len};
use super::product::{Threads, View, gemm};
use super::scratch::scratch;
use super::simd::{exp, sum, sum2, vectorised};
use super::threads::worth_sharing;
use crate::kernels::attention::{Attention, Tokens};
use crate::kernels::attention_backward::{AttentionBackwardKeyValue, AttentionBackwardQuery};
use crate::kernels::dropout::Mask;
use crate::kernels::{Io, Slice};

/// One head of one batch entry.
#[derive(Clone, Copy)]
struct Head {
    entry: usize,
    head: usize,
    width: usize,
}

impl Head {
    /// The head's matrix [tokens, width] in a packed projection.
    fn view<'a>(&self, data: &'a [f32], place: Tokens, tokens: usize) -> View<'a> {
        let first = place.offset + self.entry * tokens * place.stride + self.head * self.width;
        View { data: &data[first..], row: place.stride, column: 1 }
    }
}

fn transposed(view: View<'_>) -> View<'_> {
    View { row: view.column, column: view.row, ..view }
}

fn packed(data: &[f32], columns: usize) -> View<'_> {
    View { data, row: columns, column: 1 }
}

/// The element factors of a head's probabilities, where some are dropped.
fn mask(attention: &Attention, control: Slice<'_, f32>, head: usize, out: &mut [f32]) -> bool {
    let Some(site) = attention.dropout else { return false };
    let first = (head * attention.tq * attention.tk) as u32;
    vectorised(
        #[inline(always)]
        || Mask::new(site, control.words()).factors(first, out),
    );
    true
}

/// Whether a kernel's batch is shared out over threads.
fn is_shared(attention: &Attention) -> bool {
    let Attention { batch, heads, tq, tk, head_width, .. } = *attention;
    batch > 1 && worth_sharing(batch * heads * tq * tk * head_width)
}

/// The forward pass.
pub fn forward(attention: &Attention, io: &mut Io<'_, '_, f32>) {
    let &Attention { heads, tq, tk, head_width: width, .. } = attention;
    let [q, k, v] = [0, 1, 2].map(|i| io.inputs[i].floats());
    let control = io.inputs[3];
    let scale = Finish::scaled(attention.scale() as f32);
    let [o, lse] = io.outputs else { panic!("attention has two outputs") };
    let dropped = if attention.dropout.is_some() { tq * tk } else { 0 };
    let lens = [tq * tk, panels_len(width, tk), panels_len(tk, width), dropped];
    let each = |(entry, (o, lse)): (usize, (&mut [f32], &mut [f32]))| {
        scratch(lens, |[scores, keys, values, factors]| {
            for head in 0..heads {
                let at = Head { entry, head, width };
                pack(transposed(at.view(k, attention.k, tk)), [width, tk], keys);
                multiply([tq, width, tk], at.view(q, attention.q, tq), keys, scores, tk, scale);
                softmax(scores, tk, &mut lse[head * tq..]);
                if mask(attention, control, entry * heads + head, factors) {
                    vectorised(
                        #[inline(always)]
                        || scores.iter_mut().zip(&*factors).for_each(|(s, &f)| *s *= f),
                    );
                }
                pack(at.view(v, attention.v, tk), [tk, width], values);
                let o = &mut o[head * width..];
                let scores = packed(scores, tk);
                multiply([tq, tk, width], scores, values, o, attention.o.stride, Finish::scaled(1.0));
            }
        });
    };
    let o = &mut o[attention.o.offset..];
    let (rows, heads_rows) = (tq * attention.o.stride, heads * tq);
    if is_shared(attention) {
        o.par_chunks_mut(rows).zip(lse.par_chunks_mut(heads_rows)).enumerate().for_each(each);
    } else {
        o.chunks_mut(rows).zip(lse.chunks_mut(heads_rows)).enumerate().for_each(each);
    }
}

/// Rows of scores become probabilities; `lse` gets each row's ln Σ exp.
fn softmax(scores: &mut [f32], tk: usize, lse: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (row, lse) in scores.chunks_exact_mut(tk).zip(lse) {
                let top = max(row);
                for s in row.iter_mut() {
                    *s = exp(*s - top);
                }
                let total = sum(row, |s| s);
                *lse = top + total.ln();
                let share = 1.0 / total;
                for s in row.iter_mut() {
                    *s *= share;
                }
            }
        },
    );
}

/// The largest value, in eight running maxima.
#[inline(always)]
fn max(row: &[f32]) -> f32 {
    let mut tops = [-1e30_f32; 8];
    let chunks = row.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (top, &s) in tops.iter_mut().zip(chunk) {
            *top = if s > *top { s } else { *top };
        }
    }
    tops.iter().chain(rest).fold(-1e30, |top, &s| if s > top { s } else { top })
}

/// A head's matrices [tq, tk] in the backward pass.
struct Matrices {
    /// Probabilities, dropped out.
    p: Vec<f32>,
    /// Gradient of the scores before scaling, times the scale.
    d_s: Vec<f32>,
    factors: Vec<f32>,
}

impl Matrices {
    fn new(attention: &Attention) -> Self {
        let size = attention.tq * attention.tk;
        let factors = vec![1.0; if attention.dropout.is_some() { size } else { 0 }];
        Self { p: vec![0.0; size], d_s: vec![0.0; size], factors }
    }

    /// Fills them for one head from the kernel's inputs q, k, v, control, o, d_o, lse.
    fn fill(&mut self, attention: &Attention, d_o: Tokens, inputs: &[Slice<'_, f32>], at: Head) {
        let &Attention { heads, tq, tk, head_width: width, .. } = attention;
        let [q, k, v, o, gradient, lse] = [0, 1, 2, 4, 5, 6].map(|i| inputs[i].floats());
        let scale = attention.scale() as f32;
        let number = at.entry * heads + at.head;
        let keys = transposed(at.view(k, attention.k, tk));
        gemm(Threads::One, [tq, width, tk], at.view(q, attention.q, tq), keys, &mut self.p, tk, scale, false);
        let values = transposed(at.view(v, attention.v, tk));
        let gradient = at.view(gradient, d_o, tq);
        gemm(Threads::One, [tq, width, tk], gradient, values, &mut self.d_s, tk, 1.0, false);
        let dropped = mask(attention, inputs[3], number, &mut self.factors);
        let o = at.view(o, attention.o, tq);
        vectorised(
            #[inline(always)]
            || {
                let rows = self.p.chunks_exact_mut(tk).zip(self.d_s.chunks_exact_mut(tk));
                for (i, (p, d_s)) in rows.enumerate() {
                    let delta = sum2(
                        &gradient.data[i * gradient.row..][..width],
                        &o.data[i * o.row..][..width],
                        |g, o| g * o,
                    );
                    let lse = lse[number * tq + i];
                    if dropped {
                        let factors = &self.factors[i * tk..][..tk];
                        for ((p, d_s), &factor) in p.iter_mut().zip(d_s).zip(factors) {
                            let whole = exp(*p - lse);
                            *d_s = scale * whole * (factor * *d_s - delta);
                            *p = factor * whole;
                        }
                    } else {
                        for (p, d_s) in p.iter_mut().zip(d_s) {
                            *p = exp(*p - lse);
                            *d_s = scale * *p * (*d_s - delta);
                        }
                    }
                }
            },
        );
    }
}

/// dQ.
pub fn backward_query(kernel: &AttentionBackwardQuery, io: &mut Io<'_, '_, f32>) {
    let attention = &kernel.attention;
    let &Attention { heads, tq, tk, head_width: width, .. } = attention;
    let inputs = io.inputs;
    let stride = kernel.d_q.stride;
    let each = |(entry, d_q): (usize, &mut [f32])| {
        let mut matrices = Matrices::new(attention);
        for head in 0..heads {
            let at = Head { entry, head, width };
            matrices.fill(attention, kernel.d_o, inputs, at);
            let keys = at.view(inputs[1].floats(), attention.k, tk);
            gemm(
                Threads::One,
                [tq, tk, width],
                packed(&matrices.d_s, tk),
                keys,
                &mut d_q[head * width..],
                stride,
                1.0,
                false,
            );
        }
    };
    let d_q = &mut io.outputs[0][kernel.d_q.offset..];
    if is_shared(attention) {
        d_q.par_chunks_mut(tq * stride).take(attention.batch).enumerate().for_each(each);
    } else {
        d_q.chunks_mut(tq * stride).take(attention.batch).enumerate().for_each(each);
    }
}

/// dK and dV. Only those that lie side by side in the same rows have a fast body; says whether it ran.
pub fn backward_key_value(kernel: &AttentionBackwardKeyValue, io: &mut Io<'_, '_, f32>) -> bool {
    let attention = &kernel.attention;
    let &Attention { heads, tq, tk, head_width: width, .. } = attention;
    let inputs = io.inputs;
    let stride = kernel.d_k.stride;
    let first = kernel.d_k.offset.min(kernel.d_v.offset);
    let last = kernel.d_k.offset.max(kernel.d_v.offset) - first + heads * width;
    if kernel.d_v.stride != stride || last > stride {
        return false;
    }
    let each = |(entry, d_kv): (usize, &mut [f32])| {
        let mut matrices = Matrices::new(attention);
        for head in 0..heads {
            let at = Head { entry, head, width };
            matrices.fill(attention, kernel.d_o, inputs, at);
            let queries = at.view(inputs[0].floats(), attention.q, tq);
            let gradient = at.view(inputs[5].floats(), kernel.d_o, tq);
            for (place, left, right) in
                [(kernel.d_k, &matrices.d_s, queries), (kernel.d_v, &matrices.p, gradient)]
            {
                let column = place.offset - first + head * width;
                let left = transposed(packed(left, tk));
                gemm(Threads::One, [tk, tq, width], left, right, &mut d_kv[column..], stride, 1.0, false);
            }
        }
    };
    let d_kv = &mut io.outputs[0][first..];
    if is_shared(attention) {
        d_kv.par_chunks_mut(tk * stride).take(attention.batch).enumerate().for_each(each);
    } else {
        d_kv.chunks_mut(tk * stride).take(attention.batch).enumerate().for_each(each);
    }
    true
}
