//! Attention on the CPU: head by head through small matrix products, batch entries side by side.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::panel_product::{Finish, multiply, multiply_block};
use super::panels::{Layout, Operands, pack, panels_len};
use super::product::{Threads, View, gemm};
use super::scratch::{LINE, Line, lines, scratch};
use super::simd::{arch, each_vector, exp, exps, ln, max, sum2, vectorised};
use super::threads::{each_chunk, worth_sharing};
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

/// What belongs to batch entries of `len` elements in all; behind an offset the last entry is shorter.
fn of_entries(data: &mut [f32], len: usize) -> &mut [f32] {
    let len = len.min(data.len());
    &mut data[..len]
}

/// Queries of a batch entry, so few that panels of keys and values are worth being kept for other launches.
const FEW: usize = 16;

/// Where the keys, transposed, and the values of each batch entry and head lie, and in which input, if an attention is
/// faster with panels of them, as long as these are packed once for many launches.
pub fn wants_panels(attention: &Attention) -> Vec<(usize, Layout)> {
    let &Attention { batch, heads, tq, tk, head_width: width, k, v, .. } = attention;
    if tq > FEW || attention.dropout.is_some() {
        return Vec::new();
    }
    let place = |part: Tokens, entry, head| part.offset + entry * tk * part.stride + head * width;
    let of_head = |head: usize| {
        let (entry, head) = (head / heads, head % heads);
        let keys = Layout { offset: place(k, entry, head), row: 1, column: k.stride, k: width, n: tk };
        let values = Layout { offset: place(v, entry, head), row: v.stride, column: 1, k: tk, n: width };
        [(1, keys), (2, values)]
    };
    (0..batch * heads).flat_map(of_head).collect()
}

