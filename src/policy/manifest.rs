//! Folders that are whole or not there: written aside, synced, listed with their hashes, renamed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::tensors::{NamedView, Tensors, to_safetensors};
use crate::{Error, Result};

/// The list of a folder's files, written last.
pub const MANIFEST: &str = "manifest.json";

/// A file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Listed {
    /// Its path below the folder, with `/`.
    file: String,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Default, Serialize)]
struct Manifest {
    files: Vec<Listed>,
}

/// A folder in the making. Until [`commit`](Self::commit) its files lie in `<folder>.tmp-<pid>` next to it;
/// dropped without, they are removed.
#[derive(Debug)]
pub struct FolderWriter {
    target: PathBuf,
    temporary: PathBuf,
    manifest: Manifest,
    folders: BTreeSet<PathBuf>,
    committed: bool,
}

impl FolderWriter {
    /// Begins a folder that will replace `target`.
    ///
    /// # Errors
    /// If `target` is there and was not written by a `FolderWriter`, or the disk refuses.
    pub fn create(target: impl Into<PathBuf>) -> Result<Self> {
        let target = target.into();
        if occupied(&target) {
            return Err(Error::input(format!(
                "{} exists and holds no {MANIFEST}, so it is left alone: choose another folder, or remove it",
                target.display()
            )));
        }
        let temporary = beside(&target, "tmp");
        let refused = |e: io::Error| cannot("create", &target, &e);
        create_folders(parent(&target)).map_err(refused)?;
        remove(&temporary).and_then(|()| fs::create_dir(&temporary)).map_err(refused)?;
        let folders = BTreeSet::from([temporary.clone()]);
        Ok(Self { target, temporary, manifest: Manifest::default(), folders, committed: false })
    }

    /// Writes a file and waits until the disk has it. `path` is below the folder, with `/`.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.put(path, bytes)?;
        self.manifest.files.push(Listed {
            file: path.to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256(bytes),
        });
        Ok(())
    }

    /// Writes JSON, indented.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write_json(&mut self, path: &str, value: &Value) -> Result<()> {
        self.write(path, format!("{value:#}\n").as_bytes())
    }

    /// Writes a safetensors file of f32.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write_tensors<'a>(
        &mut self,
        path: &str,
        tensors: impl IntoIterator<Item = NamedView<'a>>,
    ) -> Result<()> {
        let bytes = to_safetensors(tensors).map_err(|e| e.at(self.target.join(path).display()))?;
        self.write(path, &bytes)
    }

    /// Writes the manifest, syncs, and gives the folder its name. An earlier folder of that name is replaced.
    ///
    /// # Errors
    /// Names the folder and the cause; the earlier folder is left as it was.
    pub fn commit(mut self) -> Result<()> {
        let list = serde_json::to_string_pretty(&self.manifest)
            .map_err(|e| Error::failure(format!("{MANIFEST}: {e}")))?;
        self.put(MANIFEST, list.as_bytes())?;
        let refused = |e: io::Error| cannot("save", &self.target, &e);
        self.folders.iter().try_for_each(|folder| sync_folder(folder)).map_err(refused)?;
        let earlier = beside(&self.target, "old");
        if occupied(&self.target) {
            return Err(cannot("save", &self.target, &io::ErrorKind::AlreadyExists.into()));
        }
        let replaces = self.target.exists();
        if replaces {
            remove(&earlier).and_then(|()| fs::rename(&self.target, &earlier)).map_err(refused)?;
        }
        if let Err(e) = fs::rename(&self.temporary, &self.target) {
            if replaces {
                let _ = fs::rename(&earlier, &self.target);
            }
            return Err(refused(e));
        }
        sync_folder(parent(&self.target)).map_err(refused)?;
        self.committed = true;
        // The new folder is safe by now; what is left of the old one does no harm.
        let _ = remove(&earlier);
        Ok(())
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        if !is_below(path) {
            return Err(Error::failure(format!("`{path}` is no path below {}", self.target.display())));
        }
        let file = self.temporary.join(path);
        let mut write = || -> io::Result<()> {
            let folder = parent(&file);
            fs::create_dir_all(folder)?;
            let folders = folder.ancestors().take_while(|folder| folder.starts_with(&self.temporary));
            self.folders.extend(folders.map(Path::to_path_buf));
            let mut file = File::create(&file)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|e| cannot("write", &self.target.join(path), &e))
    }
}

