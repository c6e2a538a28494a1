//! Attention of few queries, whose keys and values are in panels: all heads of a sample together.

use pulp::{Simd, WithSimd};

use super::attention::weigh;
use super::panel_product::{Finish, multiply_block};
use super::panels::{pack, panels_len};
use super::product::View;
use super::scratch::LINE;
use super::simd::{arch, each_vector};

/// The sizes.
#[derive(Clone, Copy)]
pub struct Heads {
    pub heads: usize,
    /// Queries of a sample.
    pub queries: usize,
    /// Keys of a sample.
    pub keys: usize,
    /// Channels of a head.
    pub width: usize,
}

impl Heads {
    /// Floats that a sample's keys and values take in panels.
    pub fn panels_len(self) -> usize {
        self.heads * (panels_len(self.width, self.keys) + panels_len(self.keys, self.width))
    }

    /// Floats that a sample's scores take.
    pub fn scores_len(self) -> usize {
        self.heads * self.queries * self.keys.next_multiple_of(LINE)
    }

    /// Tokens that have the keys of all heads, then their values: as many samples' as `panels` have room for, head by head
    /// the keys, transposed, and the values.
    pub fn pack(self, tokens: &[f32], row: usize, panels: &mut [f32]) {
        let Self { heads, keys, width, .. } = self;
        let of_head = self.panels_len() / heads;
        for (number, panels) in panels.chunks_exact_mut(of_head).enumerate() {
            let (sample, head) = (number / heads, number % heads);
            let (to_keys, to_values) = panels.split_at_mut(panels_len(width, keys));
            let data = &tokens[sample * keys * row + head * width..];
            pack(View { data, row: 1, column: row }, [width, keys], to_keys);
            pack(View { data: &data[heads * width..], row, column: 1 }, [keys, width], to_values);
        }
    }

    /// What the queries, in rows of `row`, find among keys and values in panels.
    pub fn attend(
        self,
        queries: &[f32],
        row: usize,
        panels: &[f32],
        scores: &mut [f32],
        answers: &mut [f32],
    ) {
        let samples = answers.chunks_exact_mut(self.queries * self.heads * self.width);
        for ((answers, panels), queries) in
            samples.zip(panels.chunks_exact(self.panels_len())).zip(queries.chunks(self.queries * row))
        {
            let queries = View { data: queries, row, column: 1 };
            let scores = &mut scores[..self.scores_len()];
            arch().dispatch(Attend { heads: self, queries, panels, scores, answers });
        }
    }
}

/// One sample's.
struct Attend<'a> {
    heads: Heads,
    queries: View<'a>,
    panels: &'a [f32],
    /// [heads, queries], each row whole cache lines.
    scores: &'a mut [f32],
    answers: &'a mut [f32],
}

impl WithSimd for Attend<'_> {
    type Output = ();

    /// Every step is made for all heads before the next is begun: the end of one is waited for while another is under way.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { heads: Heads { heads, queries, keys, width }, scores, answers, .. } = self;
        let (stride, plain) = (keys.next_multiple_of(LINE), Finish::scaled(1.0));
        let of_head = || self.panels.chunks_exact(self.heads.panels_len() / heads).enumerate();
        for ((head, panels), scores) in of_head().zip(scores.chunks_exact_mut(queries * stride)) {
            let queries = View { data: &self.queries.data[head * width..], ..self.queries };
            multiply_block(simd, [width, keys], queries, panels, scores, stride, plain);
        }
        let scale = 1.0 / (width as f32).sqrt();
        for scores in scores.chunks_mut(LINE * stride) {
            let (rows, mut lse) = (scores.len() / stride, [0.0; LINE]);
            let shares = weigh(simd, scores, keys, scale, &mut lse[..rows]);
            for (row, share) in scores.chunks_exact_mut(stride).zip(shares) {
                each_vector(simd, row, |_, x| simd.mul_f32s(x, simd.splat_f32s(share)));
            }
        }
        for ((head, panels), scores) in of_head().zip(scores.chunks_exact(queries * stride)) {
            let scores = View { data: scores, row: stride, column: 1 };
            let (values, answers) = (&panels[panels_len(width, keys)..], &mut answers[head * width..]);
            multiply_block(simd, [keys, width], scores, values, answers, heads * width, plain);
        }
    }
}
