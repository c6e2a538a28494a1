//! Matrix product with an epilogue: C = R + α · f(A B + bias).
//!
//! ```text
//! C[i, j] = R[i mod r, j] + α · f( Σ_k A[i, k] B[k, j] + bias[j] )        i < m, j < n, k < kk
//! ```
//! or, where R is a gate ([`Matmul::gated`]), α · f(…) where R > 0 and else 0: a gradient's way through a rectifier.
//! Any of bias, f and R may be absent; each matrix may be transposed, strided, start at an offset, and step from
//! one batch entry to the next. A linear layer is B = Wᵀ; its gradients are dX = dY W and dW = dYᵀ X, which are
//! products again. One Euler step is R = x, α = ±1/N; a positional embedding is R with r rows.
//!
//! B may be stored as f16, two to a word: what is read is widened, which is exact, and halves the memory of weights.
//!
//! Where B is f16, A may be rounded to f16 too: then cooperative matrices multiply, and sums are f32 still.
//!
//! Eight shaders do the same: `matmul` (64x64 tiles in workgroup memory, 4x4 results an invocation; 32x32 where such tiles are
//! few), `matmul_large` (128x128 tiles, 8x8 results an invocation, where even these fill a GPU),
//! `matmul_registers` (the same 4x4 results, no workgroup memory, for software adapters), `matmul_subgroup` (32x64
//! results a subgroup of eight, for lavapipe), `matmul_uniform` (the same adapter, where B is a small weight),
//! `matmul_rows` (few rows: the sum over k is shared by the invocations of a workgroup), `matmul_cooperative_8` and `_16`
//! (by the hardware's own products of matrices).
//!
//! lavapipe (Mesa 22.3.6) runs a subgroup as one thread of eight-wide vectors, but loads element by element: some
//! 23 to 50 ns for eight elements, as long as 40 to 100 multiplications of eight. A kernel there is as fast as it has
//! multiplications to a load, hence the large tile and each element loaded by one invocation only. From a uniform
//! buffer eight times four elements take 20 to 27 ns: weights of at most 64 KiB are bound as one.
//!
//! In Mesa 26.2.6 loads cost less. What a loop hands from round to round is copied under the loop's mask, and spilled: a round has
//! four terms, or puts four rows away. A product and a sum are one instruction only where `fma` is written.

use super::activation::Activation;
use super::check::{Case, Data, ODD};
use super::shader::shader;
use super::{Abilities, AdapterClass, Describe, Dispatch, Float, Io, Matrices, Shader, UNIFORM_BYTES, word};

/// Where a matrix lies in its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// First element.
    pub offset: usize,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// Whether the stored rows are the matrix's columns.
    pub transposed: bool,
    /// Elements from one batch entry to the next.
    pub batch_stride: usize,
}

impl Matrix {
    /// Rows of `stride` elements, from the binding's start.
    pub fn rows(stride: usize) -> Self {
        Self { offset: 0, stride, transposed: false, batch_stride: 0 }
    }

    /// The transpose of rows of `stride` elements.
    pub fn transposed(stride: usize) -> Self {
        Self { transposed: true, ..Self::rows(stride) }
    }

    /// The same matrix, `offset` elements further on.
    #[must_use]
    pub fn at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// The same matrix, `batch_stride` elements on for each batch entry.
    #[must_use]
    pub fn every(self, batch_stride: usize) -> Self {
        Self { batch_stride, ..self }
    }

    /// Elements from one row, and from one column, to the next.
    pub fn steps(&self) -> (usize, usize) {
        if self.transposed { (1, self.stride) } else { (self.stride, 1) }
    }

    fn params(&self) -> [u32; 4] {
        let (row, column) = self.steps();
        [word(self.offset), word(row), word(column), word(self.batch_stride)]
    }
}

/// Workgroups that give every core of a large GPU one.
const FILLED: usize = 128;
/// Workgroups so few that smaller ones are faster.
const FEW: usize = 32;

/// The product. Inputs: A, B, bias (or nothing), R (or nothing). Outputs: C.
#[derive(Debug, Clone, PartialEq)]
pub struct Matmul {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Products side by side.
    pub batch: usize,
    /// Left operand, m x k.
    pub a: Matrix,
    /// Right operand, k x n.
    pub b: Matrix,
    /// Whether B's elements are f16; sums are f32 all the same.
    pub half_b: bool,
    /// Whether A's elements may be rounded to f16 as well, where that lets the hardware multiply matrices; those beyond
    /// ±65504 become that. The twin does not round.
    pub half_a: bool,
    /// Result, m x n; never transposed.
    pub c: Matrix,
    /// First element of the bias in its binding, where there is one.
    pub bias: Option<usize>,
    /// f.
    pub activation: Activation,
    /// α.
    pub alpha: f32,
    /// r, where there is an R; R has rows of n elements.
    pub residual_rows: Option<usize>,
    /// Whether R is a gate, and not added: C is α f(A B + bias) where R > 0, and else 0.
    pub gated: bool,
}

