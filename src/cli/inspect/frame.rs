//! One frame of a dataset as training sees it before normalisation, in a safetensors file.

use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};

use crate::cli::common::write_file;
use crate::data::{Dataset, Padding, Windows};
use crate::{Error, Result};

/// Writes the frame: each camera by its key as U8 [3, H, W], each vector as F32 [D], `action` as F32 [N, A] where the
/// chunk of N steps goes on with the episode's last action, `action_is_pad` as U8 [N], `task_index` as I64 [1].
///
/// # Errors
/// If there is no such frame, one of its pictures is broken, or the disk refuses.
pub fn write(dataset: &Dataset, frame: usize, chunk_size: usize, file: &Path) -> Result<()> {
    if frame >= dataset.len() {
        return Err(Error::input(format!(
            "--frame {frame}: {} has frames 0 to {}",
            dataset.roots[0].display(),
            dataset.len() - 1
        )));
    }
    if !(1..=1 << 20).contains(&chunk_size) {
        return Err(Error::input("--chunk-size must be 1 or more"));
    }
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for key in dataset.cameras() {
        let image = dataset.image(key, frame)?;
        tensors.push((key.into(), Dtype::U8, vec![3, image.height, image.width], image.planar()));
    }
    for key in dataset.vector_keys() {
        let (width, values) = dataset.vectors(key)?;
        let row = &values[frame * width..][..width];
        match key {
            "task_index" => {
                let task = row.iter().flat_map(|&task| (task as i64).to_le_bytes()).collect();
                tensors.push((key.into(), Dtype::I64, vec![width], task));
            }
            "action" => {
                let windows = Windows::new(1, chunk_size);
                let (mut chunk, mut is_pad) = (vec![0.0; chunk_size * width], vec![false; chunk_size]);
                let episode = dataset.episode_range(frame);
                windows.fill_chunk(values, &episode, frame, Padding::Hold, &mut chunk, &mut is_pad);
                tensors.push((key.into(), Dtype::F32, vec![chunk_size, width], bytes(&chunk)));
                let is_pad = is_pad.into_iter().map(u8::from).collect();
                tensors.push(("action_is_pad".into(), Dtype::U8, vec![chunk_size], is_pad));
            }
            _ => tensors.push((key.into(), Dtype::F32, vec![width], bytes(row))),
        }
    }
    let failed = |e| Error::failure(format!("cannot lay out {}: {e}", file.display()));
    let views = (tensors.iter())
        .map(|(name, dtype, shape, data)| Ok((name, TensorView::new(*dtype, shape.clone(), data)?)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(failed)?;
    write_file(file, &safetensors::serialize(views, None).map_err(failed)?)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
