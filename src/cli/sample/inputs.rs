//! What a chunk is sampled from: an environment's first frame, a dataset's frame, or a file.

use std::fs;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::cli::common::note;
use crate::data::{Dataset, Windows};
use crate::eval::check_fit;
use crate::policy::tensors::Tensors;
use crate::policy::{FeatureType, Images, Kept, Observations, Pixels, Policy, join_states};
use crate::sim::{self, Observation};
use crate::{Error, Result};

/// Slack of pictures around [0, 1], for those that were resized.
const SLACK: f32 = 1e-3;

/// Observations of a batch.
pub struct Inputs {
    /// B.
    pub batch: usize,
    /// T time steps of each.
    pub seen: Kept,
    /// What to call the components of an action; none where nobody says.
    pub names: Vec<String>,
    /// What the task's expert does, in the robot's units; nothing where there is none to ask.
    pub expert: Vec<f64>,
}

/// What an environment shows at the start of the episode of `seed`.
///
/// # Errors
/// If there is no such environment, or the policy is not for it.
pub fn from_environment(policy: &Policy, name: &str, seed: u64) -> Result<Inputs> {
    let hint = |e: Error| {
        Error::input(format!(
            "{e}; name its environment with --env, or give it something to see with --dataset-root or --observations"
        ))
    };
    let mut environment = sim::make(name).map_err(hint)?;
    let spec = environment.spec();
    check_fit(spec, policy).map_err(hint)?;
    environment.reset(seed);
    let mut observation = Observation::default();
    environment.observe(&mut observation);
    let config = policy.config();
    let state: Vec<f32> = config.states().flat_map(|(key, _)| observation.vector(key)).copied().collect();
    let images = config.images().map(|(key, _)| Images::Bytes(observation.picture(key))).collect();
    let step = Observations { images, state: &state };
    let names = spec.action.names.iter().map(|&name| name.to_owned()).collect();
    let expert = environment.expert_action();
    Ok(Inputs { batch: 1, seen: Kept::repeated(&step, config.n_obs_steps), names, expert })
}

/// What was seen at a frame of a dataset, and before.
///
/// # Errors
/// If the dataset cannot be read, has no such frame, or lacks what the policy sees.
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
    let windows = Windows::new(config.n_obs_steps, config.chunk_size);
    let mut images = vec![Pixels::Bytes(Vec::new()); config.images().count()];
    let mut state = Vec::new();
    let read = config.cameras_to_read(|key| dataset.info.features.get(key).is_some());
    for frame in windows.observation(&dataset.episode_range(frame), frame) {
        let cameras = config.images().zip(&mut images).zip(&read).filter(|(_, read)| **read);
        for (((key, feature), images), _) in cameras {
            let place = || format!("{}: `{key}` of frame {frame}", root.display());
            let image = dataset.image(key, frame)?;
            let found = [3, image.height, image.width];
            if found != feature.shape.as_slice() {
                return Err(Error::input(format!(
                    "{} has shape {found:?}, the policy sees {:?}",
                    place(),
                    feature.shape
                )));
            }
            images.append(Images::Bytes(&image.planar()))?;
        }
        for (key, feature) in config.states() {
            let (width, values) = dataset.vectors(key)?;
            if width != feature.shape[0] {
                return Err(Error::input(format!(
                    "{}: `{key}` has {width} values, the policy sees {}",
                    root.display(),
                    feature.shape[0]
                )));
            }
            state.extend_from_slice(&values[frame * width..][..width]);
        }
    }
    Ok(Inputs { batch: 1, seen: Kept { images, state }, names: Vec::new(), expert: Vec::new() })
}

