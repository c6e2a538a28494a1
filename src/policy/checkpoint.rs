//! A policy on disk: LeRobot's pretrained_model folder.

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::tensors::{Tensors, param_views};
use super::{Config, Folder, FolderWriter, Normalizer, Stats, processor};
use crate::graph::{Param, Params};
use crate::{Error, Result};

const CONFIG: &str = "config.json";
pub(super) const MODEL: &str = "model.safetensors";
const TRAIN_CONFIG: &str = "train_config.json";

/// What a pretrained_model folder is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The policy.
    pub config: &'a Config,
    /// Its parameters' names and shapes.
    pub params: &'a Params,
    /// Their values, in the order of `params`.
    pub values: &'a [Vec<f32>],
    /// The statistics of its dataset, with the action's bounds if there are any.
    pub stats: &'a Stats,
    /// How it was trained.
    pub train_config: Option<&'a Value>,
}

/// Writes a pretrained_model folder by itself, with a manifest of its own. The same parts give the same bytes.
///
/// # Errors
/// If a value is not finite or the disk refuses; nothing is left behind then, and a folder of that name is
/// left as it was.
pub fn save_pretrained(folder: impl AsRef<Path>, parts: &Parts<'_>) -> Result<()> {
    let mut writer = FolderWriter::create(folder.as_ref())?;
    write_pretrained(&mut writer, "", parts)?;
    writer.commit()
}

/// Writes the files of a pretrained_model folder into `folder` (`pretrained_model`, …) of a checkpoint in the
/// making, or with `""` into the writer's own folder.
///
/// # Errors
/// If a value is not finite or the disk refuses.
pub fn write_pretrained(writer: &mut FolderWriter, folder: &str, parts: &Parts<'_>) -> Result<()> {
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let Parts { config, params, values, stats, train_config } = *parts;
    let views = param_views(params, values, "").map_err(|e| e.at(format!("{folder}{MODEL}")))?;
    writer.write_json(&format!("{folder}{CONFIG}"), &config.to_json())?;
    writer.write_tensors(&format!("{folder}{MODEL}"), views)?;
    if let Some(train_config) = train_config {
        writer.write_json(&format!("{folder}{TRAIN_CONFIG}"), train_config)?;
    }
    processor::write(writer, &folder, config, stats)
}

/// A policy as it was saved.
#[derive(Debug, Clone)]
pub struct Pretrained {
    /// What it is.
    pub config: Config,
    /// Its weights, whatever the file holds; [`Self::weights`] checks them.
    pub tensors: Tensors,
    /// The statistics saved with it; none if it came without.
    pub stats: Stats,
    /// How it was trained, if that was saved.
    pub train_config: Option<Value>,
    /// What a user should be told about this folder.
    pub notes: Vec<String>,
}

impl Pretrained {
    /// Loads a pretrained_model folder. What its manifest lists is checked; a folder made by LeRobot has none.
    ///
    /// # Errors
    /// Names the file that is missing, damaged, or of no use.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        Self::read(&Source::Folder(Folder::open(folder.as_ref())?))
    }

    /// The same from a binary's own memory: file names and their bytes. `place` is the folder in errors.
    ///
    /// # Errors
    /// Names the file that is missing, damaged, or of no use.
    pub fn from_bytes(place: &str, files: &[(&str, &[u8])]) -> Result<Self> {
        Self::read(&Source::Memory { place, files })
    }

    fn read(source: &Source<'_>) -> Result<Self> {
        let config = source.read(CONFIG)?.ok_or_else(|| source.missing(CONFIG))?;
        let config = std::str::from_utf8(&config)
            .map_err(|e| Error::input(format!("{} is no text: {e}", source.place(CONFIG))))?;
        // Errors of a configuration begin with its file's name.
        let config = Config::parse(config).map_err(|e| e.at(source.place("").trim_end_matches('/')))?;
        let tensors = source.tensors(MODEL)?;
        let train_config = source.read(TRAIN_CONFIG)?.map(|bytes| serde_json::from_slice(&bytes)).transpose();
        let train_config = train_config
            .map_err(|e| Error::input(format!("{} is no JSON: {e}", source.place(TRAIN_CONFIG))))?;
        let processor::Processors { stats, notes } = processor::read(source, &config)?;
        Ok(Self { config, tensors, stats, train_config, notes })
    }

    /// Checks that the file holds exactly these parameters.
    ///
    /// # Errors
    /// Names the file and the first tensor that is missing, of another shape, or not a parameter.
    pub fn check_against(&self, params: &Params) -> Result<()> {
        self.tensors.check_params(params)
    }

    /// Takes the weights out one after the other, in the order of `params`, without ever holding two of them.
    ///
    /// # Errors
    /// As [`Self::weights`], or if a value cannot be stored as `params` says.
    pub fn each_weight(&mut self, params: &Params, mut each: impl FnMut(&Param, &[f32])) -> Result<()> {
        self.check_against(params)?;
        for (_, param) in params.iter() {
            let values = self.tensors.take(&param.name, &param.shape)?;
            param.check(&values).map_err(|e| e.at(self.tensors.place()))?;
            each(param, &values);
        }
        Ok(())
    }

    /// Takes the weights out, in the order of `params`.
    ///
    /// # Errors
    /// As [`Self::check_against`], or if a value is not finite.
    pub fn weights(&mut self, params: &Params) -> Result<Vec<Vec<f32>>> {
        self.check_against(params)?;
        self.tensors.take_params(params, "")
    }

    /// The environment it was trained for, where that was saved.
    pub fn env(&self) -> Option<String> {
        self.train_config.as_ref()?["env"].as_str().map(str::to_owned)
    }

    /// The contract of the task it was trained for, as it was saved; none where it was not.
    pub fn contract(&self) -> Option<&Value> {
        self.train_config.as_ref()?.get("contract").filter(|contract| !contract.is_null())
    }

    /// What its inputs and actions go through.
    ///
    /// # Errors
    /// If it needs statistics and has none, or has others than it needs.
    pub fn normalizer(&self) -> Result<Normalizer> {
        Normalizer::new(&self.config, &self.stats)
    }
}

/// Where a policy's files come from.
pub(super) enum Source<'a> {
    Folder(Folder),
    Memory { place: &'a str, files: &'a [(&'a str, &'a [u8])] },
}

impl Source<'_> {
    /// Where a file is, for errors.
    pub fn place(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.place(name),
            Self::Memory { place, .. } => format!("{place}/{name}"),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::input(format!("{} is missing: a policy needs it", self.place(name)))
    }

    /// A safetensors file.
    fn tensors(&self, name: &str) -> Result<Tensors> {
        match self {
            Self::Folder(folder) => {
                let file = folder.open_file(name)?.ok_or_else(|| self.missing(name))?;
                Tensors::of_file(file, self.place(name))
            }
            Self::Memory { .. } => {
                Tensors::parse(&self.read(name)?.ok_or_else(|| self.missing(name))?, self.place(name))
            }
        }
    }

    /// A file's bytes, if it is there.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'_, [u8]>>> {
        match self {
            Self::Folder(folder) => Ok(folder.read(name)?.map(Cow::Owned)),
            Self::Memory { files, .. } => {
                Ok(files.iter().find(|(known, _)| *known == name).map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
        }
    }
}
