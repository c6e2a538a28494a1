//! Policies by name: those inside the binary, and those in folders.

use std::path::Path;

use super::{Pretrained, resolve};
use crate::{Error, Result};

/// Names of the policies inside the binary.
pub const BUILT_IN: &[&str] = &["pursuit"];

/// A file of `weights/pursuit` with its name.
macro_rules! pursuit {
    ($($name:literal),*) => { [$(($name, include_bytes!(concat!("../../weights/pursuit/", $name)).as_slice())),*] };
}

/// The policy that a name means: a built-in one, or a pretrained_model, checkpoint or run folder. Its `notes` say
/// when a folder's averaged weights are taken, or another checkpoint than the last.
///
/// # Errors
/// If there is neither; the sentence says what there is. If a file is missing or damaged.
pub fn resolve_policy(name_or_path: &str) -> Result<Pretrained> {
    if name_or_path == "pursuit" && !Path::new(name_or_path).join("config.json").exists() {
        let files = pursuit![
            "config.json",
            "model.safetensors",
            "policy_preprocessor.json",
            "policy_preprocessor_step_3_normalizer_processor.safetensors",
            "policy_postprocessor.json",
            "policy_postprocessor_step_0_unnormalizer_processor.safetensors",
            "train_config.json"
        ];
        return Pretrained::from_bytes("built-in policy pursuit", &files);
    }
    let found = resolve(name_or_path).map_err(|e| {
        Error::input(format!("unknown policy `{name_or_path}`: built in are {}; {e}", BUILT_IN.join(", ")))
    })?;
    let mut pretrained = Pretrained::load(&found.folder)?;
    if found.averaged {
        pretrained.notes.push(format!("taking the averaged weights in {}", found.folder.display()));
    }
    pretrained.notes.extend(found.warning);
    Ok(pretrained)
}
