//! Adam, AdamW, clipping by the norm of all gradients, and a moving average of the weights.
//!
//! Parameters, gradients and moments are flat, in shards; a step is one launch of each kernel for each shard, and
//! one of `ClipScale` between them. The formulas are PyTorch's (Kingma and Ba, arXiv 1412.6980; Loshchilov and
//! Hutter, arXiv 1711.05101):
//! ```text
//! norm  = √(Σ g²) over all shards
//! scale = min(1, max_norm / (norm + 1e-6)), or 1 where max_norm ≤ 0
//! g ← scale g            (Adam: + λ p)
//! m ← β1 m + (1 − β1) g
//! v ← β2 v + (1 − β2) g²
//! p ← p − rate · lr / (1 − β1^t) · m / (√v / √(1 − β2^t) + ε)            (AdamW: and − rate · lr λ p)
//! average ← average + (1 − d)(p − average)
//! ```
//! A norm that is not finite skips the update on every shard: weights, moments and average stay as they are, and
//! the step's number is latched, so that a host that looks every few steps still learns which was the first.
//!
//! What elements lie between parameters in a shard have gradient 0 and stay 0. A squared norm past f32's range
//! (a norm above 1.8e19) counts as not finite.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// What a step needs to know that changes with the step; PyTorch's meanings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step.
    pub lr: f64,
    /// β1, β2.
    pub betas: [f64; 2],
    /// ε.
    pub eps: f64,
    /// λ.
    pub weight_decay: f64,
    /// d, what the moving average keeps.
    pub ema_decay: f64,
    /// Largest norm of the gradient; 0 for none.
    pub max_norm: f64,
}

impl Hyper {
    /// Words of the hyper binding.
    pub const WORDS: usize = 12;

    /// The hyper binding for step t = `step`, counted from 1. Differences from 1 and powers are taken in f64: 1 − β2
    /// from an f32 β2 of 0.999 would be off by 1e-5 of itself.
    ///
    /// | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 |
    /// |---|---|---|---|---|---|---|---|---|---|---|---|
    /// | lr / (1 − β1^t) | β1 | 1 − β1 | β2 | 1 − β2 | √(1 − β2^t) | ε | λ | lr λ | 1 − d | max_norm | t |
    pub fn words(&self, step: u64) -> [f32; Self::WORDS] {
        let [beta1, beta2] = self.betas;
        let t = step as f64;
        let step_size = self.lr / (1.0 - beta1.powf(t));
        let root = (1.0 - beta2.powf(t)).sqrt();
        let decay = [self.eps, self.weight_decay, self.lr * self.weight_decay, 1.0 - self.ema_decay];
        let moments = [step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, root];
        let mut words = [0.0; Self::WORDS];
        for (word, value) in words.iter_mut().zip(moments.into_iter().chain(decay).chain([self.max_norm, t]))
        {
            *word = value as f32;
        }
        words
    }
}

/// Sums of squares. Inputs: x `[len]`. Outputs: partials `[groups]`, which add up to Σ x².
#[derive(Debug, Clone, PartialEq)]
pub struct SquaredNorm {
    /// Elements.
    pub len: usize,
}

impl SquaredNorm {
    /// Partial sums: 64, 128, 192 or 256, so that those of the next shard can be bound right behind them.
    pub fn groups(&self) -> usize {
        self.len.div_ceil(1024).next_multiple_of(64).clamp(64, 256)
    }
}

impl Describe for SquaredNorm {
    const NAME: &'static str = "squared_norm";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::groups(shader!("squared_norm"), self.groups())
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.len)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let partials = &mut io.outputs[0];
        partials.fill(T::ZERO);
        for (at, block) in io.inputs[0].floats().chunks(256).enumerate() {
            let sum = block.iter().map(|&x| x * x).sum();
            partials[at % self.groups()] += sum;
        }
    }

    fn flops(&self) -> u64 {
        2 * self.len as u64
    }
}

impl SquaredNorm {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let lens = ODD.into_iter().chain([65_537, 300_001]);
        let case = |len| {
            let kernel = SquaredNorm { len };
            let groups = kernel.groups();
            Case::new(format!("{len}"), kernel).input(len).output(groups)
        };
        lens.map(case).collect()
    }
}

