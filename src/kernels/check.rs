//! Case tables: what a kernel is tried on, by its tests and by `flowgpu doctor`, and how answers are compared.

use half::f16;

use super::{Binding, Dtype, Float, Io, Kernel, Place, Plan, Slice, Slot, Step};
use crate::rng::{Rng, Stream};

/// Sizes that catch what round ones hide.
pub const ODD: [usize; 6] = [1, 3, 17, 63, 65, 129];

/// What fills a binding.
#[derive(Debug, Clone)]
pub enum Data {
    /// Floats.
    F(Vec<f32>),
    /// 16-bit floats.
    H(Vec<f16>),
    /// Bytes.
    U8(Vec<u8>),
    /// Words.
    U32(Vec<u32>),
    /// Nothing is bound.
    Nothing,
}

/// One kernel on one set of inputs.
#[derive(Debug, Clone)]
pub struct Case {
    /// Shapes and options, for a person.
    pub name: String,
    /// What runs.
    pub kernel: Kernel,
    /// Inputs in binding order.
    pub inputs: Vec<Data>,
    /// Outputs in binding order: what they hold before the launch.
    pub outputs: Vec<Vec<f32>>,
    /// Largest accepted NMSE of an output.
    pub nmse: f64,
    /// Largest accepted error, in units of the reference's largest magnitude.
    pub max_error: f64,
}

/// How far an answer is from the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Σ(x − ref)² / Σ ref² (Σ(x − ref)² where the reference is all zeros).
    pub nmse: f64,
    /// max |x − ref|.
    pub max_abs: f64,
    /// max |ref|.
    pub scale: f64,
}

impl Distance {
    /// Compares an answer with its reference; NaN on either side counts as infinitely far.
    pub fn between(answer: &[f64], reference: &[f64]) -> Self {
        if answer.len() != reference.len() {
            return Self { nmse: f64::INFINITY, max_abs: f64::INFINITY, scale: 0.0 };
        }
        let (mut error, mut power, mut max_abs, mut scale) = (0.0, 0.0, 0.0_f64, 0.0_f64);
        for (&x, &r) in answer.iter().zip(reference) {
            let d = (x - r).abs();
            let d = if d.is_nan() { f64::INFINITY } else { d };
            error += d * d;
            power += r * r;
            max_abs = max_abs.max(d);
            scale = scale.max(r.abs());
        }
        Self { nmse: if power > 0.0 { error / power } else { error }, max_abs, scale }
    }
}

impl Case {
    /// A case without bindings yet, with the bounds for f32: NMSE 1e-10, largest error 1e-4 of the largest value.
    pub fn new(name: impl Into<String>, kernel: impl Into<Kernel>) -> Self {
        Self {
            name: name.into(),
            kernel: kernel.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            nmse: 1e-10,
            max_error: 1e-4,
        }
    }

    /// Adds an input of normal noise, keyed by its place.
    #[must_use]
    pub fn input(self, len: usize) -> Self {
        let values = self.noise(len);
        self.data(Data::F(values))
    }

    /// The same in 16 bits.
    #[must_use]
    pub fn half_input(self, len: usize) -> Self {
        let values = self.noise(len).into_iter().map(f16::from_f32).collect();
        self.data(Data::H(values))
    }

    /// Adds an input of floats that f16 has as well.
    #[must_use]
    pub fn input_of_halves(self, len: usize) -> Self {
        let values = self.noise(len).into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
        self.data(Data::F(values))
    }

    /// Adds an input of given floats.
    #[must_use]
    pub fn floats(self, values: Vec<f32>) -> Self {
        self.data(Data::F(values))
    }

    /// Adds any input.
    #[must_use]
    pub fn data(mut self, data: Data) -> Self {
        self.inputs.push(data);
        self
    }

    /// Adds an output that starts as noise: what a kernel must not read, it had better not.
    #[must_use]
    pub fn output(mut self, len: usize) -> Self {
        let values = self.noise(len);
        self.outputs.push(values);
        self
    }

