//! Sums over rows that repeat: a broadcast addition, its gradient, and a plain addition in place.
//!
//! ```text
//! AddRows      y[r, c] = x[r, c] + b[g(r), c]                                     g(r) = ⌊r / div⌋ mod modulo
//! ReduceRows   y[offset + g columns + c] = α Σ_{r : g(r) = g} x[r, c] + β y[offset + g columns + c]
//! AddInto      y[i] += x[i]
//! ```
//! A positional embedding for sequences of N tokens is b with div 1 and modulo N; a vector for each sample, added to
//! each of its H tokens, is b with div H and modulo B. The gradients of `AddRows` are dx = dy and db = `ReduceRows`
//! of dy with the same div and modulo. A bias gradient is `ReduceRows` with modulo 1; a mean has α = 1 / count, and
//! its own gradient is α dy added to each row of the group.
//!
//! With β = 0 what y held is not read. Sums are taken in a fixed order without atomics: the same bits every time.

use super::check::{Case, ODD};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, word};

/// The broadcast addition. Inputs: x `[rows, columns]`, b `[modulo, columns]`. Outputs: y `[rows, columns]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AddRows {
    /// Rows of x and y.
    pub rows: usize,
    /// Columns of all three.
    pub columns: usize,
    /// Neighbouring rows of x that take the same row of b.
    pub div: usize,
    /// Rows of b.
    pub modulo: usize,
}

impl Describe for AddRows {
    const NAME: &'static str = "add_rows";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("add_rows"), self.rows * self.columns, 256)
    }

    fn params(&self) -> Vec<u32> {
        [self.rows * self.columns, self.columns, self.div, self.modulo].into_iter().map(word).collect()
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (x, b) = (io.inputs[0].floats(), io.inputs[1].floats());
        for r in 0..self.rows {
            let b = &b[r / self.div % self.modulo * self.columns..];
            for c in 0..self.columns {
                io.outputs[0][r * self.columns + c] = x[r * self.columns + c] + b[c];
            }
        }
    }

    fn flops(&self) -> u64 {
        (self.rows * self.columns) as u64
    }
}

/// Shapes that all row kernels are tried on: rows, columns, div, modulo.
const SHAPES: [(usize, usize, usize, usize); 7] = [
    (1, 1, 1, 1),
    (3, 17, 1, 3),
    (63, 65, 3, 4),
    (65, 3, 1, 1),
    (129, 63, 17, 8),
    (130, 64, 2, 65),
    (17, 129, 5, 2),
];

impl AddRows {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |(rows, columns, div, modulo)| {
            let name = format!("{rows}x{columns} by {modulo}, each {div}");
            Case::new(name, AddRows { rows, columns, div, modulo })
        };
        let mut cases: Vec<Case> = SHAPES
            .into_iter()
            .map(|shape| {
                let len = shape.0 * shape.1;
                case(shape).input(len).input(shape.3 * shape.1).output(len)
            })
            .collect();
        // More than 65,535 workgroups.
        let (rows, columns) = (65_537, 256);
        let mut folded = case((rows, columns, 5, 129)).floats(ramp(rows * columns)).input(129 * columns);
        folded.outputs.push(vec![7.0; rows * columns]);
        cases.push(folded);
        cases
    }
}

/// Values that differ from their neighbours and cost nothing to make.
fn ramp(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i % 8191) as f32 / 4096.0 - 1.0).collect()
}

/// The sum of rows by group. Inputs: x `[rows, columns]`. Outputs, in place: y, of which `[modulo, columns]` from
/// `offset` are written.
#[derive(Debug, Clone, PartialEq)]
pub struct ReduceRows {
    /// Rows of x.
    pub rows: usize,
    /// Columns of x and y.
    pub columns: usize,
    /// Neighbouring rows of x that belong to the same group.
    pub div: usize,
    /// Groups: rows of y.
    pub modulo: usize,
    /// First element of y in its binding.
    pub offset: usize,
    /// α, what the sum is scaled by.
    pub alpha: f32,
    /// β, what the old value is scaled by: 0 to replace it, 1 to accumulate.
    pub beta: f32,
}

