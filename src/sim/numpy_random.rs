//! The part of `numpy.random` that published seeds depend on: `default_rng(seed)`, `random` and `uniform`.
//!
//! SeedSequence (O'Neill's `seed_seq_fe`, pool of four words) spreads one integer over 256 bits, PCG64
//! (O'Neill 2014: 128-bit LCG, XSL-RR output) draws from them; both as numpy 1.17 and later do it.

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

/// `numpy.random.default_rng(seed)`, number for number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumpyRng {
    state: u128,
    increment: u128,
}

impl NumpyRng {
    /// The generator `numpy.random.default_rng(seed)` gives for a whole number.
    pub fn default_rng(seed: u64) -> Self {
        let [state_high, state_low, stream_high, stream_low] = seed_sequence(seed);
        let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let increment = wide(stream_high, stream_low) << 1 | 1;
        let mut rng = Self { state: increment.wrapping_add(wide(state_high, state_low)), increment };
        rng.advance();
        rng
    }

    fn advance(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn random(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// Uniform in [`low`, `high`).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random()
    }
}

/// `SeedSequence(seed).generate_state(4, numpy.uint64)`.
fn seed_sequence(seed: u64) -> [u64; 4] {
    const INIT_A: u32 = 0x43b0_d7e5;
    const MULT_A: u32 = 0x931e_8875;
    const INIT_B: u32 = 0x8b51_f9dd;
    const MULT_B: u32 = 0x58f3_8ded;

    let mut constant = INIT_A;
    let mut hash = |value: u32| {
        let keyed = value ^ constant;
        constant = constant.wrapping_mul(MULT_A);
        let product = keyed.wrapping_mul(constant);
        product ^ product >> 16
    };
    // A u64 has at most two words of entropy; numpy fills the pool with zeros after the last one.
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for source in 0..4 {
        for target in (0..4).filter(|&target| target != source) {
            let mixed = pool[target]
                .wrapping_mul(0xca01_f9dd)
                .wrapping_sub(hash(pool[source]).wrapping_mul(0x4973_f715));
            pool[target] = mixed ^ mixed >> 16;
        }
    }

    let mut constant = INIT_B;
    let mut word = |index: usize| {
        let keyed = pool[index % 4] ^ constant;
        constant = constant.wrapping_mul(MULT_B);
        let product = keyed.wrapping_mul(constant);
        u64::from(product ^ product >> 16)
    };
    [0, 2, 4, 6].map(|index| word(index) | word(index + 1) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_sequence_matches_numpy() {
        // numpy 2.4.6: SeedSequence(seed).generate_state(4, np.uint64)
        assert_eq!(
            seed_sequence(0),
            [0xdb2c_d7e7_b0f4_78be, 0xabf4_641a_2c71_ba49, 0x20c6_ed6d_9d7b_8d41, 0x2c40_99de_223c_39d4]
        );
        assert_eq!(
            seed_sequence((1 << 40) + 3),
            [0x5418_c9b7_a646_74f4, 0x6b87_af38_305b_b452, 0x67a7_79a8_6253_d291, 0x35c1_4f1e_d476_091f]
        );
    }

    #[test]
    fn draws_match_numpy() {
        // numpy 2.4.6, default_rng(seed): random(4), uniform(-5, 5), uniform(-pi, pi)
        let recorded: [(u64, [f64; 6]); 8] = [
            (
                0,
                [
                    0.6369616873214543,
                    0.2697867137638703,
                    0.04097352393619469,
                    0.016527635528529094,
                    3.1327023920027237,
                    2.5934197786078093,
                ],
            ),
            (
                1,
                [
                    0.5118216247002567,
                    0.9504636963259353,
                    0.14415961271963373,
                    0.9486494471372439,
                    -1.8816854798951455,
                    -0.4817541292647971,
                ],
            ),
            (
                42,
                [
                    0.7739560485559633,
                    0.4388784397520523,
                    0.8585979199113825,
                    0.6973680290593639,
                    -4.058226521123505,
                    2.988423371570267,
                ],
            ),
            (
                341,
                [
                    0.6106973392760776,
                    0.4947265817644314,
                    0.4735110689193609,
                    0.9192599878162044,
                    -4.292639668902556,
                    -1.2814865856661015,
                ],
            ),
            (
                (1 << 32) - 1,
                [
                    0.2519435680449965,
                    0.21906579628685663,
                    0.28728472043517017,
                    0.6189813025326831,
                    4.350122911173898,
                    -1.2819791601164425,
                ],
            ),
            (
                1 << 32,
                [
                    0.8897387912781343,
                    0.5571380502062263,
                    0.8009080868919721,
                    0.9565138174753386,
                    -4.413848398506456,
                    -1.6562432782764285,
                ],
            ),
            (
                (1 << 40) + 3,
                [
                    0.7736560850714245,
                    0.9958573802012665,
                    0.47317891460392636,
                    0.0648506920171974,
                    -3.0434811027109046,
                    0.41309193021942203,
                ],
            ),
            (
                u64::MAX,
                [
                    0.6800266789616931,
                    0.8453117585624743,
                    0.007403081599260064,
                    0.8945681264391473,
                    -3.7103476547525838,
                    -1.1382712105153456,
                ],
            ),
        ];
        for (seed, expected) in recorded {
            let mut rng = NumpyRng::default_rng(seed);
            let mut draws: Vec<f64> = (0..4).map(|_| rng.random()).collect();
            draws.push(rng.uniform(-5.0, 5.0));
            draws.push(rng.uniform(-std::f64::consts::PI, std::f64::consts::PI));
            assert_eq!(draws, expected, "seed {seed}");
        }
    }
}