impl Matmul {
    /// C = A B, rows packed.
    pub fn new(m: usize, k: usize, n: usize) -> Self {
        Self {
            m,
            k,
            n,
            batch: 1,
            a: Matrix::rows(k),
            b: Matrix::rows(n),
            half_b: false,
            half_a: false,
            c: Matrix::rows(n),
            bias: None,
            activation: Activation::None,
            alpha: 1.0,
            residual_rows: None,
            gated: false,
        }
    }

    /// Whether B is small enough for a uniform buffer, and both operands are whole vec4s.
    pub(super) fn fits_uniform(&self) -> bool {
        let whole = |matrix: &Matrix| matrix.offset.is_multiple_of(4) && matrix.stride.is_multiple_of(4);
        let stored = if self.b.transposed { self.n } else { self.k };
        let reach = self.b.offset + self.b.stride * stored;
        let plain = self.batch == 1 && !self.half_b && !self.a.transposed;
        let by_vec4 = self.k.is_multiple_of(4) && (self.b.transposed || self.n.is_multiple_of(4));
        plain && by_vec4 && whole(&self.a) && whole(&self.b) && reach * 4 <= UNIFORM_BYTES
    }

    /// Tiles of m x n results.
    fn tiles(&self, m: usize, n: usize) -> usize {
        self.m.div_ceil(m) * self.n.div_ceil(n) * self.batch
    }

    /// A shader's square tiles in workgroup memory: of 64x64 results, or of 32x32 where those are few.
    pub(super) fn by_tiles(&self, shader: Shader) -> Dispatch {
        let dispatch = if self.tiles(64, 64) >= FEW {
            Dispatch::groups(shader, self.tiles(64, 64))
        } else {
            Dispatch::groups(shader, self.tiles(32, 32)).with("SIDE", 8.0).with("TILE", 32.0)
        };
        if self.half_b { dispatch.with("HALF", 1.0) } else { dispatch }
    }

    /// What the epilogue makes of one sum.
    #[inline(always)]
    pub fn finish<T: Float>(&self, sum: T, bias: T, residual: T) -> T {
        let y = T::of(f64::from(self.alpha)) * self.activation.value(sum + bias);
        match self.gated {
            true if residual > T::ZERO => y,
            true => T::ZERO,
            false => residual + y,
        }
    }
}

impl Describe for Matmul {
    const NAME: &'static str = "matmul";

    fn dispatch(&self, class: AdapterClass) -> Dispatch {
        let few_are_uniform = class == AdapterClass::SoftwareSubgroup && self.fits_uniform();
        let dispatch = match class {
            AdapterClass::Gpu(Abilities { subgroup: Some(lanes), matrices: Some(Matrices { side }) })
                if self.half_a && self.half_b =>
            {
                let shader = match side {
                    8 => shader!("matmul_cooperative_8"),
                    _ => shader!("matmul_cooperative_16"),
                };
                let tile = 4 * side as usize;
                Dispatch::groups(shader, self.tiles(tile, tile)).with("LANES", lanes)
            }
            _ if self.m <= 4 && self.k >= 32 && !few_are_uniform => {
                Dispatch::groups(shader!("matmul_rows"), self.m * self.n.div_ceil(16) * self.batch)
            }
            AdapterClass::Gpu(_) if self.tiles(128, 128) >= FILLED => {
                Dispatch::groups(shader!("matmul_large"), self.tiles(128, 128))
            }
            AdapterClass::Gpu(_) => return self.by_tiles(shader!("matmul")),
            AdapterClass::Software => Dispatch::groups(shader!("matmul_registers"), self.tiles(32, 32)),
            AdapterClass::SoftwareSubgroup if self.fits_uniform() => {
                let rows = if self.m > 8 { 16 } else { 8 };
                Dispatch::groups(shader!("matmul_uniform"), self.tiles(rows, 32))
                    .with_uniform_input(1)
                    .with("ROWS", rows as f64)
                    .with("BY_ROWS", if self.b.transposed { 0.0 } else { 1.0 })
            }
            AdapterClass::SoftwareSubgroup => {
                let plain = self.activation == Activation::None && self.residual_rows.is_none();
                Dispatch::groups(shader!("matmul_subgroup"), self.tiles(32, 64))
                    .with("PLAIN", if plain { 1.0 } else { 0.0 })
            }
        };
        if self.half_b { dispatch.with("HALF", 1.0) } else { dispatch }
    }

