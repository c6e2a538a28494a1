//! Counter-based randomness: Philox4x32-10 (Salmon et al., SC 2011) and Box–Muller.
//!
//! Every draw is a pure function of a key and a counter, so that a resumed run, a second device and a
//! re-run batch see the same numbers. A [`Stream`] names what is drawn; the counter says for which step
//! and sample.

/// What a draw is for. Streams with different names never share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial parameter values; the step is the parameter's place.
    Init = 1,
    /// The flow's noise while training.
    TrainNoise = 2,
    /// The flow's time while training.
    TrainTime = 3,
    /// The order of frames in an epoch.
    Shuffle = 4,
    /// A sampler's noise; the step counts chunks, the sample is the episode.
    SampleNoise = 5,
    /// Dropout masks.
    Dropout = 6,
    /// Noise on executed actions while recording.
    Execution = 7,
    /// Actions of the random policy.
    RandomPolicy = 8,
    /// The flow's noise and time while validating.
    Validation = 9,
    /// Which training samples see no observation.
    ObservationDropout = 10,
    /// The noise that a teacher makes a frame's action of; the sample is the frame.
    Rectified = 11,
    /// Which episodes a resample of an interval holds; the step counts resamples.
    Bootstrap = 12,
    /// Noise on executed actions while evaluating; the sample is the episode.
    Exploration = 13,
    /// How training pictures are cropped and recoloured; the sample's high byte is the camera.
    Augmentation = 14,
    /// What disturbs an evaluation's episodes; see `sim::perturb`.
    Perturbation = 15,
    /// How many of a training chunk's first actions are given.
    Prefix = 16,
}

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32: four words from a counter and a key.
#[inline(always)]
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(M0) * u64::from(counter[0]);
        let p1 = u64::from(M1) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    counter
}

/// [`philox`] of eight neighbouring counters `[first + n, rest]` at once: word w of block n is `[w][n]`. The loops
/// over n are there for the compiler to turn into vector instructions.
#[inline(always)]
pub fn philox8(first: u32, rest: [u32; 3], mut key: [u32; 2]) -> [[u32; 8]; 4] {
    let mut counter = [[0; 8], [rest[0]; 8], [rest[1]; 8], [rest[2]; 8]];
    for (n, word) in counter[0].iter_mut().enumerate() {
        *word = first.wrapping_add(n as u32);
    }
    for _ in 0..10 {
        let mut next = [[0; 8]; 4];
        for n in 0..8 {
            let p0 = u64::from(M0) * u64::from(counter[0][n]);
            let p1 = u64::from(M1) * u64::from(counter[2][n]);
            next[0][n] = (p1 >> 32) as u32 ^ counter[1][n] ^ key[0];
            next[1][n] = p1 as u32;
            next[2][n] = (p0 >> 32) as u32 ^ counter[3][n] ^ key[1];
            next[3][n] = p0 as u32;
        }
        counter = next;
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    counter
}

/// The key of a stream: the stream lives in the high word; seeds differ in both words.
const fn key(seed: u64, stream: Stream) -> [u32; 2] {
    [seed as u32, (seed >> 32) as u32 ^ (stream as u32).wrapping_mul(W1)]
}

/// The key of dropout masks, as `shaders/shared/dropout.wgsl` makes it from the same seed.
pub const fn dropout_key(seed: u64) -> [u32; 2] {
    key(seed, Stream::Dropout)
}

/// Random numbers of one purpose, for one (seed, step, sample).
#[derive(Debug, Clone)]
pub struct Rng {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Rng {
    /// The numbers of `stream` at (`seed`, `step`, `sample`).
    pub fn new(seed: u64, stream: Stream, step: u64, sample: u32) -> Self {
        let counter = [0, sample, step as u32, (step >> 32) as u32];
        Self { key: key(seed, stream), counter, block: [0; 4], used: 4 }
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        (high * 67_108_864 + low) as f64 / 9_007_199_254_740_992.0
    }

    /// Uniform whole number in 0..n, without bias (Lemire's method).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "no whole number lies below 0");
        let threshold = n.wrapping_neg() % n;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(n);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }

    /// Standard normal by Box–Muller; one of the pair is kept for simplicity of counting.
    pub fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// The logarithm of a draw from Gamma(shape, 1) (Marsaglia and Tsang, ACM TOMS 26, 2000), which stays finite where
    /// a small shape's draw underflows.
    pub fn log_gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            // X u^(1/shape) with X from Gamma(shape + 1, 1).
            return self.log_gamma(shape + 1.0) + (1.0 - self.uniform()).ln() / shape;
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && (1.0 - self.uniform()).ln() < 0.5 * x * x + d * (1.0 - v + v.ln()) {
                return d.ln() + v.ln();
            }
        }
    }

    /// A shuffled 0..n (Fisher–Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // Random123's known-answer tests (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn eight_blocks_at_once_are_the_same_blocks() {
        let (rest, key) = ([7, 8, 9], [10, 11]);
        let blocks = philox8(u32::MAX - 3, rest, key);
        for n in 0..8 {
            let counter = [(u32::MAX - 3).wrapping_add(n as u32), rest[0], rest[1], rest[2]];
            assert_eq!(blocks.map(|word| word[n]), philox(counter, key));
        }
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut rng = Rng::new(3, Stream::SampleNoise, 0, 0);
        let n = 200_000;
        let (mut sum, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let x = rng.normal();
            sum += x;
            square += x * x;
        }
        assert!((sum / f64::from(n)).abs() < 0.01);
        assert!((square / f64::from(n) - 1.0).abs() < 0.01);
    }

    #[test]
    fn gamma_has_its_mean_and_variance() {
        for shape in [0.3, 1.0, 4.5] {
            let mut rng = Rng::new(4, Stream::TrainTime, 0, 0);
            let n = 100_000;
            let draws: Vec<f64> = (0..n).map(|_| rng.log_gamma(shape).exp()).collect();
            let mean = draws.iter().sum::<f64>() / f64::from(n);
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
            assert!((mean / shape - 1.0).abs() < 0.02, "{shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.05, "{shape}: variance {variance}");
        }
    }

    #[test]
    fn streams_steps_and_samples_differ() {
        let first = |stream, step, sample| Rng::new(7, stream, step, sample).next_u32();
        let reference = first(Stream::Init, 0, 0);
        assert_ne!(reference, first(Stream::TrainNoise, 0, 0));
        assert_ne!(reference, first(Stream::Init, 1, 0));
        assert_ne!(reference, first(Stream::Init, 0, 1));
        assert_eq!(reference, first(Stream::Init, 0, 0));
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = Rng::new(1, Stream::Shuffle, 0, 0).permutation(100);
        order.sort_unstable();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }
}