impl Drop for FolderWriter {
    fn drop(&mut self) {
        if !self.committed {
            let _ = remove(&self.temporary);
        }
    }
}

/// A folder to read from. What its manifest lists, or the manifest of the folder around it, is checked.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files below `path`; none where nothing was listed.
    listed: Vec<Listed>,
}

impl Folder {
    /// Opens a folder and its manifest. Folders that other programs made have none, and are not checked.
    ///
    /// # Errors
    /// If it is no folder, or the manifest cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !path.is_dir() {
            return Err(Error::input(format!("{}: there is no such folder", path.display())));
        }
        if let Some(listed) = manifest_of(&path)? {
            return Ok(Self { path, listed });
        }
        let around = path.canonicalize().ok();
        let (Some(outer), Some(name)) =
            (around.as_deref().and_then(Path::parent), around.as_deref().and_then(Path::file_name))
        else {
            return Ok(Self { path, listed: Vec::new() });
        };
        let prefix = format!("{}/", name.to_string_lossy());
        let listed = manifest_of(outer)?.unwrap_or_default().into_iter().filter_map(|listed| {
            let file = listed.file.strip_prefix(&prefix)?.to_owned();
            Some(Listed { file, ..listed })
        });
        Ok(Self { listed: listed.collect(), path })
    }

    /// Where a file of this folder is, for errors.
    pub fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// A file's bytes, or nothing if it is neither there nor listed.
    ///
    /// # Errors
    /// If it cannot be read, or is not the file the manifest lists.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        match file.read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(e) => Err(Error::input(format!("cannot read {}: {e}", self.place(name)))),
        }
    }

    /// The same file open, at its first byte.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn open_file(&self, name: &str) -> Result<Option<File>> {
        let place = self.place(name);
        if !is_below(name) {
            return Err(Error::input(format!("{place} is no path below its folder")));
        }
        let listed = self.listed.iter().find(|listed| listed.file == name);
        let damaged = |what: String| {
            Err(Error::input(format!(
                "{place} {what}: it was changed or damaged after it was saved; fetch it again, use another \
                 checkpoint, or delete {MANIFEST} to load it as it is"
            )))
        };
        let cannot = |e: io::Error| Error::input(format!("cannot read {place}: {e}"));
        let mut file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return match listed {
                    Some(_) => damaged(format!("is missing, but {MANIFEST} lists it")),
                    None => Ok(None),
                };
            }
            Err(e) => return Err(cannot(e)),
        };
        let Some(listed) = listed else { return Ok(Some(file)) };
        let size = file.metadata().map_err(cannot)?.len();
        if listed.bytes != size {
            return damaged(format!("has {size} bytes where {MANIFEST} lists {}", listed.bytes));
        }
        // A file can be as large as the memory: it is hashed on its way past.
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut hash).and_then(|_| file.rewind()).map_err(cannot)?;
        if listed.sha256 != hex(&hash.finalize()) {
            return damaged(format!("does not have the sha256 that {MANIFEST} lists"));
        }
        Ok(Some(file))
    }

    /// A safetensors file that must be there.
    ///
    /// # Errors
    /// If it is missing, damaged, or holds a tensor of another type.
    pub fn tensors(&self, name: &str) -> Result<Tensors> {
        let file = self.open_file(name)?;
        let file = file.ok_or_else(|| Error::input(format!("{} is missing", self.place(name))))?;
        Tensors::of_file(file, self.place(name))
    }

    /// A JSON file that must be there.
    ///
    /// # Errors
    /// If it is missing, damaged, or no JSON.
    pub fn json(&self, name: &str) -> Result<Value> {
        serde_json::from_slice(&self.required(name)?)
            .map_err(|e| Error::input(format!("{} is no JSON: {e}", self.place(name))))
    }

    fn required(&self, name: &str) -> Result<Vec<u8>> {
        self.read(name)?.ok_or_else(|| Error::input(format!("{} is missing", self.place(name))))
    }
}

