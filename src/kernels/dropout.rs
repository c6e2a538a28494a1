//! Dropout: y = r + m x, where an element of the mask m is 0 with probability p and 1/(1 − p) otherwise.
//!
//! Srivastava et al., JMLR 15 (2014). The mask is a pure function of seed, step, site and element, so that the
//! backward pass draws it again instead of keeping it: dx = m dy is this same kernel on dy, without r. A site is
//! one place in a network. Element e of a site is dropped if a 16-bit number falls below a threshold of 65,536:
//!
//! ```text
//! words = philox(counter: [e / 8, site, step (low, high)], key: dropout_key(seed))
//! lane  = half e % 8 of the words, the low half of each word first
//! m[e]  = 0 if lane < threshold, 65536 / (65536 − threshold) otherwise
//! ```
//!
//! The binding `control` is `[seed, seed >> 32, step, step >> 32]`. A site has fewer than 2^32 elements.

use super::check::{Case, Data, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};
use crate::rng::{dropout_key, philox8};

/// One place in a network that drops elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DropoutSite {
    /// The place's number; no two places of a network share one.
    pub site: u32,
    /// How many of 65,536 elements are dropped, on average; less than all of them.
    pub threshold: u32,
}

impl DropoutSite {
    /// The site that drops with the probability nearest to `p`, which lies in [0, 1).
    pub fn new(site: u32, p: f64) -> Self {
        Self { site, threshold: ((p * 65_536.0).round() as u32).min(65_535) }
    }

    /// What kept elements are multiplied by.
    pub fn scale(self) -> f64 {
        65_536.0 / (65_536.0 - f64::from(self.threshold))
    }

    /// Site, threshold and scale as words of a uniform block; no site drops nothing.
    pub(super) fn params(site: Option<Self>) -> [u32; 3] {
        site.map_or([0, 0, 1f32.to_bits()], |s| [s.site, s.threshold, (s.scale() as f32).to_bits()])
    }
}

/// A site's mask at one step.
#[derive(Debug, Clone, Copy)]
pub struct Mask<T> {
    key: [u32; 2],
    counter: [u32; 3],
    threshold: u32,
    scale: T,
}

impl<T: Float> Mask<T> {
    /// The mask of a site under a `control` binding.
    ///
    /// # Panics
    /// If `control` is not four words: a mistake of the graph, not of a user.
    pub fn new(site: DropoutSite, control: &[u32]) -> Self {
        let seed = u64::from(control[0]) | u64::from(control[1]) << 32;
        Self {
            key: dropout_key(seed),
            counter: [site.site, control[2], control[3]],
            threshold: site.threshold,
            scale: T::of(site.scale()),
        }
    }

    /// Writes m for the elements from `first` on.
    #[inline(always)]
    pub fn factors(&self, first: u32, mut out: &mut [T]) {
        let mut block = first / 8;
        let mut skip = (first % 8) as usize;
        while !out.is_empty() {
            let words = philox8(block, self.counter, self.key);
            let mut factors = [T::ZERO; 64];
            for (n, eight) in factors.chunks_exact_mut(8).enumerate() {
                for (pair, word) in eight.chunks_exact_mut(2).zip(&words) {
                    pair[0] = if word[n] & 0xffff < self.threshold { T::ZERO } else { self.scale };
                    pair[1] = if word[n] >> 16 < self.threshold { T::ZERO } else { self.scale };
                }
            }
            let (now, later) = out.split_at_mut(out.len().min(64 - skip));
            now.copy_from_slice(&factors[skip..skip + now.len()]);
            out = later;
            skip = 0;
            block = block.wrapping_add(8);
        }
    }
}

/// y = r + m x. Inputs: x `[len]`, r `[len]` (or nothing), control `[4]`. Outputs: y `[len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropout {
    /// Elements.
    pub len: usize,
    /// Which mask.
    pub site: DropoutSite,
    /// Whether there is an r.
    pub residual: bool,
}

impl Describe for Dropout {
    const NAME: &'static str = "dropout";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("dropout"), self.len.div_ceil(8), 256)
    }

    fn params(&self) -> Vec<u32> {
        let [site, threshold, scale] = DropoutSite::params(Some(self.site));
        vec![word(self.len), site, threshold, scale, u32::from(self.residual)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (x, residual) = (io.inputs[0].floats(), io.inputs[1].floats());
        let mask = Mask::new(self.site, io.inputs[2].words());
        mask.factors(0, io.outputs[0]);
        for (y, &x) in io.outputs[0].iter_mut().zip(x) {
            *y *= x;
        }
        if self.residual {
            for (y, &r) in io.outputs[0].iter_mut().zip(residual) {
                *y += r;
            }
        }
    }

    fn flops(&self) -> u64 {
        2 * self.len as u64
    }
}

