//! Where a dataset lies: LeRobot's local cache, or a copy of what the Hugging Face Hub has.
//!
//! `owner/name` is looked for in `$HF_LEROBOT_HOME/owner/name`, where LeRobot records. What is there is used as it is.
//! Otherwise the Hub is asked, and what it has is kept in `$HF_LEROBOT_HOME/hub`, as LeRobot keeps it.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where datasets are looked for.
#[derive(Debug, Clone)]
pub struct Places {
    /// LeRobot's folder of datasets.
    pub home: PathBuf,
    /// The Hub's address.
    pub endpoint: String,
    /// What lets private datasets be read.
    pub token: Option<String>,
    /// Never asks the Hub.
    pub offline: bool,
}

impl Places {
    /// Reads `HF_LEROBOT_HOME`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (or the token that a
    /// login left in `HF_TOKEN_PATH` or `HF_HOME`) and `HF_HUB_OFFLINE`, as LeRobot and `huggingface_hub` do.
    ///
    /// # Errors
    /// If there is no home folder and no variable that names one.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = || {
            let cache = || folder("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
            folder("HF_HOME").or_else(|| Some(cache()?.join("huggingface")))
        };
        let home = folder("HF_LEROBOT_HOME").or_else(|| Some(cache()?.join("lerobot"))).ok_or_else(|| {
            Error::input("there is no home folder: name LeRobot's folder of datasets in HF_LEROBOT_HOME")
        })?;
        // Where `huggingface-cli login` leaves a token.
        let logged_in = || {
            let file = folder("HF_TOKEN_PATH").or_else(|| Some(cache()?.join("token")))?;
            std::fs::read_to_string(file).ok().filter(|token| !token.trim().is_empty())
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_lowercase().as_str());
        Ok(Self {
            home: std::path::absolute(&home).unwrap_or(home),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN").or_else(logged_in).map(|token| token.trim().to_owned()),
            offline: set("HF_HUB_OFFLINE").is_some_and(on),
        })
    }

    /// The folder of dataset `owner/name`. A download says in `progress` how far it is, a line each.
    ///
    /// # Errors
    /// If the name is none, no dataset of it is on this machine and the Hub has none either, cannot be reached, or
    /// must not be asked.
    pub fn locate(&self, repo_id: &str, progress: &mut dyn FnMut(String)) -> Result<PathBuf> {
        check_name(repo_id)?;
        let local = self.home.join(repo_id);
        if local.join("meta/info.json").is_file() {
            return Ok(local);
        }
        self.ask_hub(repo_id, progress).map_err(|e| {
            let looked = format!("dataset `{repo_id}` is not in {}", self.home.display());
            e.at(looked)
        })
    }

    #[cfg(feature = "hub")]
    fn ask_hub(&self, repo_id: &str, progress: &mut dyn FnMut(String)) -> Result<PathBuf> {
        super::hub::fetch(self, repo_id, progress)
    }

    #[cfg(not(feature = "hub"))]
    fn ask_hub(&self, _: &str, _: &mut dyn FnMut(String)) -> Result<PathBuf> {
        Err(Error::input("this build cannot ask the Hub: build it with the feature `hub`"))
    }
}

/// The folder of a dataset, named as a folder or, where there is none, as `owner/name`.
///
/// # Errors
/// As of [`Places::locate`].
pub fn locate(dataset: &str, progress: &mut dyn FnMut(String)) -> Result<PathBuf> {
    let folder = Path::new(dataset);
    if folder.is_dir() {
        return Ok(folder.to_path_buf());
    }
    Places::from_env()?.locate(dataset, progress)
}

/// A name is not a way out of a folder.
fn check_name(repo_id: &str) -> Result<()> {
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.') && !part.contains("..")
    };
    let parts = repo_id.split('/').count();
    if parts > 2 || !repo_id.split('/').all(plain) {
        return Err(Error::input(format!(
            "{repo_id:?} is neither a folder nor a dataset's name on the Hub, as owner/name"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_no_paths() {
        for good in ["lerobot/pusht", "pusht", "me/so-100_v1.2"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b/c", "../x", "a/..", "/a", "a/", "a\\b", "a b", ".hidden/x"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
