//! The most that this processor can do: what kernels are measured against.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

use super::simd;

/// Chains of a thread: enough for two units that take four cycles each, few enough for sixteen registers.
const CHAINS: usize = 12;
/// Multiply-adds of a chain, one measurement: about a millisecond, so that on a busy machine some are not interrupted.
const ROUNDS: usize = 400_000;
/// Measurements; the best one counts.
const TIMES: usize = 100;
/// Copies; the best one counts.
const COPIES: usize = 12;
/// Bytes that are copied: far more than any cache holds.
const COPIED: usize = 256 << 20;
/// Bytes that a thread copies at a time.
const PIECE: usize = 1 << 20;

/// Multiply-adds on registers alone, by the best vector instructions there are and all threads, GFLOP/s: two operations
/// each.
pub fn multiply_add_rate() -> f64 {
    let threads = rayon::current_num_threads();
    let once = || {
        let start = Instant::now();
        let lanes = rayon::broadcast(|_| simd::arch().dispatch(Chains))[0];
        (2 * CHAINS * ROUNDS * lanes * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    best(TIMES, once)
}

/// Copying in memory by all threads, GB/s: what is read and what is written both count.
pub fn copy_rate() -> f64 {
    let from = vec![1_u8; COPIED];
    let mut to = vec![0_u8; COPIED];
    let once = || {
        let start = Instant::now();
        to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
        (2 * COPIED) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    best(COPIES, once)
}

fn best(times: usize, once: impl FnMut() -> f64) -> f64 {
    std::iter::repeat_with(once).take(times).fold(0.0, f64::max)
}

/// Runs [`CHAINS`] chains of [`ROUNDS`] multiply-adds, and says how many lanes a vector has.
struct Chains;

impl pulp::WithSimd for Chains {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) -> usize {
        // Unknown to the compiler, and such that no chain runs into infinity or denormal numbers.
        let factor = simd.splat_f32s(black_box(0.999));
        let summand = simd.splat_f32s(black_box(0.001));
        let mut sums = [simd.splat_f32s(black_box(1.0)); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, factor, summand);
            }
        }
        for sum in sums {
            black_box(simd.reduce_sum_f32s(sum));
        }
        S::F32_LANES
    }
}
