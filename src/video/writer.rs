//! Pictures into a file: H.264 by the crate `rusty_h264`, in Constrained Baseline, which every player knows.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use rusty_h264::{Encoder, EncoderConfig, Preset, YuvFrame};

use super::{colour::Planes, mux};
use crate::{Error, Result, image::Image};

/// Pictures from one that can be decoded alone to the next, as LeRobot's videos have it: any frame costs two at most.
const GROUP: usize = 2;

/// How coarsely frequencies are kept: 0 is exact, 51 is nothing but blocks.
const QUANTISER: u8 = 22;

/// Levels by what they allow: `(10 · level, macroblocks a picture, macroblocks a second)`.
const LEVELS: [(u8, usize, usize); 8] = [
    (30, 1_620, 40_500),
    (31, 3_600, 108_000),
    (32, 5_120, 216_000),
    (40, 8_192, 245_760),
    (42, 8_704, 522_240),
    (50, 22_080, 589_824),
    (52, 36_864, 2_073_600),
    (62, 139_264, 16_711_680),
];

/// Writes an MP4 file of H.264, yuv420p, that begins with its tables (`faststart`).
///
/// Pictures go to `PATH.part` until [`finish`](Self::finish) makes the file; a writer that is dropped leaves nothing.
pub struct VideoWriter {
    path: PathBuf,
    part: PathBuf,
    data: BufWriter<File>,
    encoder: Encoder,
    width: usize,
    height: usize,
    fps: u32,
    /// The stream's sequence and picture parameter sets, once the first picture is written.
    parameters: [Vec<u8>; 2],
    sizes: Vec<u32>,
    bytes: u64,
}

impl VideoWriter {
    /// Begins a file of `height` rows of `width` pixels, `fps` pictures a second.
    ///
    /// # Errors
    /// If a side is odd, below 16 or above 4096, the rate is not of 1 to 1000, or the file cannot be written.
    pub fn create(path: impl AsRef<Path>, width: usize, height: usize, fps: u32) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let fits = |side: usize| side.is_multiple_of(2) && (16..=4096).contains(&side);
        if !fits(width) || !fits(height) {
            return Err(Error::input(format!(
                "{}: pictures of {width}x{height} do not fit a video (yuv420p): both sides must be even, of 16 to 4096",
                path.display()
            )));
        }
        if !(1..=1000).contains(&fps) {
            return Err(Error::input(format!("{}: {fps} pictures a second; 1 to 1000 fit", path.display())));
        }
        let blocks = width.div_ceil(16) * height.div_ceil(16);
        let level =
            LEVELS.iter().find(|l| blocks <= l.1 && blocks * fps as usize <= l.2).unwrap_or(&LEVELS[7]).0;
        let mut config = EncoderConfig::baseline(width, height);
        (config.qp, config.level_idc, config.framerate) = (QUANTISER, level, fps as f32);
        (config.gop_size, config.min_keyint, config.preset) = (GROUP as u32, 1, Preset::Fast);
        let failed = |e: String| Error::failure(format!("cannot write {}: {e}", path.display()));
        let encoder = Encoder::new(config).map_err(|e| failed(format!("{e:?}")))?;
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&part);
        let data = BufWriter::new(file.map_err(|e| failed(e.to_string()))?);
        let (parameters, sizes) = (Default::default(), Vec::new());
        Ok(Self { path, part, data, encoder, width, height, fps, parameters, sizes, bytes: 0 })
    }

    /// Pictures pushed so far.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether none was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Compressed bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a picture.
    ///
    /// # Errors
    /// If its size is another, or the file cannot be written.
    pub fn push(&mut self, image: &Image) -> Result<()> {
        if (image.width, image.height) != (self.width, self.height) {
            return Err(Error::input(format!(
                "{}: a picture of {}x{} in a video of {}x{}",
                self.path.display(),
                image.width,
                image.height,
                self.width,
                self.height
            )));
        }
        let planes = Planes::from_rgb(image);
        let frame = YuvFrame {
            width: self.width,
            height: self.height,
            y: planes.luma,
            u: planes.blue,
            v: planes.red,
        };
        let stream = self.encoder.encode(&frame);
        let mut size = 0;
        for unit in units(&stream) {
            // 7 and 8 are parameter sets, which stand in the tables; 9 says where a picture begins.
            match unit[0] & 0x1f {
                kind @ (7 | 8) => self.keep_parameters(usize::from(kind - 7), unit)?,
                9 => {}
                _ => {
                    self.write(&(unit.len() as u32).to_be_bytes())?;
                    self.write(unit)?;
                    size += unit.len() + 4;
                }
            }
        }
        if size == 0 {
            return Err(Error::failure(format!("{}: a picture was not encoded", self.path.display())));
        }
        self.sizes.push(size as u32);
        self.bytes += size as u64;
        Ok(())
    }

    fn keep_parameters(&mut self, kind: usize, unit: &[u8]) -> Result<()> {
        let kept = &mut self.parameters[kind];
        if kept.is_empty() {
            *kept = unit.to_vec();
        }
        if kept != unit || unit.len() < 4 && kind == 0 {
            return Err(Error::failure(format!(
                "{}: the encoder changed its parameters amid the video",
                self.path.display()
            )));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let failed = |e| Error::failure(format!("cannot write {}: {e}", self.part.display()));
        self.data.write_all(bytes).map_err(failed)
    }

    /// Ends the file, which nothing can read before, and returns the number of pictures in it.
    ///
    /// # Errors
    /// If there is none, or the file cannot be written.
    pub fn finish(mut self) -> Result<usize> {
        if self.sizes.is_empty() || self.parameters.iter().any(Vec::is_empty) {
            return Err(Error::input(format!("{}: a video needs at least one picture", self.path.display())));
        }
        let head = mux::head(&mux::Contents {
            width: self.width as u16,
            height: self.height as u16,
            fps: self.fps,
            parameters: [&self.parameters[0], &self.parameters[1]],
            sizes: &self.sizes,
            group: GROUP,
        });
        let copied = self.data.flush().and_then(|()| {
            let data = self.data.get_mut();
            data.seek(SeekFrom::Start(0))?;
            let mut file = File::create(&self.path)?;
            file.write_all(&head)?;
            io::copy(data, &mut file)
        });
        copied.map_err(|e| Error::failure(format!("cannot write {}: {e}", self.path.display())))?;
        Ok(self.sizes.len())
    }
}

impl Drop for VideoWriter {
    fn drop(&mut self) {
        // Finished or not, it is of no more use; if it cannot be removed, nobody can be told.
        drop(std::fs::remove_file(&self.part));
    }
}

/// The NAL units of a stream with start codes (two zeros or more, and a one).
fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts = Vec::new();
    let mut at = 0;
    while let Some(found) = stream[at..].windows(3).position(|w| w == [0, 0, 1]) {
        at += found + 3;
        starts.push(at);
    }
    let ends: Vec<usize> = starts.iter().skip(1).map(|next| next - 3).chain([stream.len()]).collect();
    starts.into_iter().zip(ends).filter_map(|(start, end)| {
        // Zeros before the next start code belong to it.
        let unit = &stream[start..end];
        let length = unit.iter().rposition(|&byte| byte != 0)? + 1;
        Some(&unit[..length])
    })
}
