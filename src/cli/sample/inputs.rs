//! What a chunk is sampled from: an environment's first frame, a dataset's frame, or a file.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::cli::common::note;
use crate::data::{Dataset, Windows};
use crate::eval::check_fit;
use crate::image::Image;
use crate::policy::tensors::Tensors;
use crate::policy::{Config, Images, Pixels, Policy};
use crate::sim::{self, Observation};
use crate::{Error, Result};

/// Slack of pictures around [0, 1], for those that were resized.
const SLACK: f32 = 1e-3;

/// Observations of a batch.
pub struct Inputs {
    /// B.
    pub batch: usize,
    /// [B, T, 3, H, W].
    pub images: Pixels,
    /// What to call the components of an action; none where nobody says.
    pub names: Vec<String>,
}

/// What an environment shows at the start of the episode of `seed`.
///
/// # Errors
/// If the policy is not for that environment.
pub fn from_environment(policy: &Policy, seed: u64) -> Result<Inputs> {
    let mut environment = sim::make("pursuit")?;
    let spec = environment.spec();
    check_fit(spec, policy).map_err(|e| {
        Error::input(format!("{e}; give the policy something to see with --dataset-root or --observations"))
    })?;
    environment.reset(seed);
    let mut observation = Observation::default();
    environment.observe(&mut observation);
    let images = Pixels::repeated(Images::Bytes(&observation.image), policy.config().n_obs_steps);
    Ok(Inputs { batch: 1, images, names: spec.action.names.iter().map(|&name| name.to_owned()).collect() })
}

/// What was seen at a frame of a dataset, and before.
///
/// # Errors
/// If the dataset cannot be read, has no such frame, or no such camera.
pub fn from_dataset(policy: &Policy, root: &Path, frame: usize) -> Result<Inputs> {
    let dataset = Dataset::open(root)?;
    dataset.warnings.iter().for_each(note);
    if frame >= dataset.len() {
        return Err(Error::input(format!(
            "--frame {frame}: {} has frames 0 to {}",
            root.display(),
            dataset.len() - 1
        )));
    }
    let config = policy.config();
    let (key, shape) = camera(config)?;
    let windows = Windows::new(config.n_obs_steps, config.chunk_size);
    let mut images = Pixels::Bytes(Vec::new());
    for frame in windows.observation(&dataset.episode_range(frame), frame) {
        let place = || format!("{}: `{key}` of frame {frame}", root.display());
        let image = Image::from_png(dataset.picture(key, frame)?).map_err(|e| e.at(place()))?;
        let found = [3, image.height, image.width];
        if found != shape {
            return Err(Error::input(format!("{} has shape {found:?}, the policy sees {shape:?}", place())));
        }
        images.append(Images::Bytes(&image.planar()))?;
    }
    Ok(Inputs { batch: 1, images, names: Vec::new() })
}

/// A safetensors file: `<feature>` [B, 3, H, W], or [B, T, 3, H, W] for a policy that sees T frames, as U8 or as F32
/// in [0, 1]. One frame stands for all T.
///
/// # Errors
/// Names the file and the key that is missing, of another shape or type, or out of range.
pub fn from_file(policy: &Policy, file: &Path) -> Result<Inputs> {
    let wrong = |what: String| Error::input(what).at(file.display());
    let bytes = read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| wrong(format!("damaged, or no safetensors file ({e}): save it again")))?;
    let config = policy.config();
    let (key, [c, h, w]) = camera(config)?;
    let frames = config.n_obs_steps;
    let wanted = match frames {
        1 => format!("[B, {c}, {h}, {w}]"),
        _ => format!("[B, {frames}, {c}, {h}, {w}] or [B, {c}, {h}, {w}]"),
    };
    if let Some(other) = tensors.names().into_iter().find(|name| *name != key) {
        note(format!("{}: tensor `{other}` is ignored: the policy sees `{key}`", file.display()));
    }
    let tensor = tensors.tensor(key).map_err(|_| {
        wrong(format!("tensor `{key}` is missing: the policy sees it, {wanted}, U8 or F32 in [0, 1]"))
    })?;
    let repeat = match *tensor.shape() {
        [batch, a, b, d] if batch > 0 && [a, b, d] == [c, h, w] => frames,
        [batch, t, a, b, d] if batch > 0 && t == frames && [a, b, d] == [c, h, w] => 1,
        _ => {
            return Err(wrong(format!(
                "tensor `{key}` has shape {:?}, the policy sees {wanted}",
                tensor.shape()
            )));
        }
    };
    let batch = tensor.shape()[0];
    let values = match tensor.dtype() {
        Dtype::U8 => Pixels::Bytes(tensor.data().to_vec()),
        Dtype::F32 => {
            let values: Vec<f32> =
                tensor.data().as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect();
            let inside = |value: &f32| (-SLACK..=1.0 + SLACK).contains(value);
            if let Some(at) = values.iter().position(|value| !inside(value)) {
                let bad = values[at];
                return Err(wrong(format!(
                    "tensor `{key}` holds {bad} at element {at}: floats lie in [0, 1], bytes in U8"
                )));
            }
            Pixels::Floats(values)
        }
        other => {
            return Err(wrong(format!("tensor `{key}` is {other:?}: save it as U8, or as F32 in [0, 1]")));
        }
    };
    Ok(Inputs { batch, images: each_repeated(&values, batch, repeat)?, names: Vec::new() })
}

/// `noise` [B, H, A], normalised, from a safetensors file.
///
/// # Errors
/// Names the file if the tensor is missing, of another shape, or not finite.
pub fn noise_from_file(policy: &Policy, file: &Path, batch: usize) -> Result<Vec<f32>> {
    let shape = [batch, policy.config().chunk_size, policy.config().action().1];
    Tensors::parse(&read(file)?, file.display().to_string())?.take("noise", &shape)
}

/// Each of `batch` parts repeated.
fn each_repeated(values: &Pixels, batch: usize, times: usize) -> Result<Pixels> {
    let images = values.images();
    let size = images.len() / batch;
    let mut repeated = Pixels::repeated(images.part(0..size), times);
    for i in 1..batch {
        repeated.append(Pixels::repeated(images.part(i * size..(i + 1) * size), times).images())?;
    }
    Ok(repeated)
}

fn camera(config: &Config) -> Result<(&str, [usize; 3])> {
    let camera =
        config.images().next().and_then(|(key, image)| Some((key, image.shape.as_slice().try_into().ok()?)));
    camera.ok_or_else(|| Error::input("the policy sees no camera: sampling needs one"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|e| Error::input(format!("cannot read {}: {e}", file.display())))
}
