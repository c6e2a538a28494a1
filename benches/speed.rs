//! flowgpu's side of the speed comparison: training steps and samples of the seed network.
//!
//! `serve DEVICE` answers each line on stdin, `train 64`, `sample 1`, `sample 64` or `profile 64`, with one line of
//! JSON: what was measured, the median over `repeat` runs and the quartiles, in milliseconds. benches/compare.py asks
//! it and its peers in turn.

use std::io::BufRead;
use std::sync::Arc;
use std::time::Instant;

use flowgpu::graph::{Bank, Device, Program};
use flowgpu::kernels::optimizer::Hyper;
use flowgpu::kernels::{Dtype, Set};
use flowgpu::policy::{Images, Network, Observations, Sampler, SamplerShape, presets::preset};
use flowgpu::rng::{Rng, Stream};
use flowgpu::train::{Purpose, StepInputs, StepShape, TrainStep, Update};
use flowgpu::{Error, Result};

const HYPER: Hyper =
    Hyper { lr: 1e-4, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, ema_decay: 0.0, max_norm: 0.0 };

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let Some(at) = arguments.iter().position(|argument| argument == "serve") else {
        println!("speed: run with `serve DEVICE`; see benches/compare.py");
        return Ok(());
    };
    let device = Device::open(arguments.get(at + 1).map_or("cpu", String::as_str))?;
    let mut subject = Subject::new(&device)?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::failure(e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, batch, repeat] = words[..] else { continue };
        let number = |text: &str| text.parse().map_err(|_| Error::input(format!("`{text}` is no number")));
        let (batch, repeat): (usize, usize) = (number(batch)?, number(repeat)?);
        match what {
            "profile" => subject.profile(batch)?,
            "profile-sample" => subject.profile_sample(batch)?,
            _ => {
                let mut times = subject.measure(what, batch, repeat)?;
                times.sort_by(f64::total_cmp);
                let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
                println!(
                    "{}",
                    serde_json::json!({"what": what, "batch": batch, "device": device.to_string(),
                        "median_ms": at(0.5), "q1_ms": at(0.25), "q3_ms": at(0.75)})
                );
            }
        }
    }
    Ok(())
}

/// The seed network on a device, with programs made when first asked for.
struct Subject {
    bank: Bank,
    train: Option<(usize, TrainStep)>,
    samplers: Vec<(usize, Sampler)>,
    images: Vec<u8>,
    normal: Vec<f32>,
}

impl Subject {
    fn new(device: &Device) -> Result<Self> {
        let (_, params) = Network::new(&preset("pursuit-seed")?);
        let params = Arc::new(params);
        let sets = [Set::Weights, Set::Gradients, Set::Moment1, Set::Moment2];
        let bank = Bank::new(device, &params, &sets)?;
        for (id, param) in params.iter() {
            bank.write(Set::Weights, &param.name, &params.initial(id, 1));
        }
        let mut rng = Rng::new(1, Stream::SampleNoise, 0, 0);
        let images = (0..64 * 3 * 128 * 128).map(|_| rng.next_u32() as u8).collect();
        let normal = (0..64 * 16).map(|_| rng.normal() as f32).collect();
        Ok(Self { bank, train: None, samplers: Vec::new(), images, normal })
    }

    fn measure(&mut self, what: &str, batch: usize, repeat: usize) -> Result<Vec<f64>> {
        let mut times = Vec::with_capacity(repeat);
        for step in 0..=repeat {
            let start = Instant::now();
            match what {
                "train" => self.train_step(batch, step as u64 + 1)?,
                _ => self.sample(batch)?,
            }
            // The first run compiles.
            if step > 0 {
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
        Ok(times)
    }

    fn step(&mut self, batch: usize) -> Result<&TrainStep> {
        if self.train.as_ref().is_none_or(|(known, _)| *known != batch) {
            let config = preset("pursuit-seed")?;
            let shape = StepShape {
                batch,
                cameras: vec![Some(Dtype::U8)],
                t_per_slot: false,
                purpose: Purpose::Update(Update { decoupled: false, average: false }),
                dropout: 0.1,
            };
            let network = Network::new(&config).0;
            self.train = Some((batch, TrainStep::new(&config, &network, &self.bank, shape)?));
        }
        self.train.as_ref().map(|(_, step)| step).ok_or_else(|| Error::failure("no step"))
    }

    fn train_step(&mut self, batch: usize, number: u64) -> Result<()> {
        self.step(batch)?;
        let weights = vec![1.0 / (batch * 16) as f32; batch * 8];
        let times: Vec<f32> = (0..batch).map(|i| (i as f32 + 0.5) / batch as f32).collect();
        let inputs = StepInputs {
            seen: Observations::of_images(Images::Bytes(&self.images[..batch * 3 * 128 * 128])),
            dropped: &[],
            actions: &self.normal[..batch * 16],
            noise: &self.normal[..batch * 16],
            times: &times,
            weights: &weights,
        };
        let Some((_, step)) = &self.train else { return Ok(()) };
        step.run(&inputs, &HYPER, 1, number)?;
        step.report().map(drop)
    }

    fn profile(&mut self, batch: usize) -> Result<()> {
        self.train_step(batch, 1)?;
        table(self.step(batch)?.program())
    }

    fn profile_sample(&mut self, batch: usize) -> Result<()> {
        self.sample(batch)?;
        if let Some((_, sampler)) = self.samplers.iter().find(|(known, _)| *known == batch) {
            table(sampler.program())?;
        }
        Ok(())
    }

    fn sample(&mut self, batch: usize) -> Result<()> {
        if !self.samplers.iter().any(|(known, _)| *known == batch) {
            let config = preset("pursuit-seed")?;
            let shape = SamplerShape {
                steps: 20,
                cameras: vec![Some(Dtype::U8)],
                ..SamplerShape::of(&config, batch)
            };
            self.samplers.push((batch, Sampler::new(&config, &Network::new(&config).0, &self.bank, shape)?));
        }
        for (known, sampler) in &self.samplers {
            if *known == batch {
                let program = sampler.program();
                program.write_bytes("images.0", &self.images[..batch * 3 * 128 * 128])?;
                program.write("noise", &self.normal[..batch * 16])?;
                program.run()?;
                program.read("sample")?;
            }
        }
        Ok(())
    }
}

/// Time per kernel, the largest first.
fn table(program: &Program) -> Result<()> {
    for (name, time, count) in program.profile_by_kernel()? {
        eprintln!("{:9.3} ms {count:5} x {name}", time.as_secs_f64() * 1e3);
    }
    Ok(())
}
