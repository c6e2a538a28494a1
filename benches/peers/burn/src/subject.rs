//! What is timed: Burn's training step and sample.

use burn::nn::loss::{MseLoss, Reduction};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::prelude::*;
use burn::tensor::{DType, Distribution};

use crate::golden::{CHUNK, Golden, IMAGE, random_bytes, random_numbers};
use crate::network::PatchDecoder;
use crate::protocol::{Peer, Result};
use crate::weights;

const LEARNING_RATE: f64 = 1e-4;
const STEPS: usize = 20;
const LARGEST_BATCH: usize = 64;

/// The network on a device, for inference and for training.
pub struct Subject {
    device: Device,
    network: PatchDecoder,
    training: Option<Training>,
    images: Vec<u8>,
    actions: Vec<f32>,
}

struct Training {
    network: PatchDecoder,
    optimizer: ModuleOptimizer,
}

impl Peer for Subject {
    const NAME: [&str; 2] = ["burn", "0.22.1"];

    fn open(device: &str, golden: &Golden) -> Result<Self> {
        let device = match device {
            "flex" => Device::flex(),
            "wgpu" => Device::vulkan(Default::default()),
            other => return Err(format!("unknown device `{other}`: want flex or wgpu")),
        };
        let mut network = PatchDecoder::new(&device.clone().autodiff());
        weights::load(&mut network, golden)?;
        Ok(Self {
            network: network.valid(),
            training: Some(Training { network, optimizer: AdamConfig::new().with_epsilon(1e-8).init() }),
            device,
            images: random_bytes(LARGEST_BATCH * IMAGE),
            actions: random_numbers(LARGEST_BATCH * CHUNK),
        })
    }

    fn sample_of(&mut self, images: &[f32], noise: &[f32]) -> Result<Vec<f32>> {
        let batch = images.len() / IMAGE;
        let images = TensorData::new(images.to_vec(), [batch, 3, 128, 128]);
        let memory = self.network.encode(Tensor::from_data(images, &self.device));
        let noise = TensorData::new(noise.to_vec(), [batch, 8, 2]);
        read(self.network.sample(memory, Tensor::from_data(noise, &self.device), STEPS))
    }

    fn sample(&mut self, batch: usize) -> Result<()> {
        let memory = self.network.encode(self.images(batch, &self.device)?);
        let noise = Tensor::random([batch, 8, 2], Distribution::Normal(0.0, 1.0), &self.device);
        read(self.network.sample(memory, noise, STEPS)).map(drop)
    }

    fn train(&mut self, batch: usize) -> Result<()> {
        let device = self.device.clone().autodiff();
        let images = self.images(batch, &device)?;
        let actions = TensorData::new(self.actions[..batch * CHUNK].to_vec(), [batch, 8, 2]);
        let actions = Tensor::<3>::from_data(actions, &device);
        let Some(Training { network, mut optimizer }) = self.training.take() else {
            return Err("an earlier step failed".into());
        };

        let noise = Tensor::random([batch, 8, 2], Distribution::Normal(0.0, 1.0), &device);
        let t = Tensor::<2>::random([batch, 1], Distribution::Uniform(0.0, 1.0), &device);
        let velocity = actions - noise.clone();
        let x_t = noise + velocity.clone() * t.clone().unsqueeze_dim::<3>(2);
        let time = network.time_embedding(t).unsqueeze_dim(1);
        let predicted = network.decode(network.encode(images), x_t, time);
        let loss = MseLoss::new().forward(predicted, velocity, Reduction::Mean);
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        let network = optimizer.step(LEARNING_RATE, network, gradients);

        self.training = Some(Training { network, optimizer });
        self.device.sync().map_err(|error| error.to_string())?;
        read(loss).map(drop)
    }
}

impl Subject {
    /// The first images of host memory on the device, from 0 to 1. They travel as bytes if the device knows bytes.
    fn images(&self, batch: usize, device: &Device) -> Result<Tensor<4>> {
        let Some(images) = self.images.get(..batch * IMAGE) else {
            return Err(format!("batches go up to {LARGEST_BATCH}"));
        };
        let shape = [batch, 3, 128, 128];
        let images = if device.supports_dtype(DType::U8) {
            Tensor::<4, Int>::from_data(TensorData::new(images.to_vec(), shape), (device, DType::U8)).float()
        } else {
            let images: Vec<f32> = images.iter().map(|&byte| f32::from(byte)).collect();
            Tensor::from_data(TensorData::new(images, shape), device)
        };
        Ok(images / 255.0)
    }
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data().map_err(|error| error.to_string())?;
    data.try_to_vec().map_err(|error| format!("{error:?}"))
}
