//! The numbers twins are written over: f32 to work with, f64 to be checked against.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub};

use super::Io;

/// f32 or f64.
pub trait Float:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The nearest value to `x`.
    fn of(x: f64) -> Self;
    /// As f64.
    fn f64(self) -> f64;
    /// e to this power.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Sine, radians.
    fn sin(self) -> Self;
    /// Cosine, radians.
    fn cos(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;
    /// The largest whole number not above this one.
    fn floor(self) -> Self;
    /// Whether neither infinite nor NaN.
    fn finite(self) -> bool;
    /// The larger of two.
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    /// The smaller of two.
    fn smaller(self, other: Self) -> Self {
        if other < self { other } else { self }
    }
    /// The same slice where this is f32, `None` otherwise.
    fn as_f32(slice: &[Self]) -> Option<&[f32]>;
    /// A fast body's chance: the same where this is f32, `None` otherwise.
    fn io_as_f32<'r, 'a, 'b>(io: &'r mut Io<'a, 'b, Self>) -> Option<&'r mut Io<'a, 'b, f32>>;
}

macro_rules! float {
    ($t:ty, $erf:path, $as_f32:expr, $io_as_f32:expr) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                <$t>::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                <$t>::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn sin(self) -> Self {
                <$t>::sin(self)
            }
            #[inline(always)]
            fn cos(self) -> Self {
                <$t>::cos(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                <$t>::tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            #[inline(always)]
            fn floor(self) -> Self {
                <$t>::floor(self)
            }
            #[inline(always)]
            fn finite(self) -> bool {
                self.is_finite()
            }
            fn as_f32(slice: &[Self]) -> Option<&[f32]> {
                $as_f32(slice)
            }
            fn io_as_f32<'r, 'a, 'b>(io: &'r mut Io<'a, 'b, Self>) -> Option<&'r mut Io<'a, 'b, f32>> {
                $io_as_f32(io)
            }
        }
    };
}
float!(f32, libm::erff, Some, Some);
float!(f64, libm::erf, |_| None, |_| None);
