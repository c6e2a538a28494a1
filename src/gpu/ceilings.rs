//! The most that a GPU can do: what kernels are measured against.

use std::sync::Arc;
use std::time::Instant;

use super::device::{Gpu, UNIFORM_STRIDE};
use crate::Result;
use crate::kernels::{Dispatch, Dtype, Shader};

const SHADER: Shader =
    Shader { name: "multiply_adds", source: include_str!("../../shaders/measure/multiply_adds.wgsl") };
/// Invocations: enough to fill any GPU.
const INVOCATIONS: usize = 1 << 20;
/// Floating-point operations of an invocation's round, as the shader says.
const FLOPS: usize = 512;
/// A submission shorter than this, in seconds, says more of the driver than of the device.
const LONG: f64 = 0.02;
/// Rounds at most: a device that is still quicker is not one.
const MOST: u32 = 1 << 20;

/// Multiply-adds on registers alone, GFLOP/s: two operations each.
///
/// # Errors
/// If the driver refuses the shader, or the device was lost.
pub fn multiply_add_rate(gpu: &Arc<Gpu>) -> Result<f64> {
    let dispatch = Dispatch::linear(SHADER, INVOCATIONS, 256);
    let wanted = [(dispatch.clone(), 0, 1)];
    let pipeline = gpu.pipelines(&wanted)?.swap_remove(0);
    let sums = gpu.buffer(Dtype::F32, INVOCATIONS)?;
    let uniform = gpu.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("rounds"),
        size: UNIFORM_STRIDE as u64,
        usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let first = wgpu::BindGroupEntry {
        binding: 0,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &uniform,
            offset: 0,
            size: wgpu::BufferSize::new(UNIFORM_STRIDE as u64),
        }),
    };
    let second = wgpu::BindGroupEntry { binding: 1, resource: sums.raw.as_entire_binding() };
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(SHADER.name),
        layout: &pipeline.bindings,
        entries: &[first, second],
    });
    let time = |rounds: u32| -> Result<f64> {
        let words = [rounds, 0.999_f32.to_bits(), 0.001_f32.to_bits(), 0];
        gpu.queue.write_buffer(&uniform, 0, bytemuck::cast_slice(&words));
        gpu.wait()?;
        let start = Instant::now();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, &group, &[0]);
            let [x, y, z] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
        gpu.queue.submit([encoder.finish()]);
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first submission may still compile.
    time(1)?;
    let mut rounds = 2;
    while rounds < MOST && time(rounds)? < LONG {
        rounds *= 2;
    }
    let mut best = time(rounds)?;
    for _ in 0..4 {
        best = best.min(time(rounds)?);
    }
    gpu.healthy()?;
    Ok((INVOCATIONS * FLOPS) as f64 * f64::from(rounds) / best / 1e9)
}
