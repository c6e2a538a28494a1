//! An open GPU: buffers in, buffers out, pipelines kept, errors remembered.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::adapter::{AdapterSummary, Choice, choose};
use super::pipeline_cache::PipelineCache;
use crate::kernels::{AdapterClass, Dispatch, Dtype, UNIFORM_BYTES};
use crate::{Error, Result};

/// Whether shaders check their indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Trusted shaders: no bounds checks, no loop bounding, no zeroed workgroup memory.
    Off,
    /// Everything checked; for tests.
    On,
}

/// A buffer on the GPU.
#[derive(Debug, Clone)]
pub struct Buffer {
    pub(super) raw: wgpu::Buffer,
    pub(super) dtype: Dtype,
    /// Elements.
    pub len: usize,
}

/// An open GPU.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// What a person may know of it.
    pub summary: AdapterSummary,
    pub(super) timestamps: bool,
    checks: Checks,
    class: AdapterClass,
    pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    cache: PipelineCache,
    /// The first thing that went wrong outside a call: device loss or a validation error.
    trouble: Arc<Mutex<Option<String>>>,
}

/// What tells two pipelines apart: shader, knobs, and how many inputs and outputs it binds.
type PipelineKey = (&'static str, Vec<(&'static str, u64)>, usize, usize);

pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) bindings: wgpu::BindGroupLayout,
}

