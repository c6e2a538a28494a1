//! A plan made ready for a GPU: pipelines, prebuilt bind groups, workgroup counts; run in one compute pass.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::device::{Buffer, Gpu, Pipeline, UNIFORM_STRIDE};
use crate::kernels::{Binding, Dtype, Place, Plan, Set, UNIFORM_BYTES};
use crate::{Error, Result};

/// The flat buffers that programs share: weights, gradients, moments.
pub type Bank = BTreeMap<Set, Vec<Buffer>>;

/// Work of one submission at most, so that no driver takes the device for hung: about 100 ms of a slow GPU.
const FLOPS_PER_SUBMISSION: u64 = 20_000_000_000;

/// A plan ready to run.
pub struct Program {
    gpu: Arc<Gpu>,
    slots: Vec<Buffer>,
    steps: Vec<Launch>,
    /// First step of each submission but the first.
    cuts: Vec<usize>,
}

struct Launch {
    name: &'static str,
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    uniform_offset: u32,
    workgroups: [u32; 3],
}

impl Program {
    /// Compiles a plan.
    ///
    /// # Errors
    /// If a buffer is too large for the adapter, or its driver refuses a shader.
    pub fn new(gpu: &Arc<Gpu>, plan: &Plan, bank: &Bank) -> Result<Self> {
        let slots =
            plan.slots.iter().map(|slot| gpu.buffer(slot.dtype, slot.len)).collect::<Result<Vec<_>>>()?;
        let nothing = gpu.buffer(Dtype::F32, 64)?;
        let mut words = Vec::with_capacity(plan.steps.len() * UNIFORM_STRIDE / 4);
        for step in &plan.steps {
            words.extend(step.kernel.params());
            words.resize(words.len().next_multiple_of(UNIFORM_STRIDE / 4), 0u32);
        }
        let uniforms = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("parameters of launches"),
            size: (words.len().max(1) * 4) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        gpu.queue.write_buffer(&uniforms, 0, bytemuck::cast_slice(&words));

        let bind = |binding: &Binding, uniform: bool| -> Result<wgpu::BufferBinding<'_>> {
            let buffer = match binding.place {
                Place::Slot(slot) => &slots[slot],
                Place::Shard { set, shard } => bank
                    .get(&set)
                    .and_then(|shards| shards.get(shard))
                    .ok_or_else(|| Error::failure(format!("the program has no {set:?} to work on")))?,
                Place::Nothing => &nothing,
            };
            let bytes = buffer.dtype.bytes();
            let len = if binding.place == Place::Nothing { buffer.len } else { binding.len };
            let size = match uniform {
                true => UNIFORM_BYTES,
                false => (len.max(1) * bytes).next_multiple_of(4),
            };
            Ok(wgpu::BufferBinding {
                buffer: &buffer.raw,
                offset: (binding.offset * bytes) as u64,
                size: wgpu::BufferSize::new(size as u64),
            })
        };
        let wanted: Vec<_> = plan
            .steps
            .iter()
            .map(|step| (step.kernel.dispatch(gpu.class()), step.inputs.len(), step.outputs.len()))
            .collect();
        let pipelines = gpu.pipelines(&wanted)?;
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut cuts = Vec::new();
        let mut flops = 0;
        for (at, (step, ((dispatch, ..), pipeline))) in
            plan.steps.iter().zip(wanted.iter().zip(pipelines)).enumerate()
        {
            flops += step.kernel.flops();
            if flops > FLOPS_PER_SUBMISSION && at > 0 {
                cuts.push(at);
                flops = step.kernel.flops();
            }
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &uniforms,
                    offset: 0,
                    size: wgpu::BufferSize::new(UNIFORM_STRIDE as u64),
                }),
            }];
            for (i, binding) in step.inputs.iter().chain(&step.outputs).enumerate() {
                let resource =
                    wgpu::BindingResource::Buffer(bind(binding, dispatch.uniform_input == Some(i))?);
                entries.push(wgpu::BindGroupEntry { binding: 1 + i as u32, resource });
            }
            let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(step.kernel.name()),
                layout: &pipeline.bindings,
                entries: &entries,
            });
            steps.push(Launch {
                name: step.kernel.name(),
                pipeline,
                bind_group,
                uniform_offset: (at * UNIFORM_STRIDE) as u32,
                workgroups: dispatch.workgroups,
            });
        }
        gpu.healthy()?;
        Ok(Self { gpu: Arc::clone(gpu), slots, steps, cuts })
    }

    /// Submits some of its launches, in order; does not wait.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn run_part(&self, part: Range<usize>) -> Result<()> {
        let mut from = part.start;
        let cuts = self.cuts.iter().filter(|&&cut| part.start < cut && cut < part.end);
        for &to in cuts.chain([&part.end]) {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                for step in &self.steps[from..to] {
                    step.encode(&mut pass);
                }
            }
            self.gpu.queue.submit([encoder.finish()]);
            from = to;
        }
        self.gpu.healthy()
    }

    /// Runs the program with one pass per launch, and says how long each took on the device.
    ///
    /// # Errors
    /// If the device was lost, or cannot measure time.
    pub fn profile(&self) -> Result<Vec<(&'static str, Duration)>> {
        if !self.gpu.timestamps {
            return Err(Error::failure(format!(
                "{} has no timestamps to profile with",
                self.gpu.summary.name
            )));
        }
        let period = f64::from(self.gpu.queue.get_timestamp_period());
        let mut times = Vec::with_capacity(self.steps.len());
        // A query set holds 4,096 timestamps at most: two for each launch.
        for steps in self.steps.chunks(2048) {
            let count = 2 * steps.len() as u32;
            let queries = self.gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let size = u64::from(count) * 8;
            let buffer = |usage| {
                let descriptor =
                    wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
                self.gpu.device.create_buffer(&descriptor)
            };
            let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
            let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            for (i, step) in steps.iter().enumerate() {
                let i = i as u32;
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(step.name),
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(2 * i),
                        end_of_pass_write_index: Some(2 * i + 1),
                    }),
                });
                step.encode(&mut pass);
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
            self.gpu.queue.submit([encoder.finish()]);
            let ticks: Vec<u64> = self.gpu.map(&staging, bytemuck::pod_collect_to_vec)?;
            for (step, pair) in steps.iter().zip(ticks.chunks_exact(2)) {
                let nanoseconds = pair[1].saturating_sub(pair[0]) as f64 * period;
                times.push((step.name, Duration::from_nanos(nanoseconds as u64)));
            }
        }
        Ok(times)
    }

    /// How many launches it has.
    pub fn launches(&self) -> usize {
        self.steps.len()
    }

    /// A slot's buffer.
    pub fn slot(&self, slot: usize) -> &Buffer {
        &self.slots[slot]
    }

    /// The GPU this program runs on.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

impl Launch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline.raw);
        pass.set_bind_group(0, &self.bind_group, &[self.uniform_offset]);
        let [x, y, z] = self.workgroups;
        pass.dispatch_workgroups(x, y, z);
    }
}
