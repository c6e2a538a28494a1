//! The most that a device can do, measured on it.

use crate::Result;
use crate::graph::Device;
use crate::graph::trial::Ready;
use crate::kernels::check::Case;
use crate::kernels::copy_rows::{CopyRows, Runs};
use crate::{cpu, gpu};

/// Floats that a GPU copies: 64 MiB.
const COPIED: usize = 16 << 20;
/// Columns of the rows that they lie in.
const COLUMNS: usize = 256;

/// Multiply-adds on registers alone, GFLOP/s; none for the oracle, which is not for speed.
///
/// # Errors
/// If a GPU refuses the shader or was lost.
pub fn multiply_add_rate(device: &Device) -> Result<Option<f64>> {
    match device {
        Device::Cpu => Ok(Some(cpu::ceilings::multiply_add_rate())),
        Device::Gpu(gpu) => gpu::ceilings::multiply_add_rate(gpu).map(Some),
        Device::Oracle => Ok(None),
    }
}

/// Copying in the device's memory, GB/s, what is read and what is written both counted: memcpy on all threads of a
/// processor, the kernel `copy_rows` on a GPU. None for the oracle.
///
/// # Errors
/// If a GPU lacks memory or was lost.
pub fn copy_rate(device: &Device) -> Result<Option<f64>> {
    match device {
        Device::Cpu => Ok(Some(cpu::ceilings::copy_rate())),
        Device::Oracle => Ok(None),
        Device::Gpu(_) => {
            let rows = COPIED / COLUMNS;
            let run = Runs { stride: rows, first: 0 };
            let kernel = CopyRows { groups: 1, rows, columns: COLUMNS, from: run, to: run };
            let mut case = Case::new("copy", kernel).floats(vec![1.0; COPIED]);
            case.outputs.push(vec![0.0; COPIED]);
            let ready = Ready::new(&case, device)?;
            ready.time()?;
            let mut best = f64::INFINITY;
            for _ in 0..10 {
                best = best.min(ready.time()?.as_secs_f64());
            }
            Ok(Some((2 * 4 * COPIED) as f64 / best / 1e9))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_a_rate() {
        let rate = multiply_add_rate(&Device::Cpu).expect("no GPU is asked").expect("a rate");
        assert!(rate > 0.5, "{rate} GFLOP/s");
        assert_eq!(multiply_add_rate(&Device::Oracle), Ok(None));
    }
}