    /// The first input's floats a hundred deviations from zero: that costs digits of their differences, and an error is accepted
    /// that these digits explain.
    ///
    /// # Panics
    /// If the first input is of another kind.
    #[must_use]
    pub fn far_from_zero(mut self) -> Self {
        let Some(Data::F(values)) = self.inputs.first_mut() else {
            panic!("{}: the first input is floats", self.name)
        };
        values.iter_mut().for_each(|x| *x += 100.0);
        self.name.push_str(" far from zero");
        self.within(1e-9, 1e-4)
    }

    /// Accepts a larger error; say at the call why.
    #[must_use]
    pub fn within(mut self, nmse: f64, max_error: f64) -> Self {
        (self.nmse, self.max_error) = (nmse, max_error);
        self
    }

    fn noise(&self, len: usize) -> Vec<f32> {
        let place = (self.inputs.len() + 31 * self.outputs.len()) as u32;
        let mut rng = Rng::new(len as u64, Stream::Init, 0, place);
        (0..len).map(|_| rng.normal() as f32).collect()
    }

    /// The reference outputs, by the f64 twin.
    pub fn reference(&self) -> Vec<Vec<f64>> {
        self.on_twin::<f64>()
    }

    /// The outputs of the twin in a precision, as f64.
    pub fn on_twin<T: Float>(&self) -> Vec<Vec<f64>> {
        let wide = |values: &[f32]| values.iter().map(|&v| T::of(f64::from(v))).collect::<Vec<T>>();
        let floats: Vec<Vec<T>> = self
            .inputs
            .iter()
            .map(|data| if let Data::F(values) = data { wide(values) } else { Vec::new() })
            .collect();
        let inputs: Vec<Slice<'_, T>> = self
            .inputs
            .iter()
            .zip(&floats)
            .map(|(data, floats)| match data {
                Data::F(_) => Slice::F(floats),
                Data::H(halves) => Slice::H(halves),
                Data::U8(bytes) => Slice::U8(bytes),
                Data::U32(words) => Slice::U32(words),
                Data::Nothing => Slice::Nothing,
            })
            .collect();
        let mut outputs: Vec<Vec<T>> = self.outputs.iter().map(|values| wide(values)).collect();
        let mut slices: Vec<&mut [T]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        self.kernel.twin(&mut Io { inputs: &inputs, outputs: &mut slices });
        outputs.into_iter().map(|values| values.into_iter().map(Float::f64).collect()).collect()
    }

    /// A program of this one launch: its slots are the inputs that are there, then the outputs.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        let mut bind = |dtype, len| {
            plan.slots.push(Slot { dtype, len });
            Binding { place: Place::Slot(plan.slots.len() - 1), offset: 0, len }
        };
        let inputs = self
            .inputs
            .iter()
            .map(|data| match data {
                Data::F(values) => bind(Dtype::F32, values.len()),
                Data::H(values) => bind(Dtype::F16, values.len()),
                Data::U8(bytes) => bind(Dtype::U8, bytes.len()),
                Data::U32(words) => bind(Dtype::U32, words.len()),
                Data::Nothing => Binding::NOTHING,
            })
            .collect();
        let outputs = self.outputs.iter().map(|values| bind(Dtype::F32, values.len())).collect();
        plan.steps.push(Step { kernel: self.kernel.clone(), inputs, outputs });
        plan
    }

    /// The worst distance over the outputs, and whether it is accepted.
    pub fn judge(&self, answers: &[Vec<f64>]) -> (Distance, bool) {
        let mut worst = Distance { nmse: 0.0, max_abs: 0.0, scale: 0.0 };
        let mut accepted = answers.len() == self.outputs.len();
        for (answer, reference) in answers.iter().zip(self.reference()) {
            let distance = Distance::between(answer, &reference);
            accepted &= distance.nmse <= self.nmse
                && distance.max_abs <= self.max_error * distance.scale.max(f64::MIN_POSITIVE);
            if distance.nmse >= worst.nmse {
                worst = distance;
            }
        }
        (worst, accepted)
    }
}
