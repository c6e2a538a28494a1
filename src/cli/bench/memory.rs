//! What memory is for, said without taking it.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::subject::{SETS, training_shape};
use super::{Network, Setting, mib};
use crate::cli::common::table;
use crate::graph::{Device, Graph, Params};
use crate::kernels::{Dtype, Set};
use crate::measure::{BufferUse, buffer_uses};
use crate::memory::{available, in_words};
use crate::policy::{self, Config, SamplerShape, program_batch, sampling_graph, sampling_parts};
use crate::train::step_graph;
use crate::{Error, Result};

/// Buffers that a person sees at most, the largest first.
const SHOWN: usize = 20;

/// The memory of a policy at work, or of a training step.
struct Needs {
    /// What is shaped like the weights, and its bytes.
    sets: Vec<(&'static str, usize)>,
    programs: Vec<Part>,
    /// Observations in the host's memory.
    host: usize,
}

/// One of the programs that run side by side, or several that are alike.
struct Part {
    /// Its samples.
    batch: usize,
    copies: usize,
    launches: usize,
    buffers: Vec<BufferUse>,
    bytes: usize,
    /// With a buffer for every value.
    unshared: usize,
}

/// Prints the plan, or adds it to the JSON object.
pub fn print(network: &Network, setting: &Setting, json: Option<&mut Value>) -> Result<()> {
    if network.is_adaptive() && !setting.train {
        return Err(Error::input(
            "dopri5 asks for one velocity after the other, and has no program of a chunk: use --memory with --solver \
             euler, heun, midpoint or rk4",
        ));
    }
    let needs = Needs::of(&network.config, setting)?;
    if let Some(json) = json {
        let sets: Map<String, Value> =
            needs.sets.iter().map(|(name, bytes)| ((*name).to_owned(), json!(bytes))).collect();
        json["bytes"] = json!({
            "sets": sets,
            "program": needs.programs_bytes(),
            "program_without_sharing": needs.unshared_bytes(),
            "total": needs.device_bytes(),
        });
        json["programs"] = needs.programs.iter().map(Part::to_json).collect();
        return Ok(());
    }
    println!("{}", setting.title(network));
    for part in &needs.programs {
        part.print();
    }
    println!("{:10.3} MiB with a buffer for every value", mib(needs.unshared_bytes()));
    println!("{:10.3} MiB for programs, whose values share buffers", mib(needs.programs_bytes()));
    for (name, bytes) in &needs.sets {
        println!("{:10.3} MiB for {}", mib(*bytes), name.replace('_', " "));
    }
    println!("{:10.3} MiB in all", mib(needs.device_bytes()));
    Ok(())
}

/// Checks that what is about to run has the memory, where the host's is the device's.
///
/// # Errors
/// Says what is needed and what there is.
pub fn check(network: &Network, setting: &Setting) -> Result<()> {
    let on_host = matches!(setting.device, Device::Cpu);
    let Some(free) = available().filter(|_| on_host) else { return Ok(()) };
    let needs = Needs::of(&network.config, setting)?;
    let asked = (needs.device_bytes() + needs.host) as u64;
    if asked <= free {
        return Ok(());
    }
    Err(Error::input(format!(
        "--batch-size {} needs {} of memory, but {} are free: use a smaller batch",
        setting.batch,
        in_words(asked),
        in_words(free)
    )))
}

impl Needs {
    fn of(config: &Config, setting: &Setting) -> Result<Self> {
        let (network, params) = policy::Network::new(config);
        let params = Arc::new(setting.weights.of(params));
        let programs = if setting.train {
            let shape = training_shape(config, setting.batch);
            vec![Part::of(&step_graph(config, &network, &params, &shape), setting.batch, 1)]
        } else {
            let batch = program_batch(&setting.device, setting.batch);
            let mut parts = sampling_parts(&setting.device, batch, &params);
            parts.sort_unstable();
            let alike = parts.chunk_by(|one, other| one == other);
            alike
                .map(|parts| {
                    let cameras = sampled_cameras(config);
                    let shape = SamplerShape { cameras, ..SamplerShape::of(config, parts[0]) };
                    let (graph, _) = sampling_graph(config, &network, &params, &shape, &setting.device)?;
                    Ok(Part::of(&graph, parts[0], parts.len()))
                })
                .collect::<Result<_>>()?
        };
        let sets = if setting.train { &SETS[..] } else { &SETS[..1] };
        let sets = sets.iter().map(|&(set, name)| (name, set_bytes(&params, set))).collect();
        let pixels: usize = config.images().map(|(_, feature)| feature.shape.iter().product::<usize>()).sum();
        let sample = config.n_obs_steps * (pixels + 4 * config.state_dim()) + 8 * config.noise_len();
        Ok(Self { sets, programs, host: setting.batch * sample })
    }