/// Bytes a uniform block may have: the stride of dynamic offsets under WebGPU's default limits.
pub(super) const UNIFORM_STRIDE: usize = 256;

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// If there is no such adapter, or its driver refuses.
    #[allow(unsafe_code)]
    pub fn open(choice: &Choice, checks: Checks) -> Result<Arc<Self>> {
        let adapter = choose(choice)?;
        let summary = AdapterSummary::of(&adapter);
        let timestamps = adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        // What the variants of one class need, and what profiles need.
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::TIMESTAMP_QUERY, timestamps);
        features.insert(adapter.features() & wgpu::Features::PIPELINE_CACHE);
        features.set(wgpu::Features::SUBGROUP, summary.subgroup.is_some());
        let mut experimental_features = wgpu::ExperimentalFeatures::disabled();
        if summary.matrices.is_some() {
            features.insert(wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
            // SAFETY: what is experimental is wgpu's part in shaders with cooperative matrices. Only `matmul_cooperative_*`
            // have them, which keep to what wgpu documents (all of a workgroup's subgroups load, multiply and store
            // together, inside of their arrays), and run only where somebody asks for products of f16.
            experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("flowgpu"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::failure(format!("{} cannot be opened: {e}", summary.name)))?;
        let trouble = Arc::new(Mutex::new(None));
        let remember = {
            let trouble = Arc::clone(&trouble);
            move |what: String| {
                trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
            }
        };
        let lost = remember.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping a device also reports a loss, to nobody's surprise.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost(format!("the GPU was lost ({message})"));
            }
        });
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| remember(error.to_string())));
        let class = summary.class();
        let pipelines = Mutex::default();
        let cache = PipelineCache::open(&device, &adapter.get_info());
        Ok(Arc::new(Self { device, queue, summary, timestamps, checks, class, pipelines, cache, trouble }))
    }

    /// Treats the adapter as another class; tests use it to try every variant of a kernel.
    #[must_use]
    pub fn with_class(mut self: Arc<Self>, class: AdapterClass) -> Arc<Self> {
        if let Some(gpu) = Arc::get_mut(&mut self) {
            gpu.class = class;
        }
        self
    }

    /// The class that kernels choose their variants by.
    pub fn class(&self) -> AdapterClass {
        self.class
    }

    /// Whether it can say how long a launch took.
    pub fn has_clock(&self) -> bool {
        self.timestamps
    }

    /// An error if the device was lost or a call was invalid since the device was opened.
    ///
    /// # Errors
    /// The first trouble, with what to do.
    pub fn healthy(&self) -> Result<()> {
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(what) => Err(Error::failure(format!(
                "{}: {what}; nothing was saved from this step; run again, or with --device cpu",
                self.summary.name
            ))),
        }
    }

    /// A buffer of zeros.
    ///
    /// # Errors
    /// If it is larger than this adapter can bind.
    pub fn buffer(&self, dtype: Dtype, len: usize) -> Result<Buffer> {
        let bytes = bytes_of(dtype, len);
        // A uniform input is bound at its full size, wherever in a buffer it begins.
        let (behind, uniform) = match self.class {
            AdapterClass::SoftwareSubgroup => (UNIFORM_BYTES, wgpu::BufferUsages::UNIFORM),
            _ => (0, wgpu::BufferUsages::empty()),
        };
        let limit = self.device.limits().max_storage_buffer_binding_size;
        if bytes as u64 > limit {
            return Err(Error::input(format!(
                "a buffer of {} MiB is more than {} can bind ({} MiB): use a smaller batch",
                bytes >> 20,
                self.summary.name,
                limit >> 20
            )));
        }
        let raw = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (bytes + behind) as u64,
            usage: wgpu::BufferUsages::STORAGE
                | wgpu::BufferUsages::COPY_DST
                | wgpu::BufferUsages::COPY_SRC
                | uniform,
            mapped_at_creation: false,
        });
        Ok(Buffer { raw, dtype, len })
    }

    /// Writes bytes at an element offset; they arrive before the next submission's work.
    pub fn write(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) {
        let start = (offset * buffer.dtype.bytes()) as u64;
        let whole = bytes.len() / 4 * 4;
        self.queue.write_buffer(&buffer.raw, start, &bytes[..whole]);
        if whole < bytes.len() {
            // Writes come in words; the last one is filled up with zeros.
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.queue.write_buffer(&buffer.raw, start + whole as u64, &last);
        }
    }

    /// Reads `len` floats from an element offset, those of 16 bits widened; waits for the device.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn read(&self, buffer: &Buffer, offset: usize, len: usize) -> Result<Vec<f32>> {
        let half = buffer.dtype == Dtype::F16;
        let bytes = bytes_of(buffer.dtype, len) as u64;
        let staging = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("readback"),
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(
            &buffer.raw,
            (offset * buffer.dtype.bytes()) as u64,
            &staging,
            0,
            bytes,
        );
        self.queue.submit([encoder.finish()]);
        self.map(&staging, |view| match half {
            true => bytemuck::pod_collect_to_vec::<u8, f16>(&view[..len * 2]).to_f32_vec(),
            false => bytemuck::pod_collect_to_vec(&view[..len * 4]),
        })
    }

    /// Waits for the work submitted so far and hands out a mappable buffer's bytes.
    pub(super) fn map<T>(&self, staging: &wgpu::Buffer, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let lost = |why: String| Error::failure(format!("{}: cannot read back: {why}", self.summary.name));
        let (sender, receiver) = std::sync::mpsc::channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits below; it is gone only if this thread panicked.
            let _ = sender.send(result);
        });
        self.wait()?;
        receiver.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|e| lost(e.to_string()))?;
        Ok(take(&view))
    }

    /// Waits until the device has done all that was submitted.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn wait(&self) -> Result<()> {
        let waited = self.device.poll(wgpu::PollType::wait_indefinitely());
        self.healthy()?;
        waited.map(drop).map_err(|e| Error::failure(format!("{}: {e}", self.summary.name)))
    }

    /// The pipeline of each dispatch, with its numbers of inputs and outputs. Those that are new are made side by side.
    pub(super) fn pipelines(&self, wanted: &[(Dispatch, usize, usize)]) -> Result<Vec<Arc<Pipeline>>> {
        let keys: Vec<PipelineKey> = wanted.iter().map(key).collect();
        let known = || self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        let new: BTreeMap<&PipelineKey, &(Dispatch, usize, usize)> = {
            let known = known();
            keys.iter().zip(wanted).filter(|(key, _)| !known.contains_key(key)).collect()
        };
        if !new.is_empty() {
            let make = |(key, (dispatch, inputs, outputs)): (&PipelineKey, &(Dispatch, usize, usize))| {
                Ok((key.clone(), Arc::new(self.compile(dispatch, *inputs, *outputs)?)))
            };
            let made =
                new.into_par_iter().map(|(key, wanted)| make((key, wanted))).collect::<Result<Vec<_>>>()?;
            known().extend(made);
            self.cache.save();
        }
        let known = known();
        Ok(keys.iter().map(|key| Arc::clone(&known[key])).collect())
    }

    fn compile(&self, dispatch: &Dispatch, inputs: usize, outputs: usize) -> Result<Pipeline> {
        let label = Some(dispatch.shader.name);
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let module = self.module(dispatch);
        let entry = |binding: usize, ty, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
            binding: binding as u32,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
        entries.extend((0..inputs + outputs).map(|i| {
            let ty = match dispatch.uniform_input == Some(i) {
                true => wgpu::BufferBindingType::Uniform,
                false => wgpu::BufferBindingType::Storage { read_only: i < inputs },
            };
            entry(1 + i, ty, false)
        }));
        let bindings = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        let raw = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &dispatch.knobs,
                zero_initialize_workgroup_memory: self.checks == Checks::On,
            },
            cache: self.cache.raw(),
        });
        match pollster::block_on(scope.pop()) {
            None => Ok(Pipeline { raw, bindings }),
            Some(error) => Err(Error::failure(format!(
                "{} does not accept shader {}: {error}; report this, and use --device cpu meanwhile",
                self.summary.name, dispatch.shader.name
            ))),
        }
    }

    #[allow(unsafe_code)]
    fn module(&self, dispatch: &Dispatch) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(dispatch.shader.name),
            source: wgpu::ShaderSource::Wgsl(dispatch.shader.text().into()),
        };
        match self.checks {
            Checks::On => self.device.create_shader_module(descriptor),
            // SAFETY: the shaders are this crate's own, their loops end, and tests run every one of them with
            // checks on as well, over the same cases, with equal results.
            Checks::Off => unsafe {
                self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            },
        }
    }
}

