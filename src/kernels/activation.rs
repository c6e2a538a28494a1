//! Element-wise activations: y = f(x), and dx = f'(x) · dy.
//!
//! | kind | f(x) | f'(x) |
//! |---|---|---|
//! | `Relu` | max(x, 0) | 1 where x > 0 |
//! | `Gelu` | x Φ(x) = x/2 (1 + erf(x/√2)) | Φ(x) + x φ(x) |
//! | `GeluTanh` | x/2 (1 + tanh u), u = √(2/π)(x + 0.044715 x³) | by the product rule |
//! | `Silu` | x σ(x) | σ(x)(1 + x(1 − σ(x))) |
//!
//! GELU: Hendrycks and Gimpel, arXiv 1606.08415; tanh's argument is clamped to ±15, past which some drivers
//! answer NaN. For ReLU `x` may be the input or the output: their signs agree.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// Which activation; the discriminant is the number shaders know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u32)]
pub enum Activation {
    /// f(x) = x.
    #[default]
    None = 0,
    /// Rectifier.
    Relu = 1,
    /// GELU by erf.
    Gelu = 2,
    /// GELU by tanh.
    GeluTanh = 3,
    /// SiLU, also called swish.
    Silu = 4,
}

impl Activation {
    /// f(x).
    #[inline(always)]
    pub fn value<T: Float>(self, x: T) -> T {
        let half = T::of(0.5);
        match self {
            Activation::None => x,
            Activation::Relu => x.larger(T::ZERO),
            Activation::Gelu => half * x * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf()),
            Activation::GeluTanh => half * x * (T::ONE + tanh_argument(x).tanh()),
            Activation::Silu => x / (T::ONE + (-x).exp()),
        }
    }

    /// f'(x).
    #[inline(always)]
    pub fn slope<T: Float>(self, x: T) -> T {
        let half = T::of(0.5);
        match self {
            Activation::None => T::ONE,
            Activation::Relu => T::of(f64::from(u8::from(x > T::ZERO))),
            Activation::Gelu => {
                let density = T::of(0.398_942_280_401_432_7) * (-half * x * x).exp();
                half * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf()) + x * density
            }
            Activation::GeluTanh => {
                let h = tanh_argument(x).tanh();
                let du = T::of(SQRT_2_OVER_PI) * (T::ONE + T::of(3.0 * 0.044_715) * x * x);
                half * (T::ONE + h) + half * x * (T::ONE - h * h) * du
            }
            Activation::Silu => {
                let s = T::ONE / (T::ONE + (-x).exp());
                s * (T::ONE + x * (T::ONE - s))
            }
        }
    }
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

#[inline(always)]
fn tanh_argument<T: Float>(x: T) -> T {
    let u = T::of(SQRT_2_OVER_PI) * (x + T::of(0.044_715) * x * x * x);
    u.larger(T::of(-15.0)).smaller(T::of(15.0))
}

/// y = f(x). Inputs: x `[len]`. Outputs: y `[len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Activate {
    /// Which f.
    pub kind: Activation,
    /// Elements.
    pub len: usize,
}

impl Describe for Activate {
    const NAME: &'static str = "activation";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("activation"), self.len, 256)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.len), self.kind as u32]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let x = io.inputs[0].floats();
        for (y, &x) in io.outputs[0].iter_mut().zip(x) {
            *y = self.kind.value(x);
        }
    }

    fn flops(&self) -> u64 {
        self.len as u64
    }
}

impl Activate {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for kind in KINDS {
            for len in [ODD[0], ODD[4], 300] {
                cases.push(
                    Case::new(format!("{kind:?} {len}"), Activate { kind, len }).input(len).output(len),
                );
            }
        }
        // More than 65,535 workgroups.
        let len = 65_537 * 256;
        cases.push(
            Case::new("Relu, folded grid", Activate { kind: Activation::Relu, len }).input(len).output(len),
        );
        cases
    }
}

const KINDS: [Activation; 4] = [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Silu];

/// dx = f'(x) · dy. Inputs: x, dy `[len]`. Outputs: dx `[len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivateBackward {
    /// Which f.
    pub kind: Activation,
    /// Elements.
    pub len: usize,
}

impl Describe for ActivateBackward {
    const NAME: &'static str = "activation_backward";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("activation_backward"), self.len, 256)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.len), self.kind as u32]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (x, dy) = (io.inputs[0].floats(), io.inputs[1].floats());
        for ((dx, &x), &dy) in io.outputs[0].iter_mut().zip(x).zip(dy) {
            *dx = self.kind.slope(x) * dy;
        }
    }

    fn flops(&self) -> u64 {
        2 * self.len as u64
    }
}

impl ActivateBackward {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |kind, len| Case::new(format!("{kind:?} {len}"), ActivateBackward { kind, len });
        KINDS.into_iter().map(|kind| case(kind, 129).input(129).input(129).output(129)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_the_finite_differences_of_values() {
        for kind in KINDS {
            for i in -40..=40 {
                let (x, h) = (f64::from(i) * 0.2 + 0.013, 1e-6);
                let difference = (kind.value(x + h) - kind.value(x - h)) / (2.0 * h);
                approx::assert_abs_diff_eq!(kind.slope(x), difference, epsilon = 1e-8);
            }
        }
    }
}