/// Checks every file that the folder's manifest, or the one around it, lists; says whether there was one.
///
/// # Errors
/// Names the first file that is missing or was changed.
pub fn verify(path: &Path) -> Result<bool> {
    let folder = Folder::open(path)?;
    folder.listed.iter().try_for_each(|listed| folder.open_file(&listed.file).map(|_| ()))?;
    Ok(!folder.listed.is_empty())
}

/// What a folder's manifest lists. Other programs' files of that name list no `files` and do not count.
fn manifest_of(folder: &Path) -> Result<Option<Vec<Listed>>> {
    let path = folder.join(MANIFEST);
    let damaged = |e| Error::input(format!("{} is damaged: {e}", path.display()));
    let json: Value = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(damaged)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::input(format!("cannot read {}: {e}", path.display()))),
    };
    json.get("files").cloned().map(serde_json::from_value).transpose().map_err(damaged)
}

/// Whether something is there that no `FolderWriter` made.
fn occupied(target: &Path) -> bool {
    let empty = || fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_none());
    target.exists() && !target.join(MANIFEST).is_file() && !empty()
}

/// `<target>.<what>-<pid>`.
pub(super) fn beside(target: &Path, what: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}-{}", std::process::id()));
    target.with_file_name(name)
}

/// The folder around a path, `.` for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Waits until the disk has a folder's names. Windows does so by itself.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Creates a folder and those around it, and waits until the disk has them.
pub(super) fn create_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder)?;
    missing.iter().try_for_each(|folder| sync_folder(parent(folder)))
}

pub(super) fn cannot(verb: &str, path: &Path, cause: &io::Error) -> Error {
    let cure = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ": free some space",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ": choose a writable folder",
        _ => "",
    };
    Error::failure(format!("cannot {verb} {}: {cause}{cure}", path.display()))
}

/// Removes a folder if it is there.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether a path of a file's contents stays below the folder it is relative to.
fn is_below(path: &str) -> bool {
    let plain = |part| matches!(part, Component::Normal(_));
    !path.is_empty() && !path.contains('\\') && Path::new(path).components().all(plain)
}

/// The digest of some bytes, in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The same of a file, which may be large.
pub(super) fn sha256_of_file(path: &Path) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut fs::File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_leaves_nothing_behind() {
        let root = tempfile::tempdir().expect("a folder");
        let target = root.path().join("000500");
        let mut writer = FolderWriter::create(&target).expect("created");
        // Whatever is written to this device finds the disk full.
        std::os::unix::fs::symlink("/dev/full", writer.temporary.join("model.safetensors")).expect("linked");
        writer.write("config.json", b"{}").expect("there is room");
        let error = writer.write("model.safetensors", &[0; 10]).expect_err("full");
        let expected =
            format!("cannot write {}: No space left on device", target.join("model.safetensors").display());
        assert!(error.to_string().starts_with(&expected), "{error}");
        assert!(error.to_string().ends_with("free some space"), "{error}");
        assert_eq!(error.exit_code(), 1);
        drop(writer);
        assert_eq!(fs::read_dir(root.path()).expect("listed").count(), 0);
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let root = tempfile::tempdir().expect("a folder");
        let mut writer = FolderWriter::create(root.path().join("a")).expect("created");
        for path in ["../b", "/b", "a/../../b", "", "..\\b"] {
            assert!(writer.write(path, b"").is_err(), "{path}");
            assert!(Folder::open(root.path()).expect("there").read(path).is_err(), "{path}");
        }
    }
}