/// What the norm means for this step. Inputs: partials `[partials]` of all shards, hyper `[12]`. Outputs, in place:
/// state `[4]`: norm (−1 where it is not finite), scale, finite (1 or 0), and the first step whose norm was not
/// finite (0 while there is none).
#[derive(Debug, Clone, PartialEq)]
pub struct ClipScale {
    /// Partial sums.
    pub partials: usize,
}

impl Describe for ClipScale {
    const NAME: &'static str = "clip_scale";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::groups(shader!("clip_scale"), 1)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.partials)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (partials, hyper) = (io.inputs[0].floats(), io.inputs[1].floats());
        let (square, max_norm) = (T::of(partials.iter().map(|x| x.f64()).sum()), hyper[10]);
        let state = &mut io.outputs[0];
        if !square.finite() {
            (state[0], state[1], state[2]) = (-T::ONE, T::ZERO, T::ZERO);
            if state[3] == T::ZERO {
                state[3] = hyper[11];
            }
            return;
        }
        let norm = square.sqrt();
        let scale = T::ONE.smaller(max_norm / (norm + T::of(1e-6)));
        (state[0], state[1], state[2]) = (norm, if max_norm > T::ZERO { scale } else { T::ONE }, T::ONE);
    }

    fn flops(&self) -> u64 {
        self.partials as u64
    }
}

/// Hyper-parameters of the cases.
const HYPER: Hyper =
    Hyper { lr: 3e-3, betas: [0.9, 0.999], eps: 1e-5, weight_decay: 0.1, ema_decay: 0.995, max_norm: 1.0 };

impl ClipScale {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |name: &str, partials: Vec<f32>, max_norm: f64, latch: f32| {
            let words = Hyper { max_norm, ..HYPER }.words(7).to_vec();
            let case =
                Case::new(format!("{} {name}", partials.len()), ClipScale { partials: partials.len() });
            let mut case = case.floats(partials).floats(words);
            case.outputs.push(vec![3.0, 3.0, 3.0, latch]);
            cases.push(case);
        };
        for len in ODD.into_iter().chain([64, 1024]) {
            let squares: Vec<f32> = (0..len).map(|i| (i % 7) as f32 + 0.3).collect();
            add("clipped", squares.clone(), 0.5, 0.0);
            add("below the bound", squares.clone(), 1e5, 0.0);
            add("without a bound", squares.clone(), 0.0, 4.0);
            for bad in [f32::NAN, f32::INFINITY] {
                let mut squares = squares.clone();
                squares[len / 2] = bad;
                add(&format!("with {bad}"), squares.clone(), 1.0, 0.0);
                add(&format!("with {bad} again"), squares, 1.0, 4.0);
            }
        }
        add("all zero", vec![0.0; 64], 1.0, 0.0);
        cases
    }
}

/// One step. Inputs: gradients `[len]`, state `[4]` from [`ClipScale`], hyper `[12]`. Outputs, in place: weights,
/// moment 1, moment 2, and, where there is one, the average, `[len]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Elements.
    pub len: usize,
    /// AdamW's decay, rather than Adam's L2 term in the gradient.
    pub decoupled: bool,
    /// Whether there is a moving average.
    pub average: bool,
    /// What the learning rate is multiplied by, PyTorch's parameter groups.
    pub rate: f32,
}

