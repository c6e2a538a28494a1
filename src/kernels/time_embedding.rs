//! Features of a flow time: sines and cosines at many frequencies.
//!
//! ```text
//! features[r, sine(i)]   = sin(2π t[r] f[i])        i < half = dim / 2
//! features[r, cosine(i)] = cos(2π t[r] f[i])
//! ```
//! `f` is in turns at t = 1. Interleaved features have sine(i) = 2i and cosine(i) = 2i + 1, halves sine(i) = i and
//! cosine(i) = half + i. Nothing learned lies before t, so there is no gradient.
//!
//! | kind | `f[i]` | layout | used by |
//! |---|---|---|---|
//! | `Interleaved` | max_period^(−2i/dim) / 2π | interleaved | `patch_decoder` (Vaswani et al., arXiv 1706.03762) |
//! | `Periods` | 1 / (min (max/min)^(i/(half − 1))) | halves | `flowmatching` (π0's, arXiv 2410.24164) |
//! | `Powers` | 2^i | halves | `velocity_mlp`, concat |
//! | `Harmonics` | (i + 1) / 4 | halves | `velocity_mlp`, concat |
//! | `Sinusoid` | exp(−ln(max_period) i / half) / 2π | halves | `velocity_mlp`, residual |
//!
//! Angles reach 1,570 rad, where f32 cannot hold t f to the 1e-7 turns that features good to 1e-6 need. So f is
//! bound as two floats, f = hi + lo, of which hi has only 12 significant bits. With t cut into two parts of 12 bits
//! both products with hi are exact in f32; whole turns are dropped from the first before the small terms are added.
//! A solver's fixed grid does not need the kernel at all: [`TimeFeatures::at`] evaluates it in f64 on the host.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};
use std::f64::consts::TAU;

/// Which frequencies, in which layout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeFeatures {
    /// The Transformer's: sines and cosines in turn.
    Interleaved {
        /// 2π times the period that the frequencies approach.
        max_period: f64,
    },
    /// Geometric periods, sines then cosines.
    Periods {
        /// The first period.
        min: f64,
        /// The last period.
        max: f64,
    },
    /// Periods 1, 1/2, 1/4, …, sines then cosines.
    Powers,
    /// Periods 4, 4/2, 4/3, …, sines then cosines: smooth over [0, 1], and no frequency that a grid of 20 steps aliases.
    Harmonics,
    /// The Transformer's frequencies, sines then cosines.
    Sinusoid {
        /// 2π times the period that the frequencies approach.
        max_period: f64,
    },
}

impl TimeFeatures {
    /// f: turns at t = 1, for `dim` / 2 frequencies.
    pub fn turns(&self, dim: usize) -> Vec<f64> {
        let half = dim / 2;
        let turns = |i: usize| match *self {
            TimeFeatures::Interleaved { max_period } | TimeFeatures::Sinusoid { max_period } => {
                max_period.powf(-(i as f64) / half as f64) / TAU
            }
            TimeFeatures::Periods { min, max } => {
                let fraction = i as f64 / (half.max(2) - 1) as f64;
                1.0 / (min * (max / min).powf(fraction))
            }
            TimeFeatures::Powers => (i as f64).exp2(),
            TimeFeatures::Harmonics => (i + 1) as f64 / 4.0,
        };
        (0..half).map(turns).collect()
    }

    /// The kernel's table `[2, dim / 2]`: f cut to 12 significant bits, then the rest.
    pub fn table(&self, dim: usize) -> Vec<f32> {
        let turns = self.turns(dim);
        let hi: Vec<f32> =
            turns.iter().map(|&f| f32::from_bits((f as f32).to_bits() & 0xffff_f000)).collect();
        let lo = turns.iter().zip(&hi).map(|(&f, &hi)| (f - f64::from(hi)) as f32).collect();
        [hi, lo].concat()
    }

    /// Whether sines and cosines take turns.
    pub fn interleaved(&self) -> bool {
        matches!(self, TimeFeatures::Interleaved { .. })
    }

    /// The features of one time, in f64.
    pub fn at(&self, t: f64, dim: usize) -> Vec<f64> {
        let mut features = vec![0.0; dim / 2 * 2];
        for (i, f) in self.turns(dim).into_iter().enumerate() {
            let (sine, cosine) = places(i, dim / 2, self.interleaved());
            let angle = (t * f).fract() * TAU;
            (features[sine], features[cosine]) = angle.sin_cos();
        }
        features
    }

    /// The kernel that makes these features for `rows` times.
    pub fn kernel(&self, rows: usize, dim: usize) -> TimeEmbedding {
        TimeEmbedding { rows, dim, interleaved: self.interleaved() }
    }
}

/// Columns of the i-th sine and cosine.
fn places(i: usize, half: usize, interleaved: bool) -> (usize, usize) {
    if interleaved { (2 * i, 2 * i + 1) } else { (i, half + i) }
}

/// The features. Inputs: t `[rows]`, table `[2, dim / 2]`. Outputs: features `[rows, dim]`. `dim` is even.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeEmbedding {
    /// Times.
    pub rows: usize,
    /// Features of a time.
    pub dim: usize,
    /// Whether sines and cosines take turns.
    pub interleaved: bool,
}

