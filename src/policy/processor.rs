//! LeRobot's processor files, which carry a policy's normalisation and its statistics.
//!
//! policy_preprocessor.json and policy_postprocessor.json list steps; the normalizer step of each names a
//! safetensors file of tensors `<feature>.<statistic>` (LeRobot: `processor/pipeline.py`,
//! `processor/normalize_processor.py`).

use serde_json::{Map, Value, json};

use super::checkpoint::Source;
use super::normalize::EPS;
use super::{Config, Feature, FolderWriter, Stats};
use crate::{Error, Result};

/// A chain of steps: its name, and the step that normalises.
struct Chain {
    name: &'static str,
    normalizer: &'static str,
}

const BEFORE: Chain = Chain { name: "policy_preprocessor", normalizer: "normalizer_processor" };
const AFTER: Chain = Chain { name: "policy_postprocessor", normalizer: "unnormalizer_processor" };

/// Steps that change no value flowgpu reads, so that it may pass them over.
const PASSED_OVER: &[&str] = &["rename_observations_processor", "to_batch_processor", "device_processor"];

/// What the processor files of a policy say.
#[derive(Debug, Default)]
pub(super) struct Processors {
    /// The statistics; none if there are no processor files.
    pub stats: Stats,
    /// Steps that are not carried out, each in a sentence for the user.
    pub notes: Vec<String>,
}

/// Writes both chains and their state files into `folder` (empty for the writer's own folder).
///
/// # Errors
/// Names the file and the cause.
pub(super) fn write(writer: &mut FolderWriter, folder: &str, config: &Config, stats: &Stats) -> Result<()> {
    let device = match config.kept.get("device") {
        Some(Value::String(device)) => device.as_str(),
        _ => "cpu",
    };
    let move_to = |device: &str| {
        let config = json!({"device": device, "float_dtype": null});
        json!({"registry_name": "device_processor", "config": config})
    };
    let inputs_and_outputs = config.input_features.iter().chain(&config.output_features);
    let before = [
        json!({"registry_name": "rename_observations_processor", "config": {"rename_map": {}}}),
        json!({"registry_name": "to_batch_processor", "config": {}}),
        move_to(device),
        normalizer(&BEFORE, 3, inputs_and_outputs, config),
    ];
    let after = [normalizer(&AFTER, 0, config.output_features.iter(), config), move_to("cpu")];
    for (chain, steps) in [(BEFORE, &before[..]), (AFTER, &after)] {
        for step in steps {
            if let Some(Value::String(file)) = step.get("state_file") {
                writer.write_tensors(&format!("{folder}{file}"), stats.views())?;
            }
        }
        let chain_json = json!({"name": chain.name, "steps": steps});
        writer.write_json(&format!("{folder}{}.json", chain.name), &chain_json)?;
    }
    Ok(())
}

fn normalizer<'a>(
    chain: &Chain,
    index: usize,
    features: impl Iterator<Item = &'a (String, Feature)>,
    config: &Config,
) -> Value {
    let features: Map<_, _> = features.map(|(key, feature)| (key.clone(), json!(feature))).collect();
    json!({
        "registry_name": chain.normalizer,
        "config": {"eps": 1e-8, "features": features, "norm_map": config.to_json()["normalization_mapping"]},
        "state_file": format!("{}_step_{index}_{}.safetensors", chain.name, chain.normalizer),
    })
}

/// Reads both chains. A policy without them has no statistics, which is an error only when some are needed.
///
/// # Errors
/// If a file is damaged or missing, if the chains normalise otherwise than config.json says, or if their
/// statistics of the action differ.
pub(super) fn read(source: &Source<'_>, config: &Config) -> Result<Processors> {
    let mut notes = Vec::new();
    let before = read_chain(source, &BEFORE, config, &mut notes)?;
    let after = read_chain(source, &AFTER, config, &mut notes)?;
    if let (Some(before), Some(after)) = (&before, &after) {
        agree(config.action().0, before, after)?;
    }
    let none = || Stats::new(source.place("policy_preprocessor.json"));
    Ok(Processors { stats: before.or(after).unwrap_or_else(none), notes })
}

fn read_chain(
    source: &Source<'_>,
    chain: &Chain,
    config: &Config,
    notes: &mut Vec<String>,
) -> Result<Option<Stats>> {
    let file = format!("{}.json", chain.name);
    let Some(bytes) = source.read(&file)? else { return Ok(None) };
    let place = source.place(&file);
    let wrong = |what: String| Error::input(format!("{place}: {what}"));
    let json: Value = serde_json::from_slice(&bytes).map_err(|e| wrong(format!("no JSON: {e}")))?;
    let steps =
        json.get("steps").and_then(Value::as_array).ok_or_else(|| wrong("`steps` is missing".to_owned()))?;
    let mut stats = None;
    for step in steps {
        let name = step.get("registry_name").or_else(|| step.get("class")).and_then(Value::as_str);
        let name = name.ok_or_else(|| wrong("a step has no `registry_name`".to_owned()))?;
        if name == chain.normalizer {
            check_mode(step, config).map_err(|e| e.at(&place))?;
            stats =
                step.get("state_file").and_then(Value::as_str).map(|file| state(source, file)).transpose()?;
        } else if !PASSED_OVER.contains(&name) {
            notes.push(format!("{place}: step `{name}` is unknown to flowgpu and is left out"));
        } else if step
            .pointer("/config/rename_map")
            .and_then(Value::as_object)
            .is_some_and(|map| !map.is_empty())
        {
            notes.push(format!("{place}: step `{name}` is left out: name features as config.json does"));
        }
    }
    Ok(stats)
}

fn state(source: &Source<'_>, file: &str) -> Result<Stats> {
    let place = source.place(file);
    let bytes = source.read(file)?.ok_or_else(|| {
        Error::input(format!("{place}, the statistics of the policy, is missing: copy it with the policy"))
    })?;
    Stats::from_safetensors(&bytes, place)
}

/// The step must normalise as config.json says: two answers to one question are an error.
fn check_mode(step: &Value, config: &Config) -> Result<()> {
    match step.pointer("/config/eps").and_then(Value::as_f64) {
        Some(eps) if eps as f32 != EPS => {
            return Err(Error::input(format!("`eps` is {eps}: flowgpu normalises with 1e-8 only")));
        }
        _ => {}
    }
    let Some(map) = step.pointer("/config/norm_map").and_then(Value::as_object) else { return Ok(()) };
    for (key, feature) in config.input_features.iter().chain(&config.output_features) {
        let kind = json!(feature.kind);
        let here = kind.as_str().and_then(|kind| map.get(kind)).cloned().unwrap_or(json!("IDENTITY"));
        let there = json!(config.normalization_of(feature.kind));
        if here != there {
            return Err(Error::input(format!(
                "`norm_map` normalises `{key}` by {here}, but config.json says {there}: make them agree"
            )));
        }
    }
    Ok(())
}

/// LeRobot unnormalises with the second file; both must say the same of the action.
fn agree(action: &str, before: &Stats, after: &Stats) -> Result<()> {
    for stat in ["min", "max", "mean", "std", "q01", "q99", "low", "high"] {
        let bits = |stats: &Stats| -> Option<Vec<u32>> {
            Some(stats.get(action, stat)?.values.iter().map(|value| value.to_bits()).collect())
        };
        if bits(before) != bits(after) {
            return Err(Error::input(format!(
                "{} and {} differ in `{action}.{stat}`: the policy needs one set of statistics",
                before.place(),
                after.place()
            )));
        }
    }
    Ok(())
}
