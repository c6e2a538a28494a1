//! Which tensors a golden file may hold, and their shapes: checked before anything is computed.

use std::collections::BTreeMap;

use super::golden::Golden;
use crate::graph::Params;
use crate::policy::{Feature, FeatureType};
use crate::{Error, Result};

impl Golden {
    /// Checks every tensor's name and shape.
    ///
    /// # Errors
    /// Names the first tensor that is missing, of another shape, or of no use.
    pub(super) fn check(&self, params: &Params) -> Result<()> {
        for (_, param) in params.iter() {
            self.shape(&format!("param/{}", param.name))?;
        }
        let (dims, steps) = (self.config.network_action_dim(), self.config.chunk_size);
        let observed: BTreeMap<String, &Feature> =
            self.config.input_features.iter().map(|(key, feature)| (format!("obs/{key}"), feature)).collect();
        let (mut batch, mut missing) = (0, 0);
        for (name, feature) in &observed {
            match self.shape(name) {
                Ok(shape) => batch = shape.first().copied().unwrap_or(0),
                Err(_) if feature.kind == FeatureType::Visual && missing < self.config.empty_cameras() => {
                    missing += 1;
                }
                Err(e) => return Err(e),
            }
        }
        let frames = |feature: &Feature| {
            let mut frames = vec![batch];
            frames.extend(Some(self.config.n_obs_steps).filter(|&frames| frames > 1));
            match feature.kind {
                FeatureType::Visual => {
                    frames.push(feature.shape[0]);
                    frames.extend(self.config.seen_size(feature));
                }
                _ => frames.extend(&feature.shape),
            }
            frames
        };
        for (name, (shape, _)) in &self.tensors {
            let param = ["param/", "expect/grad/", "expect/param_after/"]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix));
            let wanted = match (name.as_str(), param) {
                (_, Some(param)) => match params.find(param) {
                    Some(id) => params.get(id).shape.clone(),
                    None => return Err(wrong(name, "is of no parameter of this configuration")),
                },
                (name, _) if observed.contains_key(name) => frames(observed[name]),
                ("t", _) if shape.len() == 2 => vec![batch, steps],
                ("t", _) => vec![batch],
                ("action_is_pad", _) => vec![batch, steps],
                ("x_t" | "actions" | "noise" | "sample_noise", _) => vec![batch, steps, dims],
                ("expect/velocity" | "expect/sample", _) => vec![batch, steps, dims],
                ("expect/loss", _) => vec![1],
                ("expect/losses", _) => vec![shape.first().copied().unwrap_or(0)],
                (name, _) if name.starts_with("expect/") || name.starts_with("obs/") => {
                    return Err(wrong(name, "is nothing that a golden file of this configuration has"));
                }
                _ => continue,
            };
            if *shape != wanted || wanted.contains(&0) {
                return Err(wrong(name, &format!("has shape {shape:?}, not {wanted:?}")));
            }
        }
        Ok(())
    }
}

fn wrong(name: &str, what: &str) -> Error {
    Error::input(format!("tensor `{name}` {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Network;

    #[test]
    fn every_tensor_of_another_shape_or_name_is_an_error_that_names_it() {
        let golden =
            Golden::parse(include_bytes!("../../tests/golden/masked.safetensors")).expect("a golden");
        let params = Network::new(&golden.config).1;
        golden.check(&params).expect("it is well formed");
        for name in golden.tensors.keys() {
            let mut other = golden.clone();
            other.tensors.insert(name.clone(), (vec![7, 7, 7], vec![0.0; 343]));
            let error = other.check(&params).expect_err(name);
            // Another batch of images makes all other tensors wrong.
            assert!(error.to_string().contains(name) || name.starts_with("obs/"), "{name}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
        for name in ["expect/velocities", "expect/grad/head.weight", "param/head.weight", "obs/state"] {
            let mut other = golden.clone();
            other.tensors.insert(name.to_owned(), (vec![1], vec![0.0]));
            assert!(other.check(&params).is_err_and(|e| e.to_string().contains(name)), "{name}");
        }
        let mut other = golden;
        other.tensors.remove("param/pos_embed");
        assert!(other.check(&params).is_err_and(|e| e.to_string().contains("param/pos_embed")));
    }
}
