//! A dataset's cameras as video: episodes one after the other in MP4 files, and where each begins.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Dtype, Feature, Features, Info, info::VIDEO_PATH};
#[cfg(feature = "video")]
use crate::video::VideoWriter;
use crate::{Error, Result, image::Image};

/// Where an episode's pictures lie: the camera's file by number, and its first frame there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clip {
    pub file: usize,
    pub from: usize,
}

/// One camera's files.
struct Camera {
    key: String,
    /// `[height, width]`.
    size: [usize; 2],
    /// The number of the file that the next episode goes to.
    file: usize,
    /// Frames in that file.
    frames: usize,
    writer: Option<VideoWriter>,
}

/// The cameras of a dataset that are kept as video, in the order of its features.
pub(super) struct Filming {
    cameras: Vec<Camera>,
    fps: u32,
}

impl Filming {
    /// None has a file yet. The pictures' shapes were checked when the features were.
    pub fn new(features: &Features, fps: u32) -> Self {
        let videos = features.iter().filter(|(_, feature)| feature.dtype == Dtype::Video);
        let camera = |(key, feature): (&str, &Feature)| {
            let shape = feature.policy_shape();
            Camera { key: key.into(), size: [shape[1], shape[2]], file: 0, frames: 0, writer: None }
        };
        Self { cameras: videos.map(camera).collect(), fps }
    }

    /// The cameras' keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.cameras.iter().map(|camera| camera.key.as_str())
    }

    /// Whether a feature is one of the cameras.
    pub fn keeps(&self, key: &str) -> bool {
        self.keys().any(|camera| camera == key)
    }

    /// Adds an episode of a camera, its pictures as PNG files, and says where it lies.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add(&mut self, root: &Path, info: &Info, key: &str, pngs: &[Vec<u8>]) -> Result<Clip> {
        let camera = self.cameras.iter_mut().find(|camera| camera.key == key);
        let camera = camera.ok_or_else(|| Error::failure(format!("feature `{key}` is no video")))?;
        let clip = Clip { file: camera.file, from: camera.frames };
        let writer = match &mut camera.writer {
            Some(writer) => writer,
            None => {
                let path = path(root, info, key, camera.file)?;
                let [height, width] = camera.size;
                camera.writer.insert(VideoWriter::create(path, width, height, self.fps)?)
            }
        };
        for png in pngs {
            writer.push(&Image::from_png(png)?)?;
        }
        camera.frames += pngs.len();
        if writer.bytes() >= info.video_files_size_in_mb as u64 * 1024 * 1024 {
            camera.close()?;
        }
        Ok(clip)
    }

    /// Ends the open files, and says in `info` what they hold.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(&mut self, info: &mut Info) -> Result<()> {
        for camera in &mut self.cameras {
            camera.close()?;
            let [height, width] = camera.size;
            let what = json!({
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": false,
                "video.fps": self.fps,
                "video.channels": 3,
                "has_audio": false,
            });
            if let Some(mut feature) = info.features.get(&camera.key).cloned() {
                feature.rest.insert("info".into(), what);
                info.features.insert(camera.key.as_str(), feature);
                info.video_path = Some(VIDEO_PATH.into());
            }
        }
        Ok(())
    }
}

impl Camera {
    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
            (self.file, self.frames) = (self.file + 1, 0);
        }
        Ok(())
    }
}

/// Whether a camera's pictures can be a video (of colour, at half the resolution for chroma).
pub(super) fn fits(feature: &Feature) -> bool {
    let side = |side: usize| side.is_multiple_of(2) && (16..=4096).contains(&side);
    matches!(feature.policy_shape()[..], [3, height, width] if side(height) && side(width))
}

