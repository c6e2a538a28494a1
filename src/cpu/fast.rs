//! Which kernels have fast bodies in f32: the same work as their twins, checked by the same case tables.

use super::panels::{Layout, Operands};
use super::{attention, decoder, product, rows};
use crate::kernels::{Float, Io, Kernel};

/// Which operands a kernel's fast body reads from panels, if these outlive many launches: in which input they lie, and
/// where.
pub fn wants_panels(kernel: &Kernel) -> Vec<(usize, Layout)> {
    match kernel {
        Kernel::Matmul(kernel) => product::wants_panels(kernel).into_iter().collect(),
        Kernel::MatmulNorm(kernel) => product::wants_panels(&kernel.product).into_iter().collect(),
        Kernel::Attention(kernel) => attention::wants_panels(kernel),
        Kernel::DecoderSteps(kernel) => decoder::wants_panels(kernel),
        _ => Vec::new(),
    }
}

/// Runs a fast body where there is one for this kernel and precision; says whether it did. `kept` are operands in
/// panels, where [`wants_panels`] asked for them.
pub fn run<T: Float>(kernel: &Kernel, kept: Option<Operands<'_>>, io: &mut Io<'_, '_, T>) -> bool {
    let Some(io) = T::io_as_f32(io) else { return false };
    match kernel {
        Kernel::Matmul(kernel) => product::run(kernel, kept, io),
        Kernel::MatmulNorm(kernel) => {
            product::run(&kernel.product, kept, io);
            rows::normalise(&kernel.norm(), io);
        }
        Kernel::Attention(kernel) => attention::forward(kernel, kept, io),
        Kernel::AttentionBackwardQuery(kernel) => attention::backward_query(kernel, io),
        Kernel::AttentionBackwardKeyValue(kernel) => return attention::backward_key_value(kernel, io),
        Kernel::DecoderSteps(kernel) => match kept {
            Some(kept) => decoder::run(kernel, kept, io),
            None => return false,
        },
        Kernel::LayerNorm(kernel) => rows::layer_norm(kernel, io),
        Kernel::LayerNormBackward(kernel) => rows::layer_norm_backward(kernel, io),
        Kernel::LayerNormBackwardParams(kernel) => rows::layer_norm_backward_params(kernel, io),
        Kernel::ReduceRows(kernel) => rows::reduce_rows(kernel, io),
        Kernel::AddRows(kernel) => rows::add_rows(kernel, io),
        Kernel::Activate(kernel) => rows::activation(kernel, io),
        Kernel::ActivateBackward(kernel) => rows::activation_backward(kernel, io),
        Kernel::Dropout(kernel) => rows::dropout(kernel, io),
        Kernel::Adam(kernel) => rows::adam(kernel, io),
        Kernel::Patchify(kernel) => rows::patchify(kernel, io),
        _ => return false,
    }
    true
}