    fn params(&self) -> Vec<u32> {
        assert!(!self.gated || self.residual_rows.is_some(), "a gate is an R");
        let mut words = vec![word(self.m), word(self.k), word(self.n), word(self.batch)];
        for matrix in [&self.a, &self.b, &self.c] {
            words.extend(matrix.params());
        }
        words.extend([
            u32::from(self.bias.is_some()),
            word(self.bias.unwrap_or(0)),
            word(self.residual_rows.unwrap_or(0)),
            self.activation as u32,
            self.alpha.to_bits(),
            u32::from(self.gated),
        ]);
        words
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let [a, bias, residual] = [0, 2, 3].map(|i| io.inputs[i].floats());
        let b = io.inputs[1].widened();
        let (a_row, a_column) = self.a.steps();
        let (b_row, b_column) = self.b.steps();
        for entry in 0..self.batch {
            let a = &a[self.a.offset + entry * self.a.batch_stride..];
            let b = &b[self.b.offset + entry * self.b.batch_stride..];
            let c = &mut io.outputs[0][self.c.offset + entry * self.c.batch_stride..];
            for i in 0..self.m {
                for j in 0..self.n {
                    let products =
                        (0..self.k).map(|k| a[i * a_row + k * a_column] * b[k * b_row + j * b_column]);
                    let sum = products.fold(T::ZERO, |sum, product| sum + product);
                    let bias = self.bias.map_or(T::ZERO, |offset| bias[offset + j]);
                    let residual =
                        self.residual_rows.map_or(T::ZERO, |rows| residual[(i % rows) * self.n + j]);
                    c[i * self.c.stride + j] = self.finish(sum, bias, residual);
                }
            }
        }
    }

    fn flops(&self) -> u64 {
        2 * (self.m * self.k * self.n * self.batch) as u64
    }
}

