//! `flowgpu import weights`: a vision transformer of torchvision, timm or Hugging Face under our names.

use std::path::{Path, PathBuf};

use crate::cli::common::note;
use crate::graph::ops::ChannelScale;
use crate::policy::{Backbone, backbone, tensors::to_safetensors};
use crate::{Error, Result};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is safetensors (f32, f16 or bf16) with the names of torchvision (vit_b_16), timm (vit_base_patch16_224) or
Hugging Face's ViTModel; which of them is found out. Heads and poolers are left out. The result is f32, named
model.vision_encoder.vit_encoder.* as in a checkpoint. `train --vision-weights` takes either.")]
pub struct Args {
    /// The weights
    file: PathBuf,
    /// The file to write
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Size of the policy's pictures, which position embeddings are interpolated for [default: as trained]
    #[arg(long, num_args = 2, value_names = ["HEIGHT", "WIDTH"])]
    image_size: Option<Vec<usize>>,
    /// Mean that was subtracted from pixels in [0, 1] in training, if not ImageNet's: as 0.5,0.5,0.5
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "image_std")]
    image_mean: Option<Vec<f64>>,
    /// Standard deviation that they were divided by
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', requires = "image_mean")]
    image_std: Option<Vec<f64>>,
}

/// Imports the weights.
///
/// # Errors
/// If the file is no such network, a size does not fit, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    let mut found = Backbone::read(&args.file)?;
    if let (Some(mean), Some(std)) = (&args.image_mean, &args.image_std) {
        let (mean, std) = (colours("--image-mean", mean)?, colours("--image-std", std)?);
        found = found.trained_on(ChannelScale { mean, std })?;
    }
    let (sizes, trained) = (found.sizes(), found.grid());
    note(format!("{} names, {sizes}, a grid of {} x {}", found.library(), trained[0], trained[1]));
    let grid = match args.image_size.as_deref() {
        Some(&[height, width]) => patches([height, width], sizes.patch_size)?,
        _ => trained,
    };
    let tensors = found.tensors(&sizes, grid)?;
    let count: usize = tensors.values().map(|tensor| tensor.values.len()).sum();
    let views = tensors.iter().map(|(name, tensor)| (name.clone(), &tensor.shape[..], &tensor.values[..]));
    let bytes = to_safetensors(views)?;
    replace(&args.out, |part| {
        std::fs::write(part, bytes)
            .map_err(|e| Error::failure(format!("cannot write {}: {e}", part.display())))
    })?;
    note(format!("{count} parameters under {}*", backbone::PREFIX));
    println!("{}", args.out.display());
    Ok(())
}

/// Rows and columns of the patches of a picture.
fn patches(size: [usize; 2], patch: usize) -> Result<[usize; 2]> {
    match size.iter().find(|&&side| side == 0 || side % patch != 0) {
        Some(side) => Err(Error::input(format!(
            "--image-size {} {}: {side} is no multiple of the patches' side, {patch}",
            size[0], size[1]
        ))),
        None => Ok(size.map(|side| side / patch)),
    }
}

fn colours(flag: &str, values: &[f64]) -> Result<[f64; 3]> {
    let three = values.try_into();
    three.map_err(|_| Error::input(format!("{flag} takes three numbers, red first, as 0.5,0.5,0.5")))
}

/// Writes beside a file and puts the whole into its place, so that there is never a half.
fn replace(file: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let done = write(&part).and_then(|()| {
        std::fs::rename(&part, file)
            .map_err(|e| Error::failure(format!("cannot write {}: {e}", file.display())))
    });
    if done.is_err() {
        // What is left of it helps nobody; the error that counts is the first.
        let _ = std::fs::remove_file(&part);
    }
    done
}