fn key((dispatch, inputs, outputs): &(Dispatch, usize, usize)) -> PipelineKey {
    let knobs = dispatch.knobs.iter().map(|&(name, value)| (name, value.to_bits())).collect();
    (dispatch.shader.name, knobs, *inputs, *outputs)
}

/// Bytes of a buffer: whole words, and at least one.
fn bytes_of(dtype: Dtype, len: usize) -> usize {
    (len.max(1) * dtype.bytes()).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_is_an_error_with_a_way_out() {
        let gpu = Gpu::open(&Choice::Any, Checks::Off)
            .expect("the WGSL tests need an adapter; `cargo xtask test` installs a software one");
        let buffer = gpu.buffer(Dtype::F32, 16).expect("16 floats");
        gpu.write(&buffer, 0, bytemuck::cast_slice(&[2.5_f32; 16]));
        assert_eq!(gpu.read(&buffer, 3, 2).expect("alive"), [2.5, 2.5]);
        gpu.device.destroy();
        let error = gpu.read(&buffer, 0, 16).expect_err("lost");
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("--device cpu"), "{error}");
    }

    #[test]
    fn a_buffer_beyond_the_adapters_reach_is_refused_with_its_size() {
        let gpu = Gpu::open(&Choice::Any, Checks::Off).expect("an adapter");
        let limit = gpu.device.limits().max_storage_buffer_binding_size as usize;
        let error = gpu.buffer(Dtype::F32, limit / 4 + 1).expect_err("too large");
        assert!(error.to_string().contains("use a smaller batch"), "{error}");
    }
}