impl Describe for TimeEmbedding {
    const NAME: &'static str = "time_embedding";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("time_embedding"), self.rows * self.dim / 2, 64)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.rows), word(self.dim / 2), u32::from(self.interleaved)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (t, table) = (io.inputs[0].floats(), io.inputs[1].floats());
        let half = self.dim / 2;
        for (&t, features) in t.iter().zip(io.outputs[0].chunks_exact_mut(self.dim)) {
            for i in 0..half {
                // In f64 whatever T is: the angle is large.
                let turns = t.f64() * (table[i].f64() + table[half + i].f64());
                let (sine, cosine) = places(i, half, self.interleaved);
                let (s, c) = (turns.fract() * TAU).sin_cos();
                (features[sine], features[cosine]) = (T::of(s), T::of(c));
            }
        }
    }

    fn flops(&self) -> u64 {
        30 * (self.rows * self.dim / 2) as u64
    }
}

impl TimeEmbedding {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |kind: TimeFeatures, rows: usize, dim: usize| {
            // From −0.1 to 1.1, none of them round.
            let times = (0..rows).map(|r| ((r * 619) % 1201) as f32 / 1000.7 - 0.1).collect();
            let case = Case::new(format!("{kind:?} {rows}x{dim}"), kind.kernel(rows, dim));
            cases.push(case.floats(times).floats(kind.table(dim)).output(rows * dim).within(1e-12, 1e-6));
        };
        for kind in KINDS {
            for rows in ODD {
                add(kind, rows, 16);
            }
            add(kind, 3, 2);
            add(kind, 17, 64);
        }
        add(KINDS[1], 65, 1024);
        // More than 65,535 workgroups.
        add(KINDS[1], 131_075, 64);
        cases
    }
}

/// What the five systems use, and one more.
const KINDS: [TimeFeatures; 5] = [
    TimeFeatures::Interleaved { max_period: 1e4 },
    TimeFeatures::Periods { min: 4e-3, max: 4.0 },
    TimeFeatures::Powers,
    TimeFeatures::Sinusoid { max_period: 1e4 },
    TimeFeatures::Harmonics,
];

#[cfg(test)]
mod tests {
    use super::super::Slice;
    use super::*;

    /// The definitions as the five systems write them, in angles.
    fn written_out(kind: TimeFeatures, t: f64, dim: usize) -> Vec<f64> {
        let half = dim / 2;
        let angle = |i: usize| match kind {
            TimeFeatures::Interleaved { max_period } => t / max_period.powf(2.0 * i as f64 / dim as f64),
            TimeFeatures::Periods { min, max } => {
                TAU * t / (min * (max / min).powf(i as f64 / (half as f64 - 1.0)))
            }
            TimeFeatures::Powers => TAU * 2_f64.powi(i as i32) * t,
            TimeFeatures::Harmonics => TAU * (i + 1) as f64 * t / 4.0,
            TimeFeatures::Sinusoid { max_period } => t * (-max_period.ln() * i as f64 / half as f64).exp(),
        };
        if kind.interleaved() {
            (0..half).flat_map(|i| [angle(i).sin(), angle(i).cos()]).collect()
        } else {
            (0..half).map(|i| angle(i).sin()).chain((0..half).map(|i| angle(i).cos())).collect()
        }
    }

    #[test]
    fn features_are_those_of_the_definitions() {
        for kind in KINDS {
            for step in 0..=40 {
                let t = f64::from((f64::from(step) / 40.0) as f32);
                let expected = written_out(kind, t, 64);
                let table: Vec<f64> = kind.table(64).into_iter().map(f64::from).collect();
                let mut features = vec![0.0; 64];
                kind.kernel(1, 64).twin(&mut Io {
                    inputs: &[Slice::F(&[t]), Slice::F(&table)],
                    outputs: &mut [&mut features],
                });
                // Powers reaches 2^31 turns, where the f64 angle written out is itself no better than 1e-6.
                let bound = if kind == TimeFeatures::Powers { 1e-5 } else { 1e-8 };
                for ((twin, host), expected) in features.iter().zip(kind.at(t, 64)).zip(&expected) {
                    approx::assert_abs_diff_eq!(*twin, *expected, epsilon = bound);
                    approx::assert_abs_diff_eq!(host, *expected, epsilon = bound);
                }
            }
        }
    }

    #[test]
    fn the_table_holds_frequencies_to_36_bits_and_its_first_half_to_12() {
        for kind in KINDS {
            // Powers of two pass f32's largest exponent at dim 256.
            let dim = if kind == TimeFeatures::Powers { 64 } else { 1024 };
            let (turns, table, half) = (kind.turns(dim), kind.table(dim), dim / 2);
            for (i, f) in turns.into_iter().enumerate() {
                assert_eq!(table[i].to_bits() & 0xfff, 0);
                let held = f64::from(table[i]) + f64::from(table[half + i]);
                approx::assert_relative_eq!(held, f, max_relative = 2e-11);
            }
        }
    }
}
