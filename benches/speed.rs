//! flowgpu's side of the speed comparison (benches/README.md): training steps and samples of the seed network, chunks and
//! training steps of the full-size policy, a large product.
//!
//! `serve DEVICE GOLDEN` answers each line on stdin with one line of JSON: `check` with the error of the golden file's
//! sample; `train 64 R`, `sample 1 R`, `chunk 1 R`, `train-full 8 R`, `product 4096 R` with the median over R runs and
//! the quartiles, in milliseconds. `profile train 64` and `profile sample 1` write times per kernel to stderr.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use flowgpu::graph::{Bank, Device, Graph, Params, Program};
use flowgpu::kernels::matmul::Matmul;
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{Dtype, Set};
use flowgpu::policy::{Config, Images, Network, Observations, Sampler, SamplerShape, presets::preset};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::golden::Golden;
use flowgpu::train::{Purpose, StepInputs, StepShape, TrainStep, Update};
use flowgpu::{Error, Result};
use serde_json::{Value, json};

const HYPER: Hyper =
    Hyper { lr: 1e-4, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, ema_decay: 0.0, max_norm: 0.0 };
/// Runs that are not counted, as many as the peers'.
const WARM_UP: usize = 3;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let Some(at) = arguments.iter().position(|argument| argument == "serve") else {
        println!("speed: run with `serve DEVICE GOLDEN`; see benches/README.md");
        return Ok(());
    };
    let (Some(device), Some(golden)) = (arguments.get(at + 1), arguments.get(at + 2)) else {
        return Err(Error::input("speed: `serve` takes a device and a golden file"));
    };
    let bytes = std::fs::read(golden).map_err(|e| Error::input(format!("{golden}: {e}")))?;
    let mut server = Server {
        device: Device::open(device)?,
        golden: Golden::parse(&bytes)?,
        seed: None,
        full: None,
        products: HashMap::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::failure(e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        println!("{}", server.answer(&words)?);
    }
    Ok(())
}

/// What is measured, made when first asked for.
struct Server {
    device: Device,
    golden: Golden,
    seed: Option<Subject>,
    full: Option<Subject>,
    products: HashMap<usize, Program>,
}

impl Server {
    fn answer(&mut self, words: &[&str]) -> Result<Value> {
        let number = |text: &str| text.parse().map_err(|_| Error::input(format!("`{text}` is no number")));
        match *words {
            ["check"] => self.check(),
            ["profile", what, batch] => {
                let batch = number(batch)?;
                self.run(what, batch)?;
                let seed = self.seed.as_ref().ok_or_else(|| Error::input("there is nothing to profile"))?;
                table(if what == "train" {
                    seed.step(batch)?.program()
                } else {
                    seed.sampler(batch)?.program()
                })?;
                Ok(json!({"what": "profile"}))
            }
            [what @ ("train" | "sample" | "chunk" | "train-full" | "product"), batch, repeat] => {
                let (batch, repeat): (usize, usize) = (number(batch)?, number(repeat)?);
                let mut times = Vec::with_capacity(repeat);
                for run in 0..WARM_UP + repeat.max(1) {
                    let start = Instant::now();
                    self.run(what, batch)?;
                    if run >= WARM_UP {
                        times.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
                times.sort_by(f64::total_cmp);
                let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
                Ok(json!({"what": what, "batch": batch, "device": self.device.to_string(),
                    "median_ms": at(0.5), "q1_ms": at(0.25), "q3_ms": at(0.75)}))
            }
            _ => Ok(json!({"what": words.join(" "), "skipped": "speed does not measure this"})),
        }
    }

    /// The golden file's sample on this device.
    fn check(&self) -> Result<Value> {
        let mut golden = self.golden.clone();
        golden.tensors.retain(|name, _| !name.starts_with("expect/") || name == "expect/sample");
        let quantities = golden.verify(&self.device)?;
        let driver = match &self.device {
            Device::Gpu(gpu) => gpu.summary.driver.clone(),
            Device::Cpu | Device::Oracle => String::new(),
        };
        Ok(json!({"what": "check", "nmse": quantities[0].nmse, "peer": "flowgpu",
            "version": env!("CARGO_PKG_VERSION"), "device": self.device.to_string(), "driver": driver}))
    }

    fn run(&mut self, what: &str, size: usize) -> Result<()> {
        let device = &self.device;
        let seed = |golden: &Golden| Subject::new(device, golden.config.clone(), Some(golden), 64);
        let full = || Subject::new(device, preset("flowmatching-seed")?, None, 8);
        match what {
            "train" => filled(&mut self.seed, || seed(&self.golden))?.train(size),
            "sample" => filled(&mut self.seed, || seed(&self.golden))?.sample(size),
            "train-full" => filled(&mut self.full, full)?.train(size),
            "chunk" => filled(&mut self.full, full)?.sample(size),
            _ => {
                let program = match self.products.entry(size) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(product(device, size)?),
                };
                program.run()?;
                // Waits for the device without bringing the product home.
                program.read("last").map(drop)
            }
        }
    }
}

fn filled<T>(place: &mut Option<T>, make: impl FnOnce() -> Result<T>) -> Result<&mut T> {
    if place.is_none() {
        *place = Some(make()?);
    }
    place.as_mut().ok_or_else(|| Error::failure("nothing was made"))
}

/// C = A B of n x n matrices.
fn product(device: &Device, n: usize) -> Result<Program> {
    let params = Arc::new(Params::default());
    let mut graph = Graph::new(Arc::clone(&params), None);
    let [a, b] = ["a", "b"].map(|name| graph.input(name, Dtype::F32, &[n, n]));
    let c = graph.temporary(&[n, n]);
    graph.output("c", c);
    graph.launch(Matmul::new(n, n, n), &[Some(a), Some(b), None, None], &[c]);
    let last = graph.view(c, (n * n - 1) / 64 * 64, 1);
    graph.output("last", last);
    let program = Program::new(&graph, &Bank::new(device, &params, &[])?)?;
    let mut rng = Rng::new(1, Stream::SampleNoise, 0, 0);
    for name in ["a", "b"] {
        program.write(name, &(0..n * n).map(|_| rng.normal() as f32).collect::<Vec<_>>())?;
    }
    Ok(program)
}

/// A network on a device, with programs made when first asked for.
struct Subject {
    config: Config,
    bank: Bank,
    training: HashMap<usize, TrainStep>,
    samplers: HashMap<usize, Sampler>,
    number: u64,
    images: Vec<u8>,
    normal: Vec<f32>,
}

impl Subject {
    fn new(device: &Device, config: Config, golden: Option<&Golden>, most: usize) -> Result<Self> {
        let params = Arc::new(Network::new(&config).1);
        let bank = Bank::new(device, &params, &[Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2])?;
        for (id, param) in params.iter() {
            match golden.and_then(|golden| golden.tensors.get(&format!("param/{}", param.name))) {
                Some((_, values)) => bank.write(Set::Weights, &param.name, values),
                None => bank.write(Set::Weights, &param.name, &params.initial(id, 1)),
            }
        }
        let mut rng = Rng::new(1, Stream::SampleNoise, 0, 0);
        let images = (0..most * pixels(&config)).map(|_| rng.next_u32() as u8).collect();
        let normal =
            (0..most * config.noise_len().max(config.state_dim())).map(|_| rng.normal() as f32).collect();
        let (training, samplers) = (HashMap::new(), HashMap::new());
        Ok(Self { config, bank, training, samplers, number: 0, images, normal })
    }

