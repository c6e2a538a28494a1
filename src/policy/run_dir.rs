//! A training run's folder, LeRobot's tree, and the way to a policy in it.
//!
//! ```text
//! outputs/train/<name>/
//!   run.lock                                 locked while a training writes here
//!   metrics.jsonl  tensorboard/              how it went
//!   checkpoints/<step, six digits or more>/
//!     pretrained_model/  pretrained_model_ema/  training_state/  manifest.json
//!   checkpoints/last -> <step>               a text file, last.txt, where there are no links
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::manifest::{self, FolderWriter, beside, cannot, create_folders, parent, sync_folder};
use crate::{Error, Result};

const LOCK: &str = "run.lock";
const CHECKPOINTS: &str = "checkpoints";

/// The folder of raw weights in a checkpoint.
pub const PRETRAINED: &str = "pretrained_model";
/// The folder of averaged weights in a checkpoint.
pub const PRETRAINED_EMA: &str = "pretrained_model_ema";
/// The folder of what a training needs to go on.
pub const TRAINING_STATE: &str = "training_state";

/// A run's folder, held by this process alone until dropped.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    _lock: File,
}

/// A checkpoint found, and what a user should be told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folder.
    pub folder: PathBuf,
    /// Why it is not the one `last` names.
    pub warning: Option<String>,
}

/// Takes a file's lock. On a busy machine that of a process which has just ended may outlive it for a moment.
fn patiently(file: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            done => return done,
        }
    }
    file.try_lock()
}

impl RunDir {
    /// Where a run of that name lies unless the user says otherwise.
    pub fn path_of(name: &str) -> PathBuf {
        ["outputs", "train", name].iter().collect()
    }

    /// Takes an empty folder, or a new one.
    ///
    /// # Errors
    /// If something is in it, another process trains there, or it cannot be written.
    pub fn create(root: impl Into<PathBuf>) -> Result<Self> {
        let run = Self::lock(root.into())?;
        let refused = |e: io::Error| cannot("read", &run.root, &e);
        for entry in fs::read_dir(&run.root).map_err(refused)? {
            if entry.map_err(refused)?.file_name() != LOCK {
                return Err(Error::input(format!(
                    "{} is not empty: continue it with --resume, or choose another --output-dir",
                    run.root.display()
                )));
            }
        }
        Ok(run)
    }

    /// Takes the folder of an earlier run, and clears away what an interrupted save left there.
    ///
    /// # Errors
    /// If there are no checkpoints, another process trains there, or it cannot be written.
    pub fn resume(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        if !root.join(CHECKPOINTS).is_dir() {
            return Err(Error::input(format!(
                "{} holds no {CHECKPOINTS}: nothing to resume",
                root.display()
            )));
        }
        let run = Self::lock(root)?;
        for entry in fs::read_dir(run.checkpoints()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let mut parts = name.to_str().unwrap_or_default().splitn(2, ".tmp-");
            if parts.next().is_some_and(is_step) && parts.next().is_some_and(is_step) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(run)
    }

    fn lock(root: PathBuf) -> Result<Self> {
        let path = root.join(LOCK);
        let refused = |e: io::Error| cannot("write", &path, &e);
        create_folders(&root).map_err(|e| cannot("create", &root, &e))?;
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(refused)?;
        match patiently(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = (&file).take(32).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "another process" } else { holder.trim() };
                return Err(Error::input(format!(
                    "{} is being trained in by {holder}: wait for it, or choose another --output-dir",
                    root.display()
                )));
            }
            // Some network file systems know no locks; nothing can be promised there.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(e)) => return Err(cannot("lock", &path, &e)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| writeln!(file, "process {}", std::process::id())).map_err(refused)?;
        Ok(Self { root, _lock: file })
    }

    /// The run's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of its checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join(CHECKPOINTS)
    }

    /// The folder of one checkpoint.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("{step:06}"))
    }

    /// Saves a checkpoint: `write` fills it, then it gets its name, then `last` points at it.
    ///
    /// # Errors
    /// What `write` says, or the disk; earlier checkpoints and `last` are left as they were.
    pub fn save(&self, step: u64, write: impl FnOnce(&mut FolderWriter) -> Result<()>) -> Result<PathBuf> {
        let folder = self.checkpoint(step);
        let mut writer = FolderWriter::create(&folder)?;
        write(&mut writer)?;
        writer.commit()?;
        point_at(&folder, "last").map_err(|e| cannot("point `last` at", &folder, &e))?;
        Ok(folder)
    }

    /// Points `best` at a checkpoint that was saved.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn mark_best(&self, step: u64) -> Result<()> {
        let folder = self.checkpoint(step);
        point_at(&folder, "best").map_err(|e| cannot("point `best` at", &folder, &e))
    }

    /// The checkpoint to resume from: `last`, or the newest whole one if that is damaged.
    ///
    /// # Errors
    /// If no checkpoint is whole.
    pub fn last(&self) -> Result<Found> {
        newest(&self.checkpoints(), |step| manifest::verify(step).map(|_| ()))
    }
}

