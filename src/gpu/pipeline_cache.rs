//! What a driver made of shaders, kept on disk, so that the next process need not wait for it. Vulkan alone has this.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use sha2::{Digest, Sha256};

/// Bytes of the checksum that a file begins with.
const CHECKSUM: usize = 32;

/// The cache of one device; without a backend that has one, or a place on disk, it does nothing.
pub(super) struct PipelineCache {
    raw: Option<wgpu::PipelineCache>,
    file: Option<PathBuf>,
    /// What the file holds.
    saved: Mutex<Vec<u8>>,
}

impl PipelineCache {
    /// Opens the cache of a device whose features have `PIPELINE_CACHE`, with what is on disk. A file that is broken counts
    /// as none.
    #[allow(unsafe_code)]
    pub fn open(device: &wgpu::Device, adapter: &wgpu::AdapterInfo) -> Self {
        let name = wgpu::util::pipeline_cache_key(adapter);
        let usable = device.features().contains(wgpu::Features::PIPELINE_CACHE);
        let file = name.filter(|_| usable).zip(folder()).map(|(name, folder)| folder.join(name));
        let saved = file.as_deref().and_then(load).unwrap_or_default();
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("flowgpu"),
            data: (!saved.is_empty()).then_some(&saved),
            fallback: true,
        };
        // SAFETY: the bytes are what `get_data` gave to this crate: their checksum was checked. That they belong to
        // this device and driver is checked by wgpu and the driver, which otherwise begin anew.
        let raw = usable.then(|| unsafe { device.create_pipeline_cache(&descriptor) });
        Self { raw, file, saved: Mutex::new(saved) }
    }

    /// What a pipeline is made with.
    pub fn raw(&self) -> Option<&wgpu::PipelineCache> {
        self.raw.as_ref()
    }

    /// Writes what was made since, if anything was. That it cannot be kept is no trouble of the user's: the next process
    /// waits once more.
    pub fn save(&self) {
        let Some((data, file)) =
            self.raw.as_ref().and_then(wgpu::PipelineCache::get_data).zip(self.file.as_ref())
        else {
            return;
        };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved != data && store(file, &data).is_ok() {
            *saved = data;
        }
    }
}

/// `$FLOWGPU_CACHE_DIR`, else `flowgpu` where this system keeps caches.
fn folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("FLOWGPU_CACHE_DIR").or_else(|| {
        let caches = of("XDG_CACHE_HOME").or_else(|| of("LOCALAPPDATA"));
        caches.or_else(|| of("HOME").map(|home| home.join(".cache"))).map(|caches| caches.join("flowgpu"))
    })
}

/// The file's bytes behind their checksum.
fn load(file: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    let (checksum, data) = bytes.split_at_checked(CHECKSUM)?;
    (Sha256::digest(data)[..] == *checksum).then(|| data.to_vec())
}

/// Written beside its name, then renamed: several processes may end at once.
fn store(file: &Path, data: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = file.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&beside, [&Sha256::digest(data)[..], data].concat())?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_broken_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("caches/of_a_device");
        assert_eq!(load(&file), None, "nothing yet");
        store(&file, b"pipelines").expect("written");
        assert_eq!(load(&file).as_deref(), Some(&b"pipelines"[..]));
        let mut bytes = std::fs::read(&file).expect("there");
        bytes[CHECKSUM] ^= 1;
        std::fs::write(&file, &bytes).expect("written");
        assert_eq!(load(&file), None, "a flipped bit");
        std::fs::write(&file, &bytes[..CHECKSUM - 1]).expect("written");
        assert_eq!(load(&file), None, "cut short");
        assert_eq!(
            std::fs::read_dir(folder.path().join("caches")).expect("there").count(),
            1,
            "nothing beside it"
        );
    }
}