/// A camera's file by number, its folder made.
fn path(root: &Path, info: &Info, key: &str, file: usize) -> Result<PathBuf> {
    let path = root.join(info.video_file(key, file / info.chunks_size, file % info.chunks_size)?);
    if let Some(folder) = path.parent() {
        let failed = |e| Error::failure(format!("cannot create {}: {e}", folder.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    Ok(path)
}

/// Without the feature `video` no video can be written, and the first try says so.
#[cfg(not(feature = "video"))]
enum VideoWriter {}

#[cfg(not(feature = "video"))]
impl VideoWriter {
    fn create(path: PathBuf, _width: usize, _height: usize, _fps: u32) -> Result<Self> {
        Err(Error::input(format!("{}: this program was built without videos", path.display())))
    }

    fn push(&mut self, _image: &Image) -> Result<()> {
        match *self {}
    }

    fn bytes(&self) -> u64 {
        match *self {}
    }

    fn finish(self) -> Result<usize> {
        match self {}
    }
}

#[cfg(all(test, feature = "video"))]
mod tests {
    use super::*;
    use crate::data::{Dataset, DatasetWriter};

    const LENGTHS: [usize; 3] = [3, 1, 4];

    fn features() -> Features {
        let (left, wrist) = (Feature::video(32, 24), Feature::video(48, 32));
        Features::new()
            .with("observation.images.left", left)
            .with("observation.images.wrist", wrist)
            .with("action", Feature::vector(&["x"]))
    }

    fn grey(width: usize, height: usize, frame: usize) -> Image {
        Image::filled(width, height, [20 * frame as u8 + 10; 3])
    }

    #[test]
    fn cameras_written_as_video_are_read_frame_by_frame() -> Result<()> {
        let root = tempfile::tempdir().expect("a folder");
        let mut writer = DatasetWriter::create(root.path(), 10, None, &features())?;
        for (episode, length) in LENGTHS.into_iter().enumerate() {
            let first: usize = LENGTHS[..episode].iter().sum();
            // What is discarded leaves no picture in the file.
            let wrong = [grey(32, 24, 11), grey(48, 32, 11)];
            let keys = ["observation.images.left", "observation.images.wrist"];
            writer.add_frame(&[(keys[0], &wrong[0]), (keys[1], &wrong[1])], &[("action", &[0.0])], "grey")?;
            writer.discard_episode();
            for frame in first..first + length {
                let pictures = [grey(32, 24, frame), grey(48, 32, frame + 1)];
                let pictures = [(keys[0], &pictures[0]), (keys[1], &pictures[1])];
                writer.add_frame(&pictures, &[("action", &[frame as f32])], "grey")?;
            }
            writer.end_episode()?;
        }
        let info = writer.finish()?;
        assert_eq!(info.video_path.as_deref(), Some(VIDEO_PATH));
        let what = &info.features.get("observation.images.wrist").expect("a camera").rest["info"];
        assert_eq!((&what["video.width"], &what["video.codec"]), (&json!(48), &json!("h264")));
        let dataset = Dataset::open(root.path())?;
        assert_eq!((dataset.len(), dataset.episodes.len()), (8, 3));
        for frame in 0..8 {
            let left = dataset.image("observation.images.left", frame)?;
            let wrist = dataset.image("observation.images.wrist", frame)?;
            assert_eq!((left.width, wrist.height), (32, 32));
            for (image, shown) in [(left, frame), (wrist, frame + 1)] {
                assert!(
                    image.pixels[0].abs_diff(20 * shown as u8 + 10) <= 2,
                    "frame {frame}: {:?}",
                    image.pixels[0]
                );
            }
        }
        let mean = dataset.stats.get("observation.images.left", "mean")?;
        assert!((mean.values[0] - 80.0 / 255.0).abs() < 1e-12, "statistics are of the pictures as given");
        Ok(())
    }

    #[test]
    fn a_file_that_is_large_enough_is_followed_by_another() -> Result<()> {
        let root = tempfile::tempdir().expect("a folder");
        let mut info = Info::new(10, None, &features());
        (info.video_files_size_in_mb, info.chunks_size) = (0, 2);
        let mut filming = Filming::new(&features(), 10);
        let pngs = [grey(32, 24, 0).to_png()?, grey(32, 24, 1).to_png()?];
        for file in 0..3 {
            let clip = filming.add(root.path(), &info, "observation.images.left", &pngs)?;
            assert_eq!(clip, Clip { file, from: 0 });
        }
        filming.finish(&mut info)?;
        assert!(root.path().join("videos/observation.images.left/chunk-001/file-000.mp4").is_file());
        Ok(())
    }

    #[test]
    fn sizes_that_no_video_has_are_refused_before_anything_is_recorded() {
        let root = tempfile::tempdir().expect("a folder");
        let odd = Features::new().with("observation.image", Feature::video(33, 24));
        let error = DatasetWriter::create(root.path(), 10, None, &odd).err().expect("refused").to_string();
        assert!(error.contains("`observation.image`") && error.contains("even"), "{error}");
    }
}