impl Describe for Adam {
    const NAME: &'static str = "adam";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        let shader = if self.average { shader!("adam_average") } else { shader!("adam") };
        Dispatch::linear(shader, self.len, 256)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.len), u32::from(self.decoupled), self.rate.to_bits()]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [gradients, state, h] = [0, 1, 2].map(|i| io.inputs[i].floats());
        if state[2] == T::ZERO {
            return;
        }
        for (i, &g) in gradients.iter().enumerate() {
            let w = io.outputs[0][i];
            let g = g * state[1] + if self.decoupled { T::ZERO } else { h[7] * w };
            let m = h[1] * io.outputs[1][i] + h[2] * g;
            let v = h[3] * io.outputs[2][i] + h[4] * g * g;
            let decay = if self.decoupled { h[8] * w } else { T::ZERO };
            let w = w - T::of(f64::from(self.rate)) * (h[0] * m / (v.sqrt() / h[5] + h[6]) + decay);
            (io.outputs[0][i], io.outputs[1][i], io.outputs[2][i]) = (w, m, v);
            if self.average {
                let average = io.outputs[3][i];
                io.outputs[3][i] = average + h[9] * (w - average);
            }
        }
    }

    fn flops(&self) -> u64 {
        16 * self.len as u64
    }
}

impl Adam {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |len: usize, decoupled: bool, average: bool, finite: bool, rate: f32| {
            let name = if decoupled { "AdamW" } else { "Adam" };
            let name = format!("{name} {len}") + if average { " averaged" } else { "" };
            let name = name + if finite { "" } else { " skipped" };
            let name = if rate == 1.0 { name } else { format!("{name} at {rate} of the rate") };
            // Cheap values, that differ from their neighbours: the folded case has many.
            let wave = |a: usize, m: usize| (0..len).map(|i| (i * a % m) as f32 / m as f32 - 0.4).collect();
            let mut case = Case::new(name, Adam { len, decoupled, average, rate }).floats(wave(619, 1009));
            let state = if finite { [2.5, 0.4, 1.0, 0.0] } else { [-1.0, 0.0, 0.0, 3.0] };
            case = case.floats(state.to_vec()).floats(HYPER.words(3).to_vec());
            case.outputs = vec![wave(421, 613), wave(233, 509)];
            case.outputs.push((0..len).map(|i| (i * 347 % 1013) as f32 * 1e-4).collect());
            if average {
                case.outputs.push(wave(127, 251));
            }
            cases.push(case);
        };
        for len in ODD.into_iter().chain([1000]) {
            for (decoupled, average) in [(false, false), (false, true), (true, false), (true, true)] {
                add(len, decoupled, average, true, 1.0);
            }
        }
        add(300, true, true, false, 1.0);
        add(300, false, false, false, 1.0);
        add(300, true, true, true, 0.1);
        add(300, false, false, true, 0.1);
        // More than 65,535 workgroups.
        add(65_537 * 256, true, false, true, 1.0);
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, Slice};
    use super::*;

    fn run<'b>(kernel: impl Into<Kernel>, inputs: &[&'b [f64]], outputs: &mut [&'b mut [f64]]) {
        let inputs: Vec<_> = inputs.iter().copied().map(Slice::F).collect();
        kernel.into().twin(&mut Io { inputs: &inputs, outputs });
    }

    /// PyTorch 2.15 in float64: parameters [0.5, -1.25], [2], [0.03125, -0.75, 1.5]; five steps with lr 0.01, betas
    /// (0.9, 0.999), eps 1e-5, weight_decay 0.1, gradient i of parameter p at step t = (1 + p) sin(1.7 t + 0.9 p +
    /// 0.37 i), clip_grad_norm_ to 4 before each; average = average.lerp(weights, 0.25) after each. Weights, exp_avg,
    /// exp_avg_sq, average. `Adam`, then `AdamW`.
    #[rustfmt::skip]
    const PYTORCH: [[[f64; 6]; 4]; 2] = [
        [
            [0.480041294667, -1.256256723314, 1.988621552889, 0.054404653046, -0.724913389410, 1.520552548813],
            [0.109271783065, 0.023512661941, 0.156739878970, -0.125851187195, -0.237868993642, -0.197718681061],
            [0.002542788712, 0.002202693149, 0.009049571826, 0.019049166086, 0.020648436215, 0.020513023588],
            [0.487544828033, -1.255199435324, 1.993112064497, 0.047104979624, -0.733521990124, 1.513951378656],
        ],
        [
            [0.480018451569, -1.256763401772, 1.984179471717, 0.054243486614, -0.722293635054, 1.515288109362],
            [0.089284325918, 0.074958707191, 0.075112772601, -0.127780433174, -0.207813756448, -0.259720462686],
            [0.002426109025, 0.002333783377, 0.008564640385, 0.019057997414, 0.020211899214, 0.021374619075],
            [0.487371725123, -1.255058823430, 1.990378690162, 0.047015750977, -0.731967568171, 1.510864766852],
        ],
    ];
    /// The norms before clipping: steps 3 and 5 are clipped.
    const NORMS: [f64; 5] = [3.879364867103, 3.957790743317, 4.423438347373, 3.377266034014, 4.825254036952];

    fn gradient(step: usize) -> Vec<f64> {
        let places = [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)];
        let value = |(p, i): (usize, usize)| {
            (1.7 * step as f64 + 0.9 * p as f64 + 0.37 * i as f64).sin() * (1.0 + p as f64)
        };
        places.into_iter().map(value).collect()
    }

    fn wide(words: [f32; Hyper::WORDS]) -> Vec<f64> {
        words.into_iter().map(f64::from).collect()
    }

    #[test]
    fn five_clipped_steps_are_those_of_pytorch() {
        let hyper = Hyper { lr: 0.01, ema_decay: 0.75, max_norm: 4.0, ..HYPER };
        for (decoupled, expected) in [false, true].into_iter().zip(PYTORCH) {
            let mut w = vec![0.5, -1.25, 2.0, 0.03125, -0.75, 1.5];
            let (mut m, mut v, mut average) = (vec![0.0; 6], vec![0.0; 6], w.clone());
            let mut state = vec![0.0; 4];
            for step in 1..=5 {
                let (gradient, words) = (gradient(step), wide(hyper.words(step as u64)));
                // Two shards, whose partial sums lie one behind the other.
                let mut partials = vec![9.0; 128];
                let (left, right) = partials.split_at_mut(64);
                run(SquaredNorm { len: 2 }, &[&gradient[..2]], &mut [left]);
                run(SquaredNorm { len: 4 }, &[&gradient[2..]], &mut [right]);
                run(ClipScale { partials: 128 }, &[&partials, &words], &mut [&mut state]);
                approx::assert_relative_eq!(state[0], NORMS[step - 1], max_relative = 1e-12);
                for range in [0..2, 2..6] {
                    run(
                        Adam { len: range.len(), decoupled, average: true, rate: 1.0 },
                        &[&gradient[range.clone()], &state, &words],
                        &mut [
                            &mut w[range.clone()],
                            &mut m[range.clone()],
                            &mut v[range.clone()],
                            &mut average[range],
                        ],
                    );
                }
            }
            // The hyper words are f32: 6e-8 of each change.
            for (answer, expected) in [w, m, v, average].iter().zip(&expected) {
                for (answer, expected) in answer.iter().zip(expected) {
                    approx::assert_abs_diff_eq!(answer, expected, epsilon = 2e-8);
                }
            }
        }
    }

    #[test]
    fn a_bad_gradient_changes_nothing_and_is_remembered() {
        let mut state = vec![0.0; 4];
        let mut step = |number, gradient: f64, w: &mut [f64; 1]| {
            let mut partials = vec![0.0; 64];
            run(SquaredNorm { len: 1 }, &[&[gradient]], &mut [&mut partials]);
            let words = wide(HYPER.words(number));
            run(ClipScale { partials: 64 }, &[&partials, &words], &mut [&mut state]);
            let (mut m, mut v) = ([0.0], [0.0]);
            let kernel = Adam { len: 1, decoupled: true, average: false, rate: 1.0 };
            run(kernel, &[&[gradient], &state, &words], &mut [w, &mut m, &mut v]);
            (state[2], state[3])
        };
        let mut w = [1.0];
        assert_eq!(step(1, 0.5, &mut w), (1.0, 0.0));
        let moved = w;
        assert_eq!(step(2, f64::NAN, &mut w), (0.0, 2.0));
        assert_eq!(step(3, f64::INFINITY, &mut w), (0.0, 2.0));
        assert_eq!(w, moved);
        assert_eq!(step(4, 0.5, &mut w), (1.0, 2.0));
        assert!(w < moved);
    }
}
