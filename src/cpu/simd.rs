//! Loops compiled for the vector instructions of the processor at hand.

use std::sync::LazyLock;

use pulp::Simd;

use super::scratch::LINE;
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

/// e^x to 2 units in the last place, without branches; 0 below −87, clamped above 88. NaN stays NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    exps(pulp::Scalar::new(), x)
}

/// The same of a vector: range reduction by ln 2 in two parts and the Cephes polynomial.
#[inline(always)]
pub fn exps<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let all = |value: f32| simd.splat_f32s(value);
    let fma = |a, b, c| simd.mul_add_f32s(a, b, c);
    // By comparison, which NaN passes: a processor's minimum may drop it. What is below −87 is put right in the end.
    let clamped = simd.select_f32s(simd.less_than_f32s(all(88.0), x), all(88.0), x);
    // Adding 1.5 · 2^23 rounds to a whole number and leaves it in the low bits.
    let shifted = fma(clamped, all(std::f32::consts::LOG2_E), all(12_582_912.0));
    let whole = simd.sub_f32s(shifted, all(12_582_912.0));
    let r = fma(whole, all(-355.0 / 512.0), clamped);
    let r = fma(whole, all(2.121_944_4e-4), r);
    let mut p = all(1.987_569_1e-4);
    for term in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = fma(r, p, all(term));
    }
    let y = fma(simd.mul_f32s(r, r), p, simd.add_f32s(r, all(1.0)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scale = simd.add_u32s(exponent, simd.splat_u32s(0x3f80_0000));
    let y = simd.mul_f32s(y, simd.transmute_f32s_u32s(scale));
    simd.select_f32s(simd.less_than_f32s(x, all(-87.0)), all(0.0), y)
}

/// ln x of a positive number that is not subnormal, to 2 units in the last place, without branches: the Cephes polynomial
/// about 1, and the exponent's ln 2 in two parts.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // The mantissa is taken from √½ to √2, so that the polynomial is about 1 on both sides.
    let shifted = x.to_bits().wrapping_sub(0x3f35_04f3);
    let exponent = ((shifted as i32) >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let mut p = 7.037_683_6e-2;
    p = m.mul_add(p, -0.115_146_1);
    p = m.mul_add(p, 0.116_769_99);
    p = m.mul_add(p, -0.124_201_41);
    p = m.mul_add(p, 0.142_493_23);
    p = m.mul_add(p, -0.166_680_58);
    p = m.mul_add(p, 0.200_007_15);
    p = m.mul_add(p, -0.249_999_94);
    p = m.mul_add(p, 0.333_333_3);
    let square = m * m;
    let small = exponent.mul_add(-2.121_944_4e-4, square * m * p) - 0.5 * square;
    exponent.mul_add(0.693_359_4, m + small)
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

/// max(0, x) of which NaN stays NaN.
#[inline(always)]
fn rectified(x: f32) -> f32 {
    rectify(pulp::Scalar::new(), x)
}

/// The same of a vector.
#[inline(always)]
pub fn rectify<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
}

/// f(x); for kinds without a fast form, the twin's.
#[inline(always)]
pub fn activate(kind: Activation, x: f32) -> f32 {
    match kind {
        Activation::None => x,
        Activation::Relu => rectified(x),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::GeluTanh => kind.value(x),
    }
}

/// Each x becomes f(x): whole lines first, which become vectors.
#[inline(always)]
pub fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    let (lines, rest) = values.as_chunks_mut::<LINE>();
    for line in lines {
        for x in line {
            *x = f(*x);
        }
    }
    for x in rest {
        *x = f(*x);
    }
}

