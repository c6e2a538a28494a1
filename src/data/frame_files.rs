//! Decoded pictures on disk, so that they are decoded and resized once, not once an epoch or a run.
//!
//! A picture is a file, `FOLDER/<what it is of>/<frame>.frame`: a mark, the first 16 bytes of the pixels' SHA-256, the
//! pixels. A file that is cut short or changed is noticed and made again. Files appear whole or not at all (written
//! under another name, then renamed), so that runs may share a folder. Where there is no room, the oldest files of
//! other data sets go first; a run never throws its own pictures out, which would only make room for the next epoch
//! to throw out others.

use std::{
    collections::VecDeque,
    fs,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::Dataset;
use crate::{Error, Result};

const MARK: &[u8; 8] = b"flowgpu1";
/// Mark and checksum.
const HEAD: usize = MARK.len() + 16;
const EXTENSION: &str = "frame";
/// What a run that was killed left half written is nobody's after this time.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A folder of decoded pictures.
#[derive(Debug)]
pub(super) struct FrameFiles {
    folder: PathBuf,
    limit: u64,
    used: AtomicU64,
    /// Files of other data sets with their bytes, the oldest first.
    others: Mutex<VecDeque<(PathBuf, u64)>>,
    /// Whether the disk has refused.
    closed: AtomicBool,
    written: AtomicU64,
    notes: Mutex<Vec<String>>,
}

impl FrameFiles {
    /// Opens a folder, made if it is not there, that may hold `limit` bytes. `own` are the names of this run's
    /// cameras ([`name_of`]).
    ///
    /// # Errors
    /// If the folder cannot be made or read.
    pub fn open(folder: &Path, limit: u64, own: &[String]) -> Result<Self> {
        let failed = |e: std::io::Error| {
            Error::failure(format!("the decoded cache {} cannot be used: {e}", folder.display()))
        };
        for name in own {
            fs::create_dir_all(folder.join(name)).map_err(failed)?;
        }
        let (mut mine, mut others) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // Whatever else lies in this folder is somebody else's.
            if !path.is_dir() || !path.file_name().and_then(|name| name.to_str()).is_some_and(is_name) {
                continue;
            }
            let is_own = own.iter().any(|name| path.ends_with(name));
            let files = if is_own { &mut mine } else { &mut others };
            // A folder that another run empties meanwhile is no error.
            for file in fs::read_dir(path).into_iter().flatten().flatten() {
                let number = |name: &str| name.split('.').next().is_some_and(|n| n.parse::<usize>().is_ok());
                let Ok(about) = file.metadata() else { continue };
                if !file.file_name().to_str().is_some_and(number) {
                    continue;
                }
                let age = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                match file.path().extension().and_then(|e| e.to_str()) {
                    Some(EXTENSION) => files.push((age, file.path(), about.len())),
                    Some("part") if age.elapsed().is_ok_and(|age| age > ABANDONED) => {
                        let _ = fs::remove_file(file.path());
                    }
                    _ => {}
                }
            }
        }
        others.sort();
        mine.sort();
        let used = mine.iter().chain(&others).map(|(.., bytes)| bytes).sum();
        let without_age = |files: Vec<(SystemTime, PathBuf, u64)>| -> VecDeque<_> {
            files.into_iter().map(|(_, path, bytes)| (path, bytes)).collect()
        };
        let opened = Self {
            folder: folder.to_path_buf(),
            limit,
            used: AtomicU64::new(used),
            others: Mutex::new(without_age(others)),
            closed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            notes: Mutex::default(),
        };
        // A limit may be lower than it was in the last run.
        opened.make_room(0);
        for (path, bytes) in without_age(mine) {
            if opened.used.load(Ordering::Relaxed) <= limit {
                break;
            }
            opened.remove(&path, bytes);
        }
        Ok(opened)
    }

    /// Reads a picture into `pixels`; false if it is not there, or damaged, which is noted.
    pub fn read(&self, name: &str, frame: usize, pixels: &mut [u8]) -> bool {
        let path = self.path(name, frame);
        let Ok(mut file) = fs::File::open(&path) else { return false };
        let expected = (HEAD + pixels.len()) as u64;
        let mut head = [0; HEAD];
        let whole = file.metadata().is_ok_and(|about| about.len() == expected)
            && file.read_exact(&mut head).is_ok()
            && file.read_exact(pixels).is_ok();
        let good = whole && head == head_of(pixels);
        if !good {
            let what = if whole { "its checksum differs" } else { "its length differs" };
            self.note(format!("note: {} is damaged ({what}): made again", path.display()));
            let bytes = file.metadata().map_or(0, |about| about.len());
            drop(file);
            self.remove(&path, bytes);
        }
        good
    }

    /// Keeps a picture, if there is room for it. A disk that refuses is noted once, and left alone from then on.
    pub fn write(&self, name: &str, frame: usize, pixels: &[u8]) {
        let bytes = (HEAD + pixels.len()) as u64;
        if self.closed.load(Ordering::Relaxed) || !self.make_room(bytes) {
            return;
        }
        let path = self.path(name, frame);
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let part = path.with_extension(format!("{}-{number}.part", std::process::id()));
        let whole = [&head_of(pixels)[..], pixels].concat();
        if let Err(e) = fs::write(&part, whole).and_then(|()| fs::rename(&part, &path)) {
            let _ = fs::remove_file(&part);
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            if !self.closed.swap(true, Ordering::Relaxed) {
                self.note(format!("note: {}: {e}; no more decoded pictures are kept", path.display()));
            }
        }
    }

    /// What the user should hear of since last asked.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes `bytes` of the room, for which files of other data sets may have to go; false if there is too little.
    fn make_room(&self, bytes: u64) -> bool {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        while self.used.load(Ordering::Relaxed) + bytes > self.limit {
            let Some((path, freed)) = others.pop_front() else { return false };
            self.remove(&path, freed);
        }
        self.used.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn remove(&self, path: &Path, bytes: u64) {
        // Another run may have been quicker; its room is free all the same.
        let _ = fs::remove_file(path);
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn path(&self, name: &str, frame: usize) -> PathBuf {
        self.folder.join(name).join(format!("{frame:08}.{EXTENSION}"))
    }

    fn note(&self, note: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

fn head_of(pixels: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..MARK.len()].copy_from_slice(MARK);
    head[MARK.len()..].copy_from_slice(&Sha256::digest(pixels)[..HEAD - MARK.len()]);
    head
}

/// The name that a data set's pictures of a camera at a size `[H, W]` have in a cache: it changes with any file of the
/// data set, by path, size or time.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn name_of(dataset: &Dataset, camera: &str, [height, width]: [usize; 2]) -> Result<String> {
    let mut hash = Sha256::new();
    for root in &dataset.roots {
        let whole = root.canonicalize().unwrap_or_else(|_| root.clone());
        hash.update(whole.as_os_str().as_encoded_bytes());
        add_files(root, &mut hash)
            .map_err(|e| Error::input(format!("cannot read {}: {e}", root.display())))?;
    }
    hash.update(format!("\0{camera}\0{height}x{width}"));
    Ok(hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a folder's name is one that [`name_of`] makes.
fn is_name(name: &str) -> bool {
    name.len() == 24 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Every file below a folder, in order of names.
fn add_files(folder: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let about = entry.metadata()?;
        hash.update(entry.file_name().as_encoded_bytes());
        if about.is_dir() {
            add_files(&entry.path(), hash)?;
        } else {
            hash.update(about.len().to_le_bytes());
            let time = about.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            hash.update(time.as_nanos().to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0123456789abcdef01234567";
    const SECOND: &str = "fedcba987654321001234567";
    const SIZE: u64 = (HEAD + 100) as u64;

    fn files(folder: &Path, limit: u64, name: &str) -> FrameFiles {
        FrameFiles::open(folder, limit, &[name.to_owned()]).expect("opens")
    }

    #[test]
    fn what_was_kept_is_read_again_and_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = files(folder.path(), 10 * SIZE, FIRST);
        let (pixels, mut out) = ([7; 100], [0; 100]);
        assert!(!kept.read(FIRST, 3, &mut out) && kept.take_notes().is_empty());
        kept.write(FIRST, 3, &pixels);
        let again = files(folder.path(), 10 * SIZE, FIRST);
        assert!(again.read(FIRST, 3, &mut out) && out == pixels);
        let path = again.path(FIRST, 3);
        let mut bytes = fs::read(&path).expect("there");
        for (damaged, what) in [(0..60, "length"), (0..bytes.len(), "checksum")] {
            bytes[50] ^= 1;
            fs::write(&path, &bytes[damaged]).expect("writes");
            assert!(!again.read(FIRST, 3, &mut out), "{what}");
            assert!(again.take_notes()[0].contains(what));
            assert!(!path.exists(), "it is made again");
            again.write(FIRST, 3, &pixels);
            assert!(again.read(FIRST, 3, &mut out));
            bytes = fs::read(&path).expect("there");
        }
    }

    #[test]
    fn the_oldest_files_of_others_make_room_and_own_ones_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = files(folder.path(), 3 * SIZE, FIRST);
        for frame in [5, 1, 2] {
            first.write(FIRST, frame, &[1; 100]);
            let time =
                SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + first.written.load(Ordering::Relaxed));
            let file = fs::File::options().write(true).open(first.path(FIRST, frame)).expect("there");
            file.set_modified(time).expect("a time");
        }
        first.write(FIRST, 9, &[1; 100]);
        assert!(!first.path(FIRST, 9).exists(), "there is no room");
        let second = files(folder.path(), 3 * SIZE, SECOND);
        second.write(SECOND, 0, &[2; 100]);
        assert!(!second.path(FIRST, 5).exists() && second.path(FIRST, 1).exists());
        for frame in 1..5 {
            second.write(SECOND, frame, &[2; 100]);
        }
        let left = |name: &str| fs::read_dir(folder.path().join(name)).expect("there").count();
        assert_eq!((left(FIRST), left(SECOND)), (0, 3));
        drop(second);
        files(folder.path(), SIZE, SECOND);
        assert_eq!(left(SECOND), 1, "a lower limit holds from the start");
    }

    #[test]
    fn what_others_keep_in_the_folder_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let theirs = folder.path().join("Downloads");
        fs::create_dir(&theirs).expect("made");
        let old = ["film.part", "00000001.part", "00000001.frame"].map(|name| theirs.join(name));
        for path in &old {
            fs::write(path, [0; 300]).expect("written");
            let file = fs::File::options().write(true).open(path).expect("there");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
        }
        files(folder.path(), 1, FIRST).write(FIRST, 0, &[1; 100]);
        assert!(old.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_disk_that_refuses_is_noted_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = files(folder.path(), 10 * SIZE, FIRST);
        fs::remove_dir(folder.path().join(FIRST)).expect("empty");
        kept.write(FIRST, 0, &[0; 100]);
        kept.write(FIRST, 1, &[0; 100]);
        assert_eq!(kept.take_notes().len(), 1);
    }
}
