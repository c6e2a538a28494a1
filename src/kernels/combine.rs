//! A weighted sum of values of one shape: a solver's stage, guidance, a point beside the data.
//!
//! ```text
//! y[i] = Σ_j c_j x_j[i]        j < count ≤ 7
//! ```
//! A stage of a Runge-Kutta method is x + h Σ a_j k_j, guidance is v_u + g (v_c − v_u). Seven terms and the result are the
//! eight storage buffers that WebGPU promises: the last stage of Dormand and Prince's method has six.

use super::check::{Case, Data, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// Terms at most.
pub const MAX_TERMS: usize = 7;

/// The sum. Inputs: seven x `[len]`, those past the last term nothing. Outputs: y `[len]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Combine {
    /// Elements of every term.
    pub len: usize,
    /// c, one to seven of them.
    pub coefficients: Vec<f64>,
}

impl Describe for Combine {
    const NAME: &'static str = "combine";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("combine"), self.len, 64)
    }

    fn params(&self) -> Vec<u32> {
        let mut words = vec![word(self.len), word(self.coefficients.len())];
        words.extend(self.coefficients.iter().map(|&c| (c as f32).to_bits()));
        words.resize(2 + MAX_TERMS, 0);
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let y = &mut io.outputs[0][..self.len];
        for (j, &c) in self.coefficients.iter().enumerate() {
            let (c, x) = (T::of(c), &io.inputs[j].floats()[..self.len]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = if j == 0 { c * x } else { *y + c * x };
            }
        }
    }

    fn flops(&self) -> u64 {
        (2 * self.len * self.coefficients.len()) as u64
    }
}

impl Combine {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |len: usize, count: usize| {
            let coefficients = (0..count).map(|j| [1.0, 0.3, -2.5, 1.0 / 6.0][j % 4]).collect();
            let mut case = Case::new(format!("{count} terms of {len}"), Combine { len, coefficients });
            for j in 0..MAX_TERMS {
                case = if j < count { case.input(len) } else { case.data(Data::Nothing) };
            }
            case.output(len)
        };
        let sizes = ODD.into_iter().map(|len| case(len, 3));
        let counts = (1..=MAX_TERMS).map(|count| case(129, count));
        // The last has more than 65,535 workgroups.
        sizes.chain(counts).chain([case(65_537 * 64, 2)]).collect()
    }
}