    fn observations(&self, batch: usize) -> Observations<'_> {
        let images = vec![Images::Bytes(&self.images[..batch * pixels(&self.config)])];
        Observations { images, state: &self.normal[..batch * self.config.state_dim()] }
    }

    fn step(&self, batch: usize) -> Result<&TrainStep> {
        self.training.get(&batch).ok_or_else(|| Error::failure("there is no such step"))
    }

    fn sampler(&self, batch: usize) -> Result<&Sampler> {
        self.samplers.get(&batch).ok_or_else(|| Error::failure("there is no such sampler"))
    }

    /// A training step that has ended.
    fn train(&mut self, batch: usize) -> Result<()> {
        if !self.training.contains_key(&batch) {
            let shape = StepShape {
                batch,
                cameras: vec![Some(Dtype::U8)],
                t_per_slot: false,
                purpose: Purpose::Update(Update { decoupled: false, average: false }),
                dropout: 0.1,
            };
            let network = Network::new(&self.config).0;
            self.training.insert(batch, TrainStep::new(&self.config, &network, &self.bank, shape)?);
        }
        self.number += 1;
        let (size, slots) = (self.config.noise_len(), batch * self.config.chunk_size);
        let times: Vec<f32> = (0..batch).map(|i| (i as f32 + 0.5) / batch as f32).collect();
        let inputs = StepInputs {
            seen: self.observations(batch),
            dropped: &[],
            actions: &self.normal[..batch * size],
            noise: &self.normal[..batch * size],
            times: &times,
            weights: &vec![1.0 / (batch * size) as f32; slots],
        };
        let step = self.step(batch)?;
        step.run(&inputs, &HYPER, 1, self.number)?;
        step.report().map(drop)
    }

    /// A chunk for each sample, on the host.
    fn sample(&mut self, batch: usize) -> Result<()> {
        if !self.samplers.contains_key(&batch) {
            let shape =
                SamplerShape { cameras: vec![Some(Dtype::U8)], ..SamplerShape::of(&self.config, batch) };
            let network = Network::new(&self.config).0;
            self.samplers.insert(batch, Sampler::new(&self.config, &network, &self.bank, shape)?);
        }
        let program = self.sampler(batch)?.program();
        self.observations(batch).write(program)?;
        program.write("noise", &self.normal[..batch * self.config.noise_len()])?;
        program.run()?;
        program.read("sample").map(drop)
    }
}

/// Bytes of a sample's pictures as the network sees them.
fn pixels(config: &Config) -> usize {
    let of = |image| config.seen_size(image).iter().product::<usize>() * 3 * config.n_obs_steps;
    config.images().map(|(_, image)| of(image)).sum()
}

/// Time per kernel, the largest first.
fn table(program: &Program) -> Result<()> {
    for (name, time, count) in program.profile_by_kernel()? {
        eprintln!("{:9.3} ms {count:5} x {name}", time.as_secs_f64() * 1e3);
    }
    Ok(())
}