/// A `control` binding for cases, with something in every word.
pub(super) const CONTROL: [u32; 4] = [0x89ab_cdef, 0x0123_4567, 70_001, 2];

impl Dropout {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for len in [ODD.as_slice(), &[8, 5000]].concat() {
            for (residual, p) in [(false, 0.1), (true, 0.5), (true, 0.0)] {
                let kernel = Dropout { len, site: DropoutSite::new(len as u32, p), residual };
                let name = format!("{len} p {p}{}", if residual { " residual" } else { "" });
                let case = Case::new(name, kernel).input(len);
                let case = if residual { case.input(len) } else { case.data(Data::Nothing) };
                cases.push(case.data(Data::U32(CONTROL.to_vec())).output(len));
            }
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Slice;
    use crate::rng::philox;

    #[test]
    fn a_mask_is_the_same_from_wherever_it_is_read() {
        let site = DropoutSite { site: 3, threshold: 20_000 };
        let mask = Mask::<f64>::new(site, &CONTROL);
        let mut whole = vec![0.0; 300];
        mask.factors(0, &mut whole);
        for first in 0..100 {
            let mut part = vec![0.0; 150];
            mask.factors(first as u32, &mut part);
            assert_eq!(part, whole[first..first + 150]);
        }
    }

    #[test]
    fn an_element_is_dropped_by_its_half_word() {
        let site = DropoutSite { site: 3, threshold: 20_000 };
        let mut factors = vec![0.0; 80];
        Mask::<f64>::new(site, &CONTROL).factors(0, &mut factors);
        let key = dropout_key(0x0123_4567_89ab_cdef);
        for (e, factor) in factors.into_iter().enumerate() {
            let words = philox([e as u32 / 8, 3, CONTROL[2], CONTROL[3]], key);
            let lane = words[e % 8 / 2] >> (e % 2 * 16) & 0xffff;
            assert_eq!(factor, if lane < 20_000 { 0.0 } else { 65_536.0 / 45_536.0 });
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_drops_its_share() {
        for p in [0.0, 0.1, 0.5, 0.9] {
            let mut factors = vec![0.0; 1 << 20];
            Mask::<f64>::new(DropoutSite::new(1, p), &CONTROL).factors(0, &mut factors);
            let count = factors.len() as f64;
            let dropped = factors.iter().filter(|&&f| f == 0.0).count() as f64 / count;
            // Four standard deviations of a share of 2^20 draws, and half a step of the threshold.
            let spread = 4.0 * (p * (1.0 - p) / count).sqrt() + 0.5 / 65_536.0;
            assert!((dropped - p).abs() <= spread, "{dropped} of {p}");
            let mean = factors.iter().sum::<f64>() / count;
            assert!((mean - 1.0).abs() <= spread / (1.0 - p), "mean {mean} at {p}");
        }
    }

    #[test]
    fn masks_differ_between_seeds_steps_and_sites() {
        let draw = |site, control: [u32; 4]| {
            let mut factors = vec![0.0; 256];
            Mask::<f64>::new(DropoutSite { site, threshold: 32_768 }, &control).factors(0, &mut factors);
            factors
        };
        let reference = draw(1, CONTROL);
        assert_ne!(reference, draw(2, CONTROL));
        for word in 0..4 {
            let mut control = CONTROL;
            control[word] ^= 1;
            assert_ne!(reference, draw(1, control), "word {word}");
        }
    }

    #[test]
    fn the_gradient_is_the_same_kernel_without_residual() {
        // The kernel is linear in x and r: with L = Σ w y, dL/dx is the kernel on w, and dL/dr is w.
        let len = 65;
        let site = DropoutSite { site: 9, threshold: 20_000 };
        let mut rng = crate::rng::Rng::new(1, crate::rng::Stream::Init, 0, 0);
        let [x, r, w] = [0; 3].map(|_| (0..len).map(|_| rng.normal()).collect::<Vec<f64>>());
        let run = |x: &[f64], r: Option<&[f64]>| {
            let kernel = Dropout { len, site, residual: r.is_some() };
            let mut y = vec![0.0; len];
            let inputs = [Slice::F(x), r.map_or(Slice::Nothing, Slice::F), Slice::U32(&CONTROL)];
            kernel.twin(&mut Io { inputs: &inputs, outputs: &mut [&mut y] });
            y
        };
        let loss = |x: &[f64]| run(x, Some(&r)).iter().zip(&w).map(|(y, w)| y * w).sum::<f64>();
        for (e, gradient) in run(&w, None).into_iter().enumerate() {
            let moved = |h: f64| {
                let mut x = x.clone();
                x[e] += h;
                loss(&x)
            };
            approx::assert_abs_diff_eq!(gradient, (moved(1e-3) - moved(-1e-3)) / 2e-3, epsilon = 1e-9);
        }
    }
}