impl ReduceRows {
    /// The sum of all rows, replacing what was there.
    pub fn all(rows: usize, columns: usize) -> Self {
        Self { rows, columns, div: 1, modulo: 1, offset: 0, alpha: 1.0, beta: 0.0 }
    }

    /// The same sum of all rows by two launches, the first into `[parts, columns]`. One launch has a workgroup for
    /// each 16 columns, which leaves a large GPU idle where there are many rows and few columns.
    ///
    /// # Panics
    /// If there is more than one group: those are spread over workgroups already.
    pub fn in_two(self, parts: usize) -> [Self; 2] {
        assert_eq!(self.modulo, 1, "only a sum of all rows is split");
        let parts = parts.clamp(1, self.rows.max(1));
        let first =
            Self { div: self.rows.div_ceil(parts), modulo: parts, ..Self::all(self.rows, self.columns) };
        [first, Self { rows: parts, div: 1, ..self }]
    }
}

impl Describe for ReduceRows {
    const NAME: &'static str = "reduce_rows";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::groups(shader!("reduce_rows"), self.modulo * self.columns.div_ceil(16))
            .with("ONE_GROUP", if self.modulo == 1 { 1.0 } else { 0.0 })
    }

    fn params(&self) -> Vec<u32> {
        let sizes = [self.rows, self.columns, self.div, self.modulo, self.offset];
        let mut words: Vec<u32> = sizes.into_iter().map(word).collect();
        words.extend([self.alpha.to_bits(), self.beta.to_bits()]);
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let x = io.inputs[0].floats();
        let (alpha, beta) = (T::of(f64::from(self.alpha)), T::of(f64::from(self.beta)));
        // In f64 whatever T is: 100,000 terms one after the other would cost f32 a digit and a half.
        let mut sums = vec![0.0; self.modulo * self.columns];
        for (r, row) in x.chunks_exact(self.columns).take(self.rows).enumerate() {
            let sums = &mut sums[r / self.div % self.modulo * self.columns..];
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x.f64();
            }
        }
        for (y, sum) in io.outputs[0][self.offset..].iter_mut().zip(sums) {
            let kept = if self.beta == 0.0 { T::ZERO } else { beta * *y };
            *y = alpha * T::of(sum) + kept;
        }
    }

    fn flops(&self) -> u64 {
        (self.rows * self.columns) as u64
    }
}

impl ReduceRows {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |kernel: ReduceRows| {
            let ReduceRows { rows, columns, div, modulo, offset, alpha, beta } = kernel;
            let name = format!("{rows}x{columns} to {modulo}, each {div}, {alpha} x + {beta} y at {offset}");
            cases.push(Case::new(name, kernel).input(rows * columns).output(offset + modulo * columns + 3));
        };
        for (rows, columns, div, modulo) in SHAPES {
            let plain = ReduceRows { div, modulo, ..ReduceRows::all(rows, columns) };
            add(ReduceRows { offset: 5, alpha: 0.25, beta: 1.0, ..plain.clone() });
            add(plain);
        }
        for rows in ODD {
            add(ReduceRows { alpha: -1.5, beta: 0.5, ..ReduceRows::all(rows, 33) });
        }
        add(ReduceRows::all(100_003, 18));
        // More than 65,535 workgroups.
        add(ReduceRows { modulo: 65_537, ..ReduceRows::all(65_540, 3) });
        cases
    }
}

/// Addition in place over a run of both. Inputs: x `[offset + len..]`. Outputs, in place: y `[offset + len..]`.
#[derive(Debug, Clone, PartialEq)]
pub struct AddInto {
    /// First element.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

impl Describe for AddInto {
    const NAME: &'static str = "add_into";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        Dispatch::linear(shader!("add_into"), self.len, 256)
    }