impl Matmul {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |name: &str, kernel: Matmul, a: usize, b: usize, c: usize| {
            let bias = kernel.bias.map_or(0, |offset| offset + kernel.n);
            let residual = kernel.residual_rows.map_or(0, |rows| rows * kernel.n);
            let size = format!("{}x{}x{} {name}", kernel.m, kernel.k, kernel.n);
            let half = kernel.half_b;
            let rounds = kernel.half_a;
            let case = Case::new(size, kernel);
            // What is a half already stays what it is.
            let case = if rounds { case.input_of_halves(a) } else { case.input(a) };
            let case = if half { case.half_input(b) } else { case.input(b) };
            let case = if bias > 0 { case.input(bias) } else { case.data(Data::Nothing) };
            let case = if residual > 0 { case.input(residual) } else { case.data(Data::Nothing) };
            cases.push(case.output(c));
        };
        for m in ODD {
            for (k, n) in [(1, 1), (17, 3), (65, 63), (129, 65), (64, 192)] {
                add("plain", Matmul::new(m, k, n), m * k, k * n, m * n);
            }
        }
        for (m, k, n) in [(65, 33, 17), (3, 65, 40), (129, 64, 64)] {
            let plain = Matmul::new(m, k, n);
            let b_transposed = Matmul { b: Matrix::transposed(k), ..plain.clone() };
            add("B transposed", b_transposed.clone(), m * k, k * n, m * n);
            let a_transposed = Matmul { a: Matrix::transposed(m), ..plain.clone() };
            add("A transposed", a_transposed, m * k, k * n, m * n);
            for activation in [Activation::Gelu, Activation::Relu, Activation::Silu, Activation::GeluTanh] {
                let kernel = Matmul { bias: Some(5), activation, ..b_transposed.clone() };
                add(&format!("bias {activation:?}"), kernel, m * k, k * n, m * n);
            }
            let epilogue = Matmul { bias: Some(0), residual_rows: Some(m), alpha: 0.05, ..b_transposed };
            add("bias residual alpha", epilogue.clone(), m * k, k * n, m * n);
            add("residual rows", Matmul { residual_rows: Some(2), ..epilogue.clone() }, m * k, k * n, m * n);
            add("gated", Matmul { gated: true, ..epilogue.clone() }, m * k, k * n, m * n);
            let kernel = Matmul { gated: true, bias: None, b: Matrix::rows(n), ..epilogue };
            add("gradient gated", kernel, m * k, k * n, m * n);
        }
        // Gates whose B is dear to pack, is stored as f16, or comes before an activation.
        for (m, k, n, half_b, activation) in [
            (5, 363, 367, false, Activation::None),
            (5, 65, 33, true, Activation::None),
            (5, 33, 65, false, Activation::Silu),
        ] {
            let kernel =
                Matmul { residual_rows: Some(m), gated: true, half_b, activation, ..Matmul::new(m, k, n) };
            add("gated", Matmul { alpha: 1.25, ..kernel }, m * k, k * n, m * n);
        }
        let (m, k, n) = (17, 9, 33);
        let batched = Matmul {
            batch: 3,
            a: Matrix::rows(k + 2).at(4).every(m * (k + 2)),
            b: Matrix::transposed(k + 1).at(1).every(n * (k + 1)),
            c: Matrix::rows(n + 3).at(2).every(m * (n + 3)),
            ..Matmul::new(m, k, n)
        };
        // Tiles of 128x128 that fill a GPU, the last ones partly.
        let (m, n) = (1301, 1430);
        for (k, a, b) in
            [(3, Matrix::rows(3), Matrix::rows(n)), (9, Matrix::transposed(m), Matrix::transposed(9))]
        {
            let kernel = Matmul { a, b, bias: Some(2), ..Matmul::new(m, k, n) };
            add("large", kernel, m * k, k * n, m * n);
        }
        // Sums of several visits, whose rows lie apart.
        let deep =
            Matmul { bias: Some(1), activation: Activation::Relu, alpha: 0.5, ..Matmul::new(7, 1025, 83) };
        let deep = Matmul { residual_rows: Some(7), ..deep };
        let apart = Matmul { c: Matrix::rows(86).at(2), ..deep.clone() };
        for (name, kernel) in [("deep", deep), ("deep, apart", apart)] {
            add(name, kernel, 7 * 1025, 1025 * 83, 2 + 7 * 86);
        }
        // Past the edge of a tile of any variant, by little and by much.
        for (m, n) in [(5, 31), (31, 65), (33, 68), (64, 128), (68, 100)] {
            let alike = Matmul { bias: Some(3), ..Matmul::new(m, 12, n) };
            let shape = [
                ("rows", Matrix::rows(12), Matrix::rows(n)),
                ("gradient", Matrix::transposed(m), Matrix::rows(n)),
            ];
            for (name, a, b) in shape {
                add(name, Matmul { a, b, ..alike.clone() }, m * 12, n * 12, m * n);
            }
            let kernel = Matmul {
                b: Matrix::transposed(12),
                residual_rows: Some(m),
                activation: Activation::Gelu,
                ..alike
            };
            add("B transposed", kernel, m * 12, n * 12, m * n);
        }
        // An odd first element, odd rows, and a sum whose end is inside a word.
        for (m, k, n) in [(1, 3, 3), (3, 65, 17), (17, 33, 63), (65, 129, 65), (2, 131, 257), (33, 1025, 300)]
        {
            let halves = Matmul { half_b: true, ..Matmul::new(m, k, n) };
            add("f16", halves.clone(), m * k, k * n, m * n);
            let b = Matrix::transposed(k + 2).at(1);
            let kernel = Matmul { b, bias: Some(3), residual_rows: Some(m), alpha: 0.5, ..halves };
            add("f16 B transposed", kernel.clone(), m * k, 1 + (k + 2) * n, m * n);
            let kernel = Matmul { activation: Activation::Gelu, ..kernel };
            add("f16 B transposed Gelu", kernel, m * k, 1 + (k + 2) * n, m * n);
        }
        // Past the edge of tiles of 32 and 64, both ways to lie in memory, a sum that ends inside a tile.
        for (m, k, n) in [(1, 3, 3), (33, 65, 31), (65, 32, 130), (129, 33, 65)] {
            let halves = Matmul { half_b: true, half_a: true, ..Matmul::new(m, k, n) };
            add("f16 both", halves.clone(), m * k, k * n, m * n);
            let (a, b) = (Matrix::transposed(m), Matrix::transposed(k + 2).at(1));
            let kernel = Matmul { a, b, bias: Some(3), residual_rows: Some(m), alpha: 0.5, ..halves };
            add("f16 both transposed", kernel, m * k, 1 + (k + 2) * n, m * n);
        }
        add(
            "f16 both batched strided Gelu",
            Matmul { half_b: true, half_a: true, activation: Activation::Gelu, ..batched.clone() },
            4 + 3 * m * (k + 2),
            1 + 3 * n * (k + 1),
            2 + 3 * m * (n + 3),
        );
        add(
            "f16 batched strided",
            Matmul { half_b: true, ..batched.clone() },
            4 + 3 * m * (k + 2),
            1 + 3 * n * (k + 1),
            2 + 3 * m * (n + 3),
        );
        add("batched strided", batched, 4 + 3 * m * (k + 2), 1 + 3 * n * (k + 1), 2 + 3 * m * (n + 3));
        cases
    }
}
