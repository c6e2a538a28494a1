//! Policies by name: those inside the binary, and those in folders.

use super::checkpoint::MODEL;
use super::manifest::{sha256, sha256_of_file};
use super::{Pretrained, resolve};
use crate::{Error, Result};

/// Names of the policies inside the binary.
pub const BUILT_IN: &[&str] = &["pursuit", "pendulum"];

/// The files of a policy in `weights/`, each with its name.
macro_rules! files {
    ($policy:literal) => {
        files!(
            $policy, "config.json", "model.safetensors", "policy_preprocessor.json",
            "policy_preprocessor_step_3_normalizer_processor.safetensors", "policy_postprocessor.json",
            "policy_postprocessor_step_0_unnormalizer_processor.safetensors", "train_config.json"
        )
    };
    ($policy:literal, $($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../../weights/", $policy, "/", $name)).as_slice())),*]
    };
}

/// The files of a built-in policy; none for another name.
fn built_in(name: &str) -> Option<[(&'static str, &'static [u8]); 7]> {
    match name {
        "pursuit" => Some(files!("pursuit")),
        "pendulum" => Some(files!("pendulum")),
        _ => None,
    }
}

/// The policy that a name means: a built-in one, or a pretrained_model, checkpoint or run folder. A built-in name
/// comes first: `./pursuit` is a folder. Its `notes` say when a folder's averaged weights are taken, or another
/// checkpoint than the last.
///
/// # Errors
/// If there is neither; the sentence says what there is. If a file is missing or damaged.
pub fn resolve_policy(name_or_path: &str) -> Result<Pretrained> {
    if let Some(files) = built_in(name_or_path) {
        return Pretrained::from_bytes(&format!("built-in policy {name_or_path}"), &files);
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

/// The SHA-256 of the weights file of what [`resolve_policy`] finds, as `sha256sum model.safetensors` prints it.
///
/// # Errors
/// As [`resolve_policy`]; if the file cannot be read.
pub fn weights_sha256(name_or_path: &str) -> Result<String> {
    if let Some(files) = built_in(name_or_path) {
        let weights = files.iter().find(|(name, _)| *name == MODEL).map_or(&[][..], |(_, bytes)| bytes);
        return Ok(sha256(weights));
    }
    let path = resolve(name_or_path)?.folder.join(MODEL);
    sha256_of_file(&path).map_err(|e| Error::input(format!("{}: cannot be read: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Network, Parts, presets::preset, save_pretrained};

    #[test]
    fn every_built_in_policy_is_whole() {
        for name in BUILT_IN {
            let mut built_in = resolve_policy(name).expect("embedded");
            let (_, params) = Network::new(&built_in.config);
            built_in.weights(&params).expect("fits its configuration");
            let normalizer = built_in.normalizer().expect("has its statistics");
            assert!(normalizer.bounds().is_some(), "{name} must stay inside its environment's bounds");
            assert!(built_in.notes.is_empty(), "{:?}", built_in.notes);
        }
    }

    #[test]
    fn averaged_weights_are_taken_first_and_said_so() {
        let run = tempfile::tempdir().expect("a folder");
        let config = preset("pursuit").expect("known");
        let (_, params) = Network::new(&config);
        let values: Vec<Vec<f32>> = params.iter().map(|(id, _)| params.initial(id, 0)).collect();
        let stats = resolve_policy("pursuit").expect("embedded").stats;
        let parts =
            Parts { config: &config, params: &params, values: &values, stats: &stats, train_config: None };
        save_pretrained(run.path().join("pretrained_model"), &parts).expect("saved");
        let found = |path: &std::path::Path| resolve_policy(&path.to_string_lossy()).expect("found").notes;
        assert_eq!(found(run.path()), Vec::<String>::new());
        save_pretrained(run.path().join("pretrained_model_ema"), &parts).expect("saved");
        let notes = found(run.path());
        assert!(notes.len() == 1 && notes[0].starts_with("taking the averaged weights in"), "{notes:?}");
        assert_eq!(found(&run.path().join("pretrained_model")), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_name_is_answered_with_what_there_is() {
        let error = resolve_policy("nobody").expect_err("neither name nor folder");
        let told = error.to_string();
        assert!(
            told.starts_with("unknown policy `nobody`: built in are pursuit, pendulum; nobody is no folder"),
            "{told}"
        );
        assert_eq!(error.exit_code(), 2);
    }
}