/// Each x becomes α f(x). The kind is told apart once: loops that do so for each element are not vectors.
#[inline(always)]
pub fn activate_each(kind: Activation, alpha: f32, values: &mut [f32]) {
    match kind {
        Activation::None => values.iter_mut().for_each(|x| *x *= alpha),
        Activation::Relu => values.iter_mut().for_each(|x| *x = alpha * rectified(*x)),
        Activation::Gelu => each(values, |x| alpha * activate(Activation::Gelu, x)),
        Activation::Silu => each(values, |x| alpha * activate(Activation::Silu, x)),
        Activation::GeluTanh => each(values, |x| alpha * activate(Activation::GeluTanh, x)),
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

/// Each vector of values becomes f of its place and itself. Left to itself the compiler gathers what is no further apart
/// than lines are.
#[inline(always)]
pub fn each_vector<S: Simd>(simd: S, values: &mut [f32], f: impl Fn(usize, S::f32s) -> S::f32s) {
    let (vectors, rest) = S::as_mut_simd_f32s(values);
    let last = vectors.len() * S::F32_LANES;
    for (v, x) in vectors.iter_mut().enumerate() {
        *x = f(v * S::F32_LANES, *x);
    }
    if !rest.is_empty() {
        simd.partial_store_f32s(rest, f(last, simd.partial_load_f32s(rest)));
    }
}

/// Running values of a reduction: whole vectors of any processor.
const RUNNING: usize = LINE;

/// Σ f(i). Called where `simd`'s instructions may be used, as all that follows: see [`pulp::WithSimd`].
#[inline(always)]
pub fn sum<S: Simd>(simd: S, values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; RUNNING];
    let (chunks, rest) = values.as_chunks::<RUNNING>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f(x);
    }
    folded(simd, &sums)
}

/// Σ f(a[i], b[i]).
#[inline(always)]
pub fn sum2<S: Simd>(simd: S, a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; RUNNING];
    let ((chunks_a, rest_a), (chunks_b, rest_b)) = (a.as_chunks::<RUNNING>(), b.as_chunks::<RUNNING>());
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for ((sum, &x), &y) in sums.iter_mut().zip(a).zip(b) {
            *sum += f(x, y);
        }
    }
    for ((sum, &x), &y) in sums.iter_mut().zip(rest_a).zip(rest_b) {
        *sum += f(x, y);
    }
    folded(simd, &sums)
}

/// The sum of all running ones. Left to itself the compiler takes them out of their vector one by one, which costs as much
/// as all the rest of a row of 64.
#[inline(always)]
fn folded<S: Simd>(simd: S, sums: &[f32; RUNNING]) -> f32 {
    let mut total = simd.splat_f32s(0.0);
    for &sums in S::as_simd_f32s(sums).0 {
        total = simd.add_f32s(total, sums);
    }
    simd.reduce_sum_f32s(total)
}

/// The largest of whole lines of values, or −1e30 where all are smaller.
#[inline(always)]
pub fn max<S: Simd>(simd: S, lines: &[f32]) -> f32 {
    let mut top = simd.splat_f32s(-1e30);
    for &values in S::as_simd_f32s(lines).0 {
        top = simd.max_f32s(top, values);
    }
    simd.reduce_max_f32s(top)
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
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn vectors_are_what_their_elements_are() {
        struct Both<'a>(&'a mut [f32], &'a mut [f32]);
        impl pulp::WithSimd for Both<'_> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                each_vector(simd, self.0, |_, x| exps(simd, x));
                each_vector(simd, self.1, |_, x| rectify(simd, x));
            }
        }
        let mut xs: Vec<f32> = (-1000..1000).map(|i| i as f32 * 0.13).collect();
        xs.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, -0.0, f32::NAN]);
        let (mut powers, mut rectified) = (xs.clone(), xs.clone());
        arch().dispatch(Both(&mut powers, &mut rectified));
        for ((x, power), rectified) in xs.into_iter().zip(powers).zip(rectified) {
            assert!(
                (power - exp(x)).abs() <= 1e-6 * power || power.to_bits() == exp(x).to_bits() || x.is_nan()
            );
            assert_eq!((power.is_nan(), rectified.is_nan()), (x.is_nan(), x.is_nan()), "{x}");
            assert!(x.is_nan() || rectified == x.max(0.0), "{x}: {rectified}");
        }
    }

    #[test]
    fn ln_is_near_the_library_one_everywhere() {
        for i in 1..200_000 {
            for x in [i as f32 * 1e-4, i as f32 * 137.0, 1.0 / i as f32] {
                let (fast, slow) = (ln(x), x.ln());
                assert!((fast - slow).abs() <= 2e-7 * slow.abs().max(1.0), "ln({x}) = {fast}, not {slow}");
            }
        }
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
