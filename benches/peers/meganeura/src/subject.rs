//! What is timed: Meganeura's sample and training step.

use meganeura::{Mode, Session, SessionConfig, build};

use crate::golden::{CHUNK, Golden, IMAGE, random_bytes, random_numbers};
use crate::network::{ACTION_DIM, SLOTS, sampler, time_embedding, trainer};
use crate::protocol::{Peer, Result};
use crate::weights;

const STEPS: usize = 20;
const LARGEST_BATCH: usize = 64;

/// Sessions on the Vulkan device, compiled when first asked for.
pub struct Subject {
    golden: Golden,
    samplers: Vec<(usize, Session)>,
    trainers: Vec<(usize, Session)>,
    images: Vec<u8>,
    /// Images as the device takes them.
    floats: Vec<f32>,
    actions: Vec<f32>,
}

impl Peer for Subject {
    const NAME: [&str; 2] = ["meganeura", "0.3.0"];
    const TRAINING_NOTE: Option<&str> = Some("without dropout: Meganeura has none, nor random numbers");

    fn open(device: &str, golden: &Golden) -> Result<Self> {
        if device != "vulkan" {
            return Err(format!("unknown device `{device}`: want vulkan"));
        }
        Ok(Self {
            golden: golden.clone(),
            samplers: Vec::new(),
            trainers: Vec::new(),
            images: random_bytes(LARGEST_BATCH * IMAGE),
            floats: Vec::new(),
            actions: random_numbers(LARGEST_BATCH * CHUNK),
        })
    }

    fn sample_of(&mut self, images: &[f32], noise: &[f32]) -> Result<Vec<f32>> {
        let batch = images.len() / IMAGE;
        let session = session(&mut self.samplers, batch, Mode::Inference, &self.golden)?;
        let chunk = sample(session, images, &slots_first(noise, batch));
        // Batch first again.
        let value =
            |i: usize| chunk[(i % CHUNK / ACTION_DIM * batch + i / CHUNK) * ACTION_DIM + i % ACTION_DIM];
        Ok((0..chunk.len()).map(value).collect())
    }

    fn sample(&mut self, batch: usize) -> Result<()> {
        self.fill_floats(batch)?;
        let session = session(&mut self.samplers, batch, Mode::Inference, &self.golden)?;
        sample(session, &self.floats, &self.actions[..batch * CHUNK]);
        Ok(())
    }

    fn train(&mut self, batch: usize) -> Result<()> {
        self.fill_floats(batch)?;
        let session = session(&mut self.trainers, batch, Mode::Training, &self.golden)?;
        // One time for each image, in all of its slots.
        let times = (0..batch).map(|i| (i as f32 + 0.5) / batch as f32);
        let times: Vec<f32> = times.flat_map(time_embedding).collect();
        session.set_input("image", &self.floats);
        session.set_input("x_t", &self.actions[..batch * CHUNK]);
        session.set_input("velocity", &self.actions[..batch * CHUNK]);
        session.set_input("time", &times.repeat(SLOTS));
        session.step();
        session.wait();
        match session.read_loss() {
            loss if loss.is_finite() => Ok(()),
            loss => Err(format!("the loss is {loss}")),
        }
    }
}

impl Subject {
    /// The first images of host memory from 0 to 1: Meganeura's inputs are f32.
    fn fill_floats(&mut self, batch: usize) -> Result<()> {
        let Some(images) = self.images.get(..batch * IMAGE) else {
            return Err(format!("batches go up to {LARGEST_BATCH}"));
        };
        self.floats.clear();
        self.floats.extend(images.iter().map(|&byte| f32::from(byte) / 255.0));
        Ok(())
    }
}

/// The session for this batch, compiled and filled in when first asked for.
fn session<'a>(
    known: &'a mut Vec<(usize, Session)>,
    batch: usize,
    mode: Mode,
    golden: &Golden,
) -> Result<&'a mut Session> {
    let index = match known.iter().position(|(size, _)| *size == batch) {
        Some(index) => index,
        None => {
            let graph = if mode == Mode::Training { trainer(batch) } else { sampler(batch, STEPS) };
            let (mut session, _) = build(&graph, SessionConfig { mode, ..SessionConfig::from_env() });
            // On lavapipe the first dispatch of a process, the convolution, has no effect: that step is thrown away.
            session.step();
            session.wait();
            weights::load(&mut session, golden)?;
            if mode == Mode::Training {
                session.set_adam(1e-4, 0.9, 0.999, 1e-8);
            }
            known.push((batch, session));
            known.len() - 1
        }
    };
    Ok(&mut known[index].1)
}

/// images [B, 3, 128, 128], noise [8, B, 2] -> actions [8, B, 2]
fn sample(session: &mut Session, images: &[f32], noise: &[f32]) -> Vec<f32> {
    session.set_input("image", images);
    session.set_input("noise", noise);
    session.step();
    session.wait();
    let mut actions = vec![0.0; noise.len()];
    session.read_output_by_index(0, &mut actions);
    actions
}

/// [B, 8, 2] -> [8, B, 2]
fn slots_first(chunk: &[f32], batch: usize) -> Vec<f32> {
    let value = |i: usize| {
        let (slot, rest) = (i / (batch * ACTION_DIM), i % (batch * ACTION_DIM));
        chunk[rest / ACTION_DIM * CHUNK + slot * ACTION_DIM + rest % ACTION_DIM]
    };
    (0..chunk.len()).map(value).collect()
}