/// A safetensors file: for each input feature `<key>`, [B, ..] of the feature's shape, or [B, T, ..] for a policy that
/// sees T time steps; pictures as U8 or as F32 in [0, 1], vectors as F32. One time step stands for all T. Cameras that
/// the policy can do without may be missing.
///
/// # Errors
/// Names the file and the key that is missing, of another shape or type, or out of range.
pub fn from_file(policy: &Policy, file: &Path) -> Result<Inputs> {
    let wrong = |what: String| Error::input(what).at(file.display());
    let bytes = read(file)?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|e| wrong(format!("damaged, or no safetensors file ({e}): save it again")))?;
    let config = policy.config();
    let known = |name: &&str| config.input_features.iter().any(|(key, _)| key == name);
    if let Some(other) = tensors.names().into_iter().find(|name| !known(name)) {
        note(format!("{}: tensor `{other}` is ignored: the policy does not see it", file.display()));
    }
    let frames = config.n_obs_steps;
    let mut batch = None;
    let mut images = Vec::new();
    let mut states = Vec::new();
    let mut read = config.cameras_to_read(|key| tensors.tensor(key).is_ok()).into_iter();
    for (key, feature) in &config.input_features {
        if feature.kind == FeatureType::Visual && read.next() == Some(false) {
            images.push(Pixels::Bytes(Vec::new()));
            continue;
        }
        let tensor =
            Batched::find(&tensors, key, &feature.shape, frames).map_err(|e| e.at(file.display()))?;
        if *batch.get_or_insert(tensor.batch) != tensor.batch {
            return Err(wrong(format!("tensor `{key}` holds {} samples, others do not", tensor.batch)));
        }
        match feature.kind {
            FeatureType::Visual => images.push(tensor.pixels(key).map_err(|e| e.at(file.display()))?),
            _ => states.push((tensor.floats(key).map_err(|e| e.at(file.display()))?, feature.shape[0])),
        }
    }
    let batch = batch.unwrap_or(0);
    let parts: Vec<_> = states.iter().map(|(values, width)| (values.as_slice(), *width)).collect();
    let state = join_states(&parts);
    Ok(Inputs { batch, seen: Kept { images, state }, names: Vec::new(), expert: Vec::new() })
}

/// A tensor of B samples.
struct Batched<'a> {
    batch: usize,
    /// How often a sample's values are repeated to make T time steps.
    repeat: usize,
    dtype: Dtype,
    data: &'a [u8],
}

impl<'a> Batched<'a> {
    fn find(tensors: &SafeTensors<'a>, key: &str, shape: &[usize], frames: usize) -> Result<Self> {
        let dims = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let wanted = match frames {
            1 => format!("[B, {dims}]"),
            _ => format!("[B, {frames}, {dims}] or [B, {dims}]"),
        };
        let tensor = tensors
            .tensor(key)
            .map_err(|_| Error::input(format!("tensor `{key}` is missing: the policy sees it, {wanted}")))?;
        let repeat = match tensor.shape() {
            [batch, rest @ ..] if *batch > 0 && rest == shape => frames,
            [batch, t, rest @ ..] if *batch > 0 && *t == frames && rest == shape => 1,
            found => {
                return Err(Error::input(format!(
                    "tensor `{key}` has shape {found:?}, the policy sees {wanted}"
                )));
            }
        };
        Ok(Self { batch: tensor.shape()[0], repeat, dtype: tensor.dtype(), data: tensor.data() })
    }

    /// Each sample's values, as often as there are time steps without their own.
    fn repeated<T: Copy>(&self, values: Vec<T>) -> Vec<T> {
        values.chunks(values.len() / self.batch).flat_map(|sample| sample.repeat(self.repeat)).collect()
    }

    fn floats(&self, key: &str) -> Result<Vec<f32>> {
        if self.dtype != Dtype::F32 {
            return Err(Error::input(format!("tensor `{key}` is {:?}: save it as F32", self.dtype)));
        }
        let values: Vec<f32> = self.data.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect();
        Ok(self.repeated(values))
    }

    fn pixels(&self, key: &str) -> Result<Pixels> {
        if self.dtype == Dtype::U8 {
            return Ok(Pixels::Bytes(self.repeated(self.data.to_vec())));
        }
        let values = self.floats(key).map_err(|_| {
            Error::input(format!("tensor `{key}` is {:?}: save it as U8, or as F32 in [0, 1]", self.dtype))
        })?;
        let inside = |value: &f32| (-SLACK..=1.0 + SLACK).contains(value);
        match values.iter().position(|value| !inside(value)) {
            Some(at) => Err(Error::input(format!(
                "tensor `{key}` holds {} at element {at}: floats lie in [0, 1], bytes in U8",
                values[at]
            ))),
            None => Ok(Pixels::Floats(values)),
        }
    }
}

/// `noise` [B, H, A], normalised, from a safetensors file.
///
/// # Errors
/// Names the file if the tensor is missing, of another shape, or not finite.
pub fn noise_from_file(policy: &Policy, file: &Path, batch: usize) -> Result<Vec<f32>> {
    let shape = [batch, policy.config().chunk_size, policy.config().network_action_dim()];
    Tensors::parse(&read(file)?, file.display().to_string())?.take("noise", &shape)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).map_err(|e| Error::input(format!("cannot read {}: {e}", file.display())))
}