    fn programs_bytes(&self) -> usize {
        self.programs.iter().map(|part| part.copies * part.bytes).sum()
    }

    fn unshared_bytes(&self) -> usize {
        self.programs.iter().map(|part| part.copies * part.unshared).sum()
    }

    /// All but observations.
    fn device_bytes(&self) -> usize {
        self.programs_bytes() + self.sets.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }
}

impl Part {
    fn of(graph: &Graph, batch: usize, copies: usize) -> Self {
        let (buffers, unshared) = buffer_uses(graph);
        let bytes = buffers.iter().map(|buffer| buffer.bytes).sum();
        Self { batch, copies, launches: graph.launches(), buffers, bytes, unshared }
    }

    fn print(&self) {
        let copies = if self.copies > 1 { format!("{} programs, each ", self.copies) } else { String::new() };
        let values: usize = self.buffers.iter().map(|buffer| buffer.values).sum();
        println!(
            "\n{copies}{} {}: {} launches, {values} values in {} buffers",
            self.batch,
            if self.batch == 1 { "sample" } else { "samples" },
            self.launches,
            self.buffers.len()
        );
        let mut largest: Vec<&BufferUse> = self.buffers.iter().collect();
        largest.sort_by_key(|buffer| std::cmp::Reverse(buffer.bytes));
        let head = ["slot", "holds", "MiB", "values", "launches"].map(str::to_owned);
        let row = |buffer: &&BufferUse| {
            [
                buffer.slot.to_string(),
                holds(buffer.dtype).to_owned(),
                format!("{:.3}", mib(buffer.bytes)),
                buffer.values.to_string(),
                buffer.launches.map_or("none".to_owned(), |(first, last)| format!("{first} to {last}")),
            ]
        };
        let rows: Vec<[String; 5]> =
            std::iter::once(head).chain(largest.iter().take(SHOWN).map(row)).collect();
        print!("{}", table(&rows));
        if let Some(more) = largest.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            let rest: usize = largest[SHOWN..].iter().map(|buffer| buffer.bytes).sum();
            println!("{more} smaller ones have {:.3} MiB; --json lists them", mib(rest));
        }
        println!();
    }

    fn to_json(&self) -> Value {
        let buffer = |buffer: &BufferUse| {
            json!({
                "slot": buffer.slot,
                "holds": holds(buffer.dtype),
                "bytes": buffer.bytes,
                "values": buffer.values,
                "first_launch": buffer.launches.map(|(first, _)| first),
                "last_launch": buffer.launches.map(|(_, last)| last),
            })
        };
        json!({
            "batch_size": self.batch,
            "copies": self.copies,
            "launches": self.launches,
            "bytes": self.bytes,
            "bytes_without_sharing": self.unshared,
            "buffers": self.buffers.iter().map(buffer).collect::<Vec<_>>(),
        })
    }
}

/// What a sampler's pictures are: bytes as the cameras give them, floats where they were resized on their way.
fn sampled_cameras(config: &Config) -> Vec<Option<Dtype>> {
    let dtype = |feature: &policy::Feature| match config.seen_size(feature) == feature.shape[1..] {
        true => Dtype::U8,
        false => Dtype::F32,
    };
    config.images().map(|(_, feature)| Some(dtype(feature))).collect()
}

/// Bytes of a set: those that learn are all there is to gradients and moments.
fn set_bytes(params: &Params, set: Set) -> usize {
    let all = matches!(set, Set::Weights | Set::Average);
    let shards = params.shards().iter().filter(|shard| all || shard.rate > 0.0);
    shards.map(|shard| shard.len * shard.dtype.bytes()).sum()
}

fn holds(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
        Dtype::U8 => "u8",
        Dtype::U32 => "u32",
    }
}