/// A pretrained_model folder found by [`resolve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The folder, for [`Pretrained::load`](super::Pretrained::load).
    pub folder: PathBuf,
    /// Whether it holds averaged weights. Say so.
    pub averaged: bool,
    /// Why it is not the checkpoint `last` names.
    pub warning: Option<String>,
}

/// Finds the policy that `path` means: a pretrained_model folder itself, a checkpoint, or a run (then `last`).
/// The averaged weights of a checkpoint are taken where it has some.
///
/// # Errors
/// Says what was looked for.
pub fn resolve(path: impl AsRef<Path>) -> Result<Resolved> {
    let path = path.as_ref();
    let resolved = |folder: PathBuf, warning| {
        let averaged = folder.file_name().is_some_and(|name| name == PRETRAINED_EMA);
        Resolved { folder, averaged, warning }
    };
    if path.join("config.json").is_file() {
        return Ok(resolved(path.to_path_buf(), None));
    }
    if let Some(folder) = policy_in(path) {
        return Ok(resolved(folder, None));
    }
    if path.join(CHECKPOINTS).is_dir() {
        let policy = |step: &Path| {
            policy_in(step).ok_or_else(|| Error::input(format!("{} holds no {PRETRAINED}", step.display())))
        };
        let found = newest(&path.join(CHECKPOINTS), |step| manifest::verify(&policy(step)?).map(|_| ()))?;
        return Ok(resolved(policy(&found.folder)?, found.warning));
    }
    let what = if path.is_dir() { "holds no policy" } else { "is no folder" };
    Err(Error::input(format!(
        "{} {what}: looked for config.json (a pretrained_model folder), \
         {PRETRAINED}/config.json (a checkpoint) and {CHECKPOINTS}/last (a run)",
        path.display()
    )))
}

fn policy_in(step: &Path) -> Option<PathBuf> {
    let folders = [PRETRAINED_EMA, PRETRAINED].map(|name| step.join(name));
    folders.into_iter().find(|folder| folder.join("config.json").is_file())
}

/// The checkpoint that `last` names, if it is good, or else the newest that has a manifest and is good.
fn newest(checkpoints: &Path, good: impl Fn(&Path) -> Result<()>) -> Result<Found> {
    let problem = match read_last(checkpoints) {
        Some(folder) => match good(&folder) {
            Ok(()) => return Ok(Found { folder, warning: None }),
            Err(e) => e.to_string(),
        },
        None => format!("{} names no checkpoint", checkpoints.join("last").display()),
    };
    let mut steps: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(checkpoints).into_iter().flatten().flatten() {
        if let Some(Ok(step)) = entry.file_name().to_str().filter(|name| is_step(name)).map(str::parse) {
            steps.push((step, entry.path()));
        }
    }
    steps.sort();
    let whole = |step: &&(u64, PathBuf)| step.1.join(manifest::MANIFEST).is_file() && good(&step.1).is_ok();
    match steps.iter().rev().find(whole) {
        Some((_, folder)) => {
            let warning = format!("{problem}; taking {} instead", folder.display());
            Ok(Found { folder: folder.clone(), warning: Some(warning) })
        }
        None => Err(Error::input(format!(
            "{problem}, and {} has no other whole checkpoint: name a folder in it to load that one as it is",
            checkpoints.display()
        ))),
    }
}

fn is_step(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// The checkpoint that `last` names, if it is there.
fn read_last(checkpoints: &Path) -> Option<PathBuf> {
    let step = match fs::read_link(checkpoints.join("last")) {
        Ok(target) => target,
        Err(_) => PathBuf::from(fs::read_to_string(checkpoints.join("last.txt")).ok()?.trim()),
    };
    let name = step.file_name()?.to_str().filter(|name| is_step(name))?;
    Some(checkpoints.join(name)).filter(|folder| folder.is_dir())
}

/// Makes a link, `last` say, next to the checkpoint, name it: never half, never missing.
fn point_at(checkpoint: &Path, link: &str) -> io::Result<()> {
    let (checkpoints, step) = (parent(checkpoint), checkpoint.file_name().unwrap_or_default());
    let temporary = beside(&checkpoints.join(link), "tmp");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    match symlink(Path::new(step), &temporary) {
        Ok(()) => fs::rename(&temporary, checkpoints.join(link))?,
        // Windows and some file systems have no links that everybody may make.
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) => {
            let mut file = File::create(&temporary)?;
            file.write_all(step.as_encoded_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, checkpoints.join(format!("{link}.txt")))?;
        }
        Err(e) => return Err(e),
    }
    sync_folder(checkpoints)
}

#[cfg(unix)]
use std::os::unix::fs::symlink;

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