/// The forward pass. `kept` has the panels that [`wants_panels`] asks for.
pub fn forward(attention: &Attention, kept: Option<Operands<'_>>, io: &mut Io<'_, '_, f32>) {
    let &Attention { heads, tq, tk, head_width: width, .. } = attention;
    let [o, lse] = io.outputs else { panic!("attention has two outputs") };
    let inputs = io.inputs;
    let scores = tq.min(QUERIES) * tk.next_multiple_of(LINE);
    let dropped = if attention.dropout.is_some() { tq * tk } else { 0 };
    let lens = match kept {
        Some(_) => [scores, 0, 0, 0],
        None => [scores, panels_len(width, tk), panels_len(tk, width), dropped],
    };
    let each = |(entry, (o, lse)): (usize, (&mut [f32], &mut [f32]))| {
        scratch(lens, |[scores, keys, values, factors]| {
            for (head, lse) in lse.chunks_exact_mut(tq).enumerate() {
                let at = Head { entry, head, width };
                let number = entry * heads + head;
                let dropped = mask(attention, inputs[3], number, factors);
                let factors = dropped.then_some(&*factors);
                let queries = at.view(inputs[0].floats(), attention.q, tq);
                let o = &mut o[head * width..];
                let mut attend = |keys: &[f32], values: &[f32]| {
                    arch().dispatch(Attend { attention, queries, keys, values, factors, scores, o, lse });
                };
                if let Some(kept) = kept {
                    attend(kept.read(2 * number).as_ref(), kept.read(2 * number + 1).as_ref());
                } else {
                    pack(transposed(at.view(inputs[1].floats(), attention.k, tk)), [width, tk], keys);
                    pack(at.view(inputs[2].floats(), attention.v, tk), [tk, width], values);
                    attend(keys, values);
                }
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

/// Queries that are answered together: what they score stays in the first-level cache.
const QUERIES: usize = LINE;

/// One head of one batch entry.
struct Attend<'a> {
    attention: &'a Attention,
    queries: View<'a>,
    /// Transposed, in panels.
    keys: &'a [f32],
    /// In panels.
    values: &'a [f32],
    /// [tq, tk], where some probabilities are dropped.
    factors: Option<&'a [f32]>,
    /// Room for the scores of [`QUERIES`], whole cache lines to a row.
    scores: &'a mut [f32],
    /// Rows of the head's answers, as far apart as the attention says.
    o: &'a mut [f32],
    lse: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let &Attention { tk, head_width: width, .. } = self.attention;
        let (stride, scale) = (tk.next_multiple_of(LINE), self.attention.scale() as f32);
        let answers = self.o.chunks_mut(QUERIES * self.attention.o.stride);
        for (block, (lse, answers)) in self.lse.chunks_mut(QUERIES).zip(answers).enumerate() {
            let first = block * QUERIES;
            let queries = View { data: &self.queries.data[first * self.queries.row..], ..self.queries };
            let scores = &mut self.scores[..lse.len() * stride];
            multiply_block(simd, [width, tk], queries, self.keys, scores, stride, Finish::scaled(1.0));
            let shares = weigh(simd, scores, tk, scale, lse);
            if let Some(factors) = self.factors {
                let rows = scores.chunks_exact_mut(stride).zip(factors[first * tk..].chunks_exact(tk));
                rows.for_each(|(s, f)| s.iter_mut().zip(f).for_each(|(s, &f)| *s *= f));
            }
            let scores = packed(scores, stride);
            let stride = self.attention.o.stride;
            multiply_block(simd, [tk, width], scores, self.values, answers, stride, Finish::scaled(1.0));
            for (i, answer) in answers.chunks_mut(stride).enumerate() {
                each_vector(simd, &mut answer[..width], |_, x| simd.mul_f32s(x, simd.splat_f32s(shares[i])));
            }
        }
    }
}

/// At most [`LINE`] rows of `tk` scores, whole cache lines apart, become weights, the largest of each row one; what makes
/// them probabilities is returned, a factor for each row. `scale` times each score is what counts; `lse` gets each row's
/// ln Σ exp. What lies behind a row's scores takes part with a weight of nothing, so that every loop is over whole lines.
/// Each of the loops is over all rows, so that a row's reduction is made while the next one's is begun; zipped, they would
/// divide to count their rows.
#[inline(always)]
pub fn weigh<S: Simd>(simd: S, scores: &mut [f32], tk: usize, scale: f32, lse: &mut [f32]) -> [f32; LINE] {
    let stride = tk.next_multiple_of(LINE);
    let (mut tops, mut totals) = ([0.0; LINE], [1.0; LINE]);
    for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
        row[tk..].fill(-1e30);
        tops[i] = scale * max(simd, row);
    }
    for (i, row) in scores.chunks_exact_mut(stride).enumerate() {
        let (scale, down) = (simd.splat_f32s(scale), simd.splat_f32s(-tops[i]));
        let mut sums = simd.splat_f32s(0.0);
        for x in S::as_mut_simd_f32s(row).0 {
            *x = exps(simd, simd.mul_add_e_f32s(scale, *x, down));
            sums = simd.add_f32s(sums, *x);
        }
        totals[i] = simd.reduce_sum_f32s(sums);
    }
    let (mut logs, mut shares) = ([0.0; LINE], [0.0; LINE]);
    for (((log, share), &top), &total) in logs.iter_mut().zip(&mut shares).zip(&tops).zip(&totals) {
        (*log, *share) = (top + ln(total), 1.0 / total);
    }
    lse.copy_from_slice(&logs[..lse.len()]);
    shares
}

/// A head's matrices [tq, tk] in the backward pass.
struct Matrices {
    /// Probabilities, dropped out.
    p: Vec<f32>,
    /// Gradient of the scores before scaling, times the scale.
    d_s: Vec<f32>,
    factors: Vec<f32>,
    /// Whatever is the right operand at the moment.
    panels: Vec<Line>,
}

impl Matrices {
    fn new(attention: &Attention) -> Self {
        let &Attention { tq, tk, head_width: width, .. } = attention;
        let size = tq * tk;
        let factors = vec![1.0; if attention.dropout.is_some() { size } else { 0 }];
        let panels = lines(panels_len(width, tk).max(panels_len(tk, width)));
        Self { p: vec![0.0; size], d_s: vec![0.0; size], factors, panels }
    }

    /// The operand [k, n], in panels.
    fn packed<'a>(panels: &'a mut [Line], operand: View<'_>, [k, n]: [usize; 2]) -> &'a [f32] {
        let panels: &mut [f32] = bytemuck::cast_slice_mut(panels);
        pack(operand, [k, n], panels);
        panels
    }

    /// Fills them for one head from the kernel's inputs q, k, v, control, o, d_o, lse.
    fn fill(&mut self, attention: &Attention, d_o: Tokens, inputs: &[Slice<'_, f32>], at: Head) {
        let &Attention { heads, tq, tk, head_width: width, .. } = attention;
        let [q, k, v, o, gradient, lse] = [0, 1, 2, 4, 5, 6].map(|i| inputs[i].floats());
        let scale = attention.scale() as f32;
        let number = at.entry * heads + at.head;
        let keys = transposed(at.view(k, attention.k, tk));
        let keys = Self::packed(&mut self.panels, keys, [width, tk]);
        let queries = at.view(q, attention.q, tq);
        multiply([tq, width, tk], queries, keys, &mut self.p, tk, Finish::scaled(scale));
        let values = transposed(at.view(v, attention.v, tk));
        let values = Self::packed(&mut self.panels, values, [width, tk]);
        let gradient = at.view(gradient, d_o, tq);
        multiply([tq, width, tk], gradient, values, &mut self.d_s, tk, Finish::scaled(1.0));
        let dropped = mask(attention, inputs[3], number, &mut self.factors);
        let o = at.view(o, attention.o, tq);
        let gradient = |i: usize| &gradient.data[i * gradient.row..][..width];
        let answer = |i: usize| &o.data[i * o.row..][..width];
        let lse = &lse[number * tq..][..tq];
        let factors = dropped.then_some(&self.factors[..]);
        let (p, d_s) = (&mut self.p[..], &mut self.d_s[..]);
        arch().dispatch(ScoreGradients { p, d_s, tk, factors, gradient, answer, lse, scale });
    }
}

/// Scores in `p` and the gradients of probabilities in `d_s` become dropped-out probabilities and gradients of scores.
struct ScoreGradients<'a, G, O> {
    p: &'a mut [f32],
    d_s: &'a mut [f32],
    tk: usize,
    factors: Option<&'a [f32]>,
    /// A query's gradient.
    gradient: G,
    /// A query's answer.
    answer: O,
    lse: &'a [f32],
    scale: f32,
}

impl<'a, G: Fn(usize) -> &'a [f32], O: Fn(usize) -> &'a [f32]> WithSimd for ScoreGradients<'a, G, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tk, scale, .. } = self;
        let rows = self.p.chunks_exact_mut(tk).zip(self.d_s.chunks_exact_mut(tk));
        for (i, (p, d_s)) in rows.enumerate() {
            let delta = sum2(simd, (self.gradient)(i), (self.answer)(i), |g, o| g * o);
            let lse = self.lse[i];
            if let Some(factors) = self.factors {
                for ((p, d_s), &factor) in p.iter_mut().zip(d_s).zip(&factors[i * tk..][..tk]) {
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
            let keys = Matrices::packed(&mut matrices.panels, keys, [tk, width]);
            let d_s = packed(&matrices.d_s, tk);
            multiply([tq, tk, width], d_s, keys, &mut d_q[head * width..], stride, Finish::scaled(1.0));
        }
    };
    let d_q = of_entries(&mut io.outputs[0][kernel.d_q.offset..], attention.batch * tq * stride);
    each_chunk(is_shared(attention), d_q, tq * stride, each);
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
    let d_kv = of_entries(&mut io.outputs[0][first..], attention.batch * tk * stride);
    each_chunk(is_shared(attention), d_kv, tk * stride, each);
    true
}
