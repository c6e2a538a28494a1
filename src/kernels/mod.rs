//! Every kernel: one WGSL shader, one CPU twin, one description that names no device.
//!
//! A kernel is a plain struct of sizes. It knows its shader and what to launch ([`Kernel::dispatch`]), the words
//! of its uniform block ([`Kernel::params`]), and how to do the same work on slices ([`Kernel::twin`]). The
//! bindings of a shader are the uniform block at 0, then the inputs, then the outputs, in the order of the
//! struct's documentation. `gpu` and `cpu` execute lists of [`Step`]s; `graph` writes them.

pub mod activation;
pub mod add_rows;
pub mod attention;
pub mod attention_backward;
pub mod attention_norm;
pub mod check;
pub mod combine;
pub mod copy_rows;
pub mod decoder_steps;
pub mod dropout;
pub mod float;
pub mod flow_path;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod matmul;
pub mod matmul_norm;
pub mod mse;
pub mod norm_matmul;
pub mod optimizer;
pub mod patchify;
pub mod plan;
pub mod shader;
pub mod time_embedding;

pub use float::Float;
pub use plan::{Binding, Place, Plan, Set, Slot, Step, Work};
pub use shader::{Abilities, AdapterClass, Dispatch, Matrices, Shader, UNIFORM_BYTES};

use std::borrow::Cow;
use std::fmt;

use half::f16;

/// What a value's elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// 32-bit floats (f64 on the oracle).
    F32,
    /// 16-bit floats, two to a word on a GPU, the lower address in the lower bits.
    F16,
    /// Bytes, four to a word on a GPU, the lowest address in the lowest bits.
    U8,
    /// 32-bit whole numbers.
    U32,
}

impl Dtype {
    /// Bytes of an element on a GPU.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
            Self::U8 => 1,
        }
    }
}

/// An input of a twin.
#[derive(Debug, Clone, Copy)]
pub enum Slice<'a, T> {
    /// Floats.
    F(&'a [T]),
    /// 16-bit floats.
    H(&'a [f16]),
    /// Bytes.
    U8(&'a [u8]),
    /// Words.
    U32(&'a [u32]),
    /// An optional binding that is not there.
    Nothing,
}

impl<'a, T> Slice<'a, T> {
    /// The floats; empty for an absent binding.
    ///
    /// # Panics
    /// If the binding holds bytes or words: a mistake of the graph, not of a user.
    pub fn floats(self) -> &'a [T] {
        match self {
            Slice::F(values) => values,
            Slice::Nothing => &[],
            _ => panic!("a kernel was given something else where floats belong"),
        }
    }

    /// The words.
    ///
    /// # Panics
    /// If the binding holds something else.
    pub fn words(self) -> &'a [u32] {
        match self {
            Slice::U32(values) => values,
            _ => panic!("a kernel was given no words where words belong"),
        }
    }
}

impl<'a, T: Float> Slice<'a, T> {
    /// The floats, those of 16 bits widened, which is exact.
    ///
    /// # Panics
    /// As [`Self::floats`].
    pub fn widened(self) -> Cow<'a, [T]> {
        match self {
            Slice::H(halves) => halves.iter().map(|half| T::of(half.to_f64())).collect(),
            floats => Cow::Borrowed(floats.floats()),
        }
    }
}

/// Inputs, and outputs, that a kernel has at most.
pub const MAX_BINDINGS: usize = 8;

/// What a twin reads and writes.
pub struct Io<'a, 'b, T> {
    /// Inputs in binding order.
    pub inputs: &'a [Slice<'b, T>],
    /// Outputs in binding order; an in-place output holds its old value.
    pub outputs: &'a mut [&'b mut [T]],
}

/// What every kernel's struct offers. [`Kernel`] is the closed set of them.
pub trait Describe {
    /// The word for this kernel everywhere: file, shader, twin, profile.
    const NAME: &'static str;
    /// Shader variant, knobs and workgroups for a class of adapters.
    fn dispatch(&self, class: AdapterClass) -> Dispatch;
    /// The words of the uniform block, in the shader's order.
    fn params(&self) -> Vec<u32>;
    /// The same work on slices, in plain Rust.
    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>);
    /// Floating-point operations of one launch, for throughput figures.
    fn flops(&self) -> u64;
}

/// What a kernel offers that does the work of several launches.
pub trait Merged: Describe {
    /// Whether an adapter is better off with this launch than with the several.
    fn suits(&self, class: AdapterClass) -> bool;

    /// Whether the CPU is.
    fn suits_cpu(&self) -> bool {
        false
    }
}

macro_rules! kernels {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Any kernel.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Kernel {
            $(#[doc = concat!("See [`", stringify!($module), "`].")] $name($module::$name)),*
        }
        $(impl From<$module::$name> for Kernel {
            fn from(kernel: $module::$name) -> Self { Kernel::$name(kernel) }
        })*
        impl Kernel {
            /// The kernel's name.
            pub fn name(&self) -> &'static str {
                match self { $(Kernel::$name(_) => $module::$name::NAME),* }
            }
            /// Shader variant, knobs and workgroups for a class of adapters.
            pub fn dispatch(&self, class: AdapterClass) -> Dispatch {
                match self { $(Kernel::$name(k) => k.dispatch(class)),* }
            }
            /// The words of the uniform block.
            pub fn params(&self) -> Vec<u32> {
                match self { $(Kernel::$name(k) => k.params()),* }
            }
            /// The same work on slices.
            pub fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
                match self { $(Kernel::$name(k) => k.twin(io)),* }
            }
            /// Floating-point operations of one launch.
            pub fn flops(&self) -> u64 {
                match self { $(Kernel::$name(k) => k.flops()),* }
            }
        }
        /// The case tables of all kernels, for tests and `flowgpu doctor`.
        pub fn all_cases() -> Vec<check::Case> {
            let mut cases = Vec::new();
            $(cases.extend($module::$name::cases());)*
            cases
        }
    };
}

kernels! {
    matmul::Matmul,
    matmul_norm::MatmulNorm,
    norm_matmul::NormMatmul,
    activation::Activate,
    activation::ActivateBackward,
    patchify::Patchify,
    add_rows::AddRows,
    add_rows::ReduceRows,
    add_rows::AddInto,
    combine::Combine,
    copy_rows::CopyRows,
    time_embedding::TimeEmbedding,
    flow_path::FlowPath,
    mse::WeightedMse,
    mse::WeightedMseBackward,
    optimizer::SquaredNorm,
    optimizer::ClipScale,
    optimizer::Adam,
    attention::Attention,
    attention_backward::AttentionBackwardQuery,
    attention_backward::AttentionBackwardKeyValue,
    attention_norm::AttentionNorm,
    decoder_steps::DecoderSteps,
    dropout::Dropout,
    layer_norm::LayerNorm,
    layer_norm_backward::LayerNormBackward,
    layer_norm_backward::LayerNormBackwardParams,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A size as a word of a uniform block.
///
/// # Panics
/// If the size passes 2^32: checked where graphs are built.
pub(crate) fn word(size: usize) -> u32 {
    u32::try_from(size).expect("sizes of kernels fit 32 bits")
}
