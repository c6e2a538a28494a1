//! Every shader file without a GPU: it is somebody's, it is valid, it keeps to WebGPU's default limits and to the
//! kernel's bindings, and it can be written for Vulkan, Metal and DX12.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use flowgpu::kernels::{Abilities, AdapterClass, Dispatch, Matrices, Shader, all_cases};
use naga::back::{PipelineConstants, hlsl, msl, pipeline_constants::process_overrides, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess};

/// A shader as some kernel launches it.
struct Launch {
    dispatch: Dispatch,
    inputs: usize,
    outputs: usize,
}

/// Every class of adapters.
const CLASSES: [AdapterClass; 5] = [
    AdapterClass::Gpu(Abilities { subgroup: None, matrices: None }),
    AdapterClass::Gpu(Abilities { subgroup: Some(32), matrices: Some(Matrices { side: 8 }) }),
    AdapterClass::Gpu(Abilities { subgroup: Some(32), matrices: Some(Matrices { side: 16 }) }),
    AdapterClass::Software,
    AdapterClass::SoftwareSubgroup,
];

/// Each shader with each set of knobs that a case launches on any class of adapters.
static LAUNCHES: LazyLock<Vec<Launch>> = LazyLock::new(|| {
    let mut launches = BTreeMap::new();
    for case in all_cases() {
        for class in CLASSES {
            let dispatch = case.kernel.dispatch(class);
            let key = format!("{} {:?}", dispatch.shader.name, dispatch.knobs);
            let (inputs, outputs) = (case.inputs.len(), case.outputs.len());
            launches.entry(key).or_insert(Launch { dispatch, inputs, outputs });
        }
    }
    // What measures a GPU is no kernel, and is to run on all of them as well.
    let source = include_str!("../shaders/measure/multiply_adds.wgsl");
    let dispatch = Dispatch::groups(Shader { name: "multiply_adds", source }, 1);
    let measure = Launch { dispatch, inputs: 0, outputs: 1 };
    launches.into_values().chain([measure]).collect()
});

/// Runs a check on the parsed and validated text of every launch, its knobs filled in.
fn each(check: impl Fn(&Launch, &Module, &ModuleInfo) -> Result<(), String>) {
    let mut failures = Vec::new();
    for launch in LAUNCHES.iter() {
        if let Err(why) = load(launch).and_then(|(module, info)| check(launch, &module, &info)) {
            failures.push(format!("{}: {why}", launch.dispatch.shader.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn load(launch: &Launch) -> Result<(Module, ModuleInfo), String> {
    let text = launch.dispatch.shader.text();
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    let mut needs = Capabilities::default();
    needs.set(Capabilities::SHADER_FLOAT16, text.contains("enable f16;"));
    needs.set(
        Capabilities::SUBGROUP,
        text.contains("@builtin(subgroup") || text.contains("subgroupBroadcast"),
    );
    needs.set(Capabilities::COOPERATIVE_MATRIX, has_matrices(&launch.dispatch));
    // Every WebGPU adapter has it: halves are unpacked from words, without f16 arithmetic.
    needs.set(Capabilities::SHADER_FLOAT16_IN_FLOAT32, text.contains("unpack2x16float"));
    let info = Validator::new(ValidationFlags::all(), needs)
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&text))?;
    let knobs = launch.dispatch.knobs.iter();
    let knobs: PipelineConstants = knobs.map(|&(name, value)| (name.to_owned(), value)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = process_overrides(&module, &info, entry, &knobs).map_err(|e| e.to_string())?;
    Ok((module.into_owned(), info.into_owned()))
}

/// Whether a shader multiplies cooperative matrices, which naga cannot write as HLSL and older Metal does not have.
fn has_matrices(dispatch: &Dispatch) -> bool {
    dispatch.shader.text().contains("enable wgpu_cooperative_matrix;")
}

/// Names of the WGSL files of a folder of the repository.
fn files(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    std::fs::read_dir(folder)
        .expect("the folder is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn every_shader_file_is_launched_by_some_case() {
    let launched = LAUNCHES.iter().map(|launch| launch.dispatch.shader.name.to_owned()).collect();
    assert_eq!(&files("shaders") | &files("shaders/measure"), launched);
}

#[test]
fn every_shared_snippet_is_named_by_some_shader() {
    let first_lines = LAUNCHES.iter().filter_map(|launch| launch.dispatch.shader.source.lines().next());
    let named =
        first_lines.filter_map(|line| line.strip_prefix("// uses:")).flat_map(|names| names.split(','));
    assert_eq!(files("shaders/shared"), named.map(|name| name.trim().to_owned()).collect());
}

#[test]
fn every_shader_binds_what_its_kernel_says() {
    each(|launch, module, _| {
        let mut bindings = BTreeMap::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            let kind = match variable.space {
                AddressSpace::Uniform => "uniform",
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "output",
                AddressSpace::Storage { .. } => "input",
                _ => "something else",
            };
            if binding.group != 0 || bindings.insert(binding.binding, kind).is_some() {
                return Err(format!("{binding:?} is not in group 0 or bound twice"));
            }
        }
        let kinds = std::iter::once("uniform")
            .chain(std::iter::repeat_n("input", launch.inputs))
            .chain(std::iter::repeat_n("output", launch.outputs));
        let mut expected: BTreeMap<u32, &str> = (0..).zip(kinds).collect();
        if let Some(input) = launch.dispatch.uniform_input {
            expected.insert(1 + input as u32, "uniform");
        }
        if bindings == expected { Ok(()) } else { Err(format!("binds {bindings:?}, not {expected:?}")) }
    });
}

#[test]
fn every_shader_keeps_to_the_default_limits() {
    each(|launch, module, _| {
        let entry =
            module.entry_points.iter().find(|entry| entry.name == "main").ok_or("no entry point main")?;
        let invocations: u32 = entry.workgroup_size.iter().product();
        let memory: u32 = module
            .global_variables
            .iter()
            .filter(|(_, variable)| variable.space == AddressSpace::WorkGroup)
            .map(|(_, variable)| module.types[variable.ty].inner.size(module.to_ctx()))
            .sum();
        let bound = launch.inputs + launch.outputs;
        if invocations > 256 || memory > 16 << 10 || bound > 8 {
            return Err(format!(
                "{invocations} invocations, {memory} bytes a workgroup, {bound} storage buffers"
            ));
        }
        Ok(())
    });
}

#[test]
fn every_shader_can_be_written_as_spir_v() {
    each(|_, module, info| {
        spv::write_vec(module, info, &spv::Options::default(), None).map(drop).map_err(|e| e.to_string())
    });
}

#[test]
fn every_shader_can_be_written_as_msl() {
    each(|launch, module, info| {
        let lang_version = if has_matrices(&launch.dispatch) { (2, 3) } else { (2, 0) };
        let options = msl::Options { lang_version, ..Default::default() };
        let (_, written) =
            msl::write_string(module, info, &options, &Default::default()).map_err(|e| e.to_string())?;
        written.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| e.to_string()))
    });
}

#[test]
fn every_shader_can_be_written_as_hlsl() {
    each(|launch, module, info| {
        if has_matrices(&launch.dispatch) {
            println!("{}: HLSL has no cooperative matrices", launch.dispatch.shader.name);
            return Ok(());
        }
        let (options, pipeline, mut text) = (hlsl::Options::default(), Default::default(), String::new());
        let written = hlsl::Writer::new(&mut text, &options, &pipeline)
            .write(module, info, None)
            .map_err(|e| e.to_string())?;
        written.entry_point_names.into_iter().try_for_each(|name| name.map(drop).map_err(|e| e.to_string()))
    });
}
