//! Memory for what a kernel needs while it runs: each thread keeps its own, so that nothing is allocated inside a step.

use std::cell::Cell;

use bytemuck::{Pod, Zeroable};

/// Sixteen floats that begin where a cache line does.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line([f32; LINE]);

/// Floats of a cache line.
pub const LINE: usize = 16;

/// As many zeros as `len` floats take, in whole lines.
pub fn lines(len: usize) -> Vec<Line> {
    vec![Line([0.0; LINE]); len.div_ceil(LINE)]
}

thread_local! {
    static KEPT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Hands out runs of floats of these lengths, each beginning at a cache line. What they hold is left over from before.
pub fn scratch<const N: usize, R>(lens: [usize; N], work: impl FnOnce([&mut [f32]; N]) -> R) -> R {
    let mut kept = KEPT.take();
    let needed: usize = lens.iter().map(|len| len.div_ceil(LINE)).sum();
    if kept.len() < needed {
        kept = lines(needed * LINE);
    }
    let mut rest: &mut [f32] = bytemuck::cast_slice_mut(&mut kept);
    let runs = lens.map(|len| {
        let (run, behind) = std::mem::take(&mut rest).split_at_mut(len.next_multiple_of(LINE));
        rest = behind;
        &mut run[..len]
    });
    let result = work(runs);
    KEPT.set(kept);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_apart_and_aligned_and_may_be_nested() {
        scratch([3, 40], |[a, b]| {
            a.fill(1.0);
            b.fill(2.0);
            scratch([64], |[c]| c.fill(3.0));
            assert!(a.iter().all(|&x| x == 1.0) && b.iter().all(|&x| x == 2.0));
            assert_eq!((a.as_ptr() as usize % 64, b.as_ptr() as usize % 64), (0, 0));
        });
        scratch([40], |[again]| assert!(again.contains(&3.0) || again.contains(&1.0), "the same memory"));
    }
}
