//! Loops compiled for the vector instructions of the processor at hand.

use std::sync::LazyLock;

use crate::kernels::activation::Activation;

static ARCH: LazyLock<pulp::Arch> = LazyLock::new(pulp::Arch::new);

/// The best instructions this processor has.
pub fn arch() -> pulp::Arch {
    *ARCH
}

/// Runs `body` compiled for the best instructions this processor has. What it calls must be `#[inline(always)]` to be
/// compiled so as well.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    struct Body<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Body<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    ARCH.dispatch(Body(body))
}

/// e^x to 2 units in the last place, without branches; 0 below −87, clamped above 88.
/// Range reduction by ln 2 in two parts and the Cephes polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let clamped = x.clamp(-87.0, 88.0);
    // Adding 1.5 · 2^23 rounds to a whole number and leaves it in the low bits.
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, 12_582_912.0);
    let whole = shifted - 12_582_912.0;
    let r = whole.mul_add(-355.0 / 512.0, clamped);
    let r = whole.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = r.mul_add(p, 1.398_2e-3);
    p = r.mul_add(p, 8.333_452e-3);
    p = r.mul_add(p, 4.166_579_6e-2);
    p = r.mul_add(p, 0.166_666_65);
    p = r.mul_add(p, 0.5);
    let y = (r * r).mul_add(p, r + 1.0);
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { y * scale }
}

/// erf to 1.5e-7 (Abramowitz and Stegun 7.1.26), as the shaders have it.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / a.mul_add(0.327_591_1, 1.0);
    let mut p = 1.061_405_4_f32;
    p = t.mul_add(p, -1.453_152);
    p = t.mul_add(p, 1.421_413_8);
    p = t.mul_add(p, -0.284_496_74);
    p = t.mul_add(p, 0.254_829_6);
    (1.0 - p * t * exp(-a * a)).copysign(x)
}

/// f(x); for kinds without a fast form, the twin's.
#[inline(always)]
pub fn activate(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::GeluTanh => kind.value(x),
    }
}

/// f'(x); for kinds without a fast form, the twin's.
#[inline(always)]
pub fn slope(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::None => 1.0,
        Activation::Relu => f32::from(u8::from(x > 0.0)),
        Activation::Gelu => {
            let density = 0.398_942_3 * exp(-0.5 * x * x);
            x.mul_add(density, 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)))
        }
        Activation::Silu => {
            let s = 1.0 / (1.0 + exp(-x));
            s * x.mul_add(1.0 - s, 1.0)
        }
        Activation::GeluTanh => kind.slope(x),
    }
}

/// Σ f(i), in eight running sums so that it becomes vector instructions.
#[inline(always)]
pub fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    let tail: f32 = rest.iter().map(|&x| f(x)).sum();
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + tail
}

/// Σ f(a[i], b[i]), as [`sum`].
#[inline(always)]
pub fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 8];
    let (chunks_a, chunks_b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = chunks_a.remainder().iter().zip(chunks_b.remainder());
    let tail: f32 = rest.map(|(&x, &y)| f(x, y)).sum();
    for (a, b) in chunks_a.zip(chunks_b) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(x, y);
        }
    }
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_near_the_library_one_everywhere() {
        for i in -100_000..88_000 {
            let x = i as f32 * 1e-3;
            let (fast, slow) = (exp(x), x.exp());
            assert!((fast - slow).abs() <= 3e-7 * slow || slow < 2e-38, "exp({x}) = {fast}, not {slow}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn fast_activations_are_near_the_twins() {
        for kind in [Activation::Gelu, Activation::Silu, Activation::Relu] {
            for i in -1000..1000 {
                let x = i as f32 * 0.013;
                approx::assert_abs_diff_eq!(activate(kind, x), kind.value(x), epsilon = 1e-6);
                approx::assert_abs_diff_eq!(slope(kind, x), kind.slope(x), epsilon = 1e-6);
            }
        }
    }
}