    fn params(&self) -> Vec<u32> {
        vec![word(self.offset), word(self.len)]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let run = self.offset..self.offset + self.len;
        for (y, &x) in io.outputs[0][run.clone()].iter_mut().zip(&io.inputs[0].floats()[run]) {
            *y += x;
        }
    }

    fn flops(&self) -> u64 {
        self.len as u64
    }
}

impl AddInto {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let case = |offset, len| Case::new(format!("{len} from {offset}"), AddInto { offset, len });
        let of = |len| case(5, len).input(len + 9).output(len + 9);
        let mut cases: Vec<Case> = ODD.into_iter().map(of).collect();
        // More than 65,535 workgroups.
        let len = 65_537 * 256;
        let mut folded = case(0, len).floats(ramp(len));
        folded.outputs.push((0..len).map(|i| (i % 613) as f32).collect());
        cases.push(folded);
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kernel, Slice};
    use super::*;

    fn run(kernel: impl Into<Kernel>, inputs: &[&[f64]], mut y: Vec<f64>) -> Vec<f64> {
        let inputs: Vec<_> = inputs.iter().copied().map(Slice::F).collect();
        kernel.into().twin(&mut Io { inputs: &inputs, outputs: &mut [&mut y[..]] });
        y
    }

    fn wave(len: usize, speed: f64) -> Vec<f64> {
        (0..len).map(|i| (i as f64 * speed).sin()).collect()
    }

    #[test]
    fn the_gradient_of_the_repeated_rows_is_their_reduction() {
        for (rows, columns, div, modulo) in SHAPES {
            let add = AddRows { rows, columns, div, modulo };
            let (x, b) = (wave(rows * columns, 0.7), wave(modulo * columns, 1.3));
            // Loss Σ u y² / 2, so that the upstream gradient is u y: neither constant nor one.
            let u = wave(rows * columns, 0.31);
            let forward = |b: &[f64]| run(add.clone(), &[&x, b], vec![0.0; rows * columns]);
            let loss = |b: &[f64]| forward(b).iter().zip(&u).map(|(y, u)| u * y * y / 2.0).sum::<f64>();
            let dy: Vec<f64> = forward(&b).iter().zip(&u).map(|(y, u)| u * y).collect();
            let reduce = ReduceRows { div, modulo, ..ReduceRows::all(rows, columns) };
            let db = run(reduce, &[&dy], vec![9.0; modulo * columns]);
            for i in 0..b.len() {
                let moved = |h: f64| {
                    let mut b = b.clone();
                    b[i] += h;
                    loss(&b)
                };
                let difference = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                approx::assert_abs_diff_eq!(db[i], difference, epsilon = 1e-8);
            }
        }
    }

    #[test]
    fn a_sum_in_two_launches_is_the_same_sum() {
        for (rows, parts) in [(1, 64), (65, 64), (1000, 64), (129, 1), (4097, 63)] {
            let kernel = ReduceRows { offset: 2, alpha: 0.5, beta: 1.0, ..ReduceRows::all(rows, 3) };
            let x = wave(rows * 3, 0.9);
            let whole = run(kernel.clone(), &[&x], wave(5, 0.2));
            let [first, second] = kernel.in_two(parts);
            let partial = run(first.clone(), &[&x], vec![9.0; first.modulo * 3]);
            let split = run(second, &[&partial], wave(5, 0.2));
            for (a, b) in whole.iter().zip(&split) {
                approx::assert_abs_diff_eq!(a, b, epsilon = 1e-12);
            }
        }
    }

    #[test]
    fn a_replaced_sum_does_not_read_what_was_there() {
        let y = run(ReduceRows::all(3, 1), &[&[1.0, 2.0, 4.0]], vec![f64::NAN]);
        assert_eq!(y, [7.0]);
    }
}
