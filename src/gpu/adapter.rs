//! Which GPUs there are, and which one a name means.

use crate::kernels::{Abilities, AdapterClass, Matrices};
use crate::{Error, Result};

/// An adapter as a person sees it.
#[derive(Debug, Clone)]
pub struct AdapterSummary {
    /// The name the driver gives.
    pub name: String,
    /// Vulkan, Metal or DX12.
    pub backend: String,
    /// Driver name and version.
    pub driver: String,
    /// Discrete, integrated, virtual, software or other.
    pub kind: &'static str,
    /// Whether a processor does the work (lavapipe, WARP, SwiftShader).
    pub software: bool,
    /// Invocations of a subgroup, where shaders can use subgroups and there is but one size.
    pub subgroup: Option<u32>,
    /// What its subgroups can multiply together, where there is but one size of them.
    pub matrices: Option<Matrices>,
    /// Largest storage buffer a shader can see, bytes.
    pub max_binding: u64,
}

impl AdapterSummary {
    /// What `wgpu` says of an adapter.
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        let info = adapter.get_info();
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        };
        let subgroups = adapter.features().contains(wgpu::Features::SUBGROUP)
            && info.subgroup_min_size == info.subgroup_max_size;
        Self {
            name: info.name,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            kind,
            software: info.device_type == wgpu::DeviceType::Cpu,
            subgroup: subgroups.then_some(info.subgroup_max_size),
            matrices: matrices_of(adapter).filter(|_| subgroups),
            max_binding: adapter.limits().max_storage_buffer_binding_size,
        }
    }

    /// The class that kernels choose their variants by.
    pub fn class(&self) -> AdapterClass {
        match (self.software, self.subgroup) {
            (true, Some(8)) => AdapterClass::SoftwareSubgroup,
            (true, _) => AdapterClass::Software,
            (false, _) => self.class_of_a_gpu(),
        }
    }

    /// The class of a real GPU that can do what this adapter can.
    pub fn class_of_a_gpu(&self) -> AdapterClass {
        AdapterClass::Gpu(Abilities { subgroup: self.subgroup, matrices: self.matrices })
    }
}

/// The largest square matrices of f16 with sums of f32 that an adapter multiplies. DX12 has none that naga can write.
fn matrices_of(adapter: &wgpu::Adapter) -> Option<Matrices> {
    let needed = wgpu::Features::SHADER_F16 | wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let types = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
    let sides = adapter.cooperative_matrix_properties().into_iter().filter_map(|known| {
        let square = known.m_size == known.n_size && known.n_size == known.k_size;
        let fits = square && matches!(known.m_size, 8 | 16) && (known.ab_type, known.cr_type) == types;
        fits.then_some(known.m_size)
    });
    let side = sides.max().filter(|_| adapter.features().contains(needed))?;
    Some(Matrices { side })
}

/// Which adapter to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The first real GPU; an error if there is none.
    Real,
    /// Any adapter, real ones first.
    Any,
    /// The first adapter whose name holds this text, in any case.
    Named(String),
}

/// All adapters that can compute, real ones first.
fn all() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // No validation layers: shaders are validated by naga, and layers cost start-up time.
    descriptor.flags = wgpu::InstanceFlags::empty();
    let instance = wgpu::Instance::new(descriptor);
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.retain(|a| a.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

/// All adapters, real ones first.
pub fn list() -> Vec<AdapterSummary> {
    all().iter().map(AdapterSummary::of).collect()
}

/// The adapter a choice means.
///
/// # Errors
/// If there is none; the sentence says what there is and what to install.
pub(super) fn choose(choice: &Choice) -> Result<wgpu::Adapter> {
    let adapters = all();
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let chosen = adapters.into_iter().find(|adapter| {
        let info = adapter.get_info();
        match choice {
            Choice::Real => info.device_type != wgpu::DeviceType::Cpu,
            Choice::Any => true,
            Choice::Named(part) => info.name.to_lowercase().contains(&part.to_lowercase()),
        }
    });
    chosen.ok_or_else(|| {
        if names.is_empty() {
            Error::input(
                "no GPU adapter was found: install a Vulkan driver (on Debian or Ubuntu a software one is \
                 `apt-get install mesa-vulkan-drivers`), or use --device cpu",
            )
        } else {
            let wanted = match choice {
                Choice::Named(part) => format!("with `{part}` in its name"),
                _ => "that is real hardware".to_owned(),
            };
            Error::input(format!(
                "no GPU adapter {wanted}: there is {}; use a part of such a name, `gpu`, or `cpu` for --device",
                names.join(", ")
            ))
        }
    })
}
