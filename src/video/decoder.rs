//! Pictures by number: where to begin decoding, what to keep on the way.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
};

use super::{
    Codec, Video,
    av1::Av1,
    colour::Planes,
    h264::{self, H264},
    track::Track,
};
use crate::{Error, Result, image::Image};

/// Pictures kept for later: with B-frames, at most so many are decoded before one that is shown earlier.
const KEPT: usize = 16;

/// Decodes a file's pictures in any order, each exactly; the next one after the last is the cheapest.
///
/// It works on the calling thread, keeps the file open and at most a few pictures. `Send`, to be one thread's at a time.
pub struct Decoder {
    video: Video,
    file: Option<File>,
    /// None before the first frame and after an error.
    codec: Option<Running>,
}

/// A decoder amid a file.
struct Running {
    backend: Backend,
    /// The sample it needs next.
    next: usize,
    /// Pictures by sample that are shown later than the last one asked for, or are that one.
    kept: Vec<(usize, Planes)>,
}

enum Backend {
    Av1(Box<Av1>),
    H264(Box<H264>),
}

impl Backend {
    fn new(track: &Track) -> Result<Self> {
        Ok(match track.codec {
            Codec::Av1 => Self::Av1(Box::new(Av1::new(track)?)),
            Codec::H264 => Self::H264(Box::new(H264::new(track)?)),
        })
    }

    fn decode(&mut self, sample: &[u8]) -> Result<Planes> {
        match self {
            Self::Av1(decoder) => decoder.decode(sample),
            Self::H264(decoder) => decoder.decode(sample),
        }
    }
}

impl Decoder {
    pub(super) fn new(video: Video) -> Self {
        Self { video, file: None, codec: None }
    }

    /// The file's tables.
    pub fn video(&self) -> &Video {
        &self.video
    }

    /// The picture at a place in the order of showing.
    ///
    /// # Errors
    /// If there is no such frame, the file cannot be read, or it is broken there; the error names file and frame.
    pub fn frame(&mut self, index: usize) -> Result<Image> {
        let result = self.decode(index);
        if result.is_err() {
            self.codec = None;
        }
        result.map_err(|e| e.at(format!("{}, frame {index}", self.video.path().display())))
    }

    fn decode(&mut self, index: usize) -> Result<Image> {
        let track = Arc::clone(&self.video.track);
        let Some(&wanted) = track.order.get(index) else {
            return Err(Error::input(format!("the file has {} frames", track.order.len())));
        };
        let wanted = wanted as usize;
        let shown = track.samples[wanted].shown;
        // What was decoded already, or is about to be, needs no new beginning.
        let running = self.codec.take().filter(|running| {
            let on_the_way = running.next <= wanted && sync_before(&track, wanted) <= running.next;
            running.holds(wanted) || on_the_way
        });
        let mut running = match running {
            Some(running) => running,
            None => Running {
                backend: Backend::new(&track)?,
                next: self.begin(&track, wanted)?,
                kept: Vec::new(),
            },
        };
        running.kept.retain(|&(sample, _)| track.samples[sample].shown >= shown);
        while !running.holds(wanted) {
            let sample = running.next;
            let data = self.read(&track, sample)?;
            running.next += 1;
            match running.backend.decode(&data) {
                Ok(planes) if track.samples[sample].shown >= shown => {
                    if running.kept.len() == KEPT {
                        running.kept.remove(0);
                    }
                    running.kept.push((sample, planes));
                }
                Ok(_) => {}
                Err(e) if sample == wanted => return Err(e),
                Err(e) => return Err(e.at(format!("sample {sample}, on which it depends"))),
            }
        }
        let (_, planes) = (running.kept.iter().find(|(sample, _)| *sample == wanted))
            .ok_or_else(|| Error::input("the frame is shown long before what it depends on"))?;
        let image = planes.to_rgb();
        self.codec = Some(running);
        Ok(image)
    }

    /// The sample to begin at for one that is wanted.
    fn begin(&mut self, track: &Track, wanted: usize) -> Result<usize> {
        let mut begin = sync_before(track, wanted);
        if track.codec == Codec::H264 {
            // Files also mark pictures after which others may refer to what precedes them (open groups).
            while begin > 0 && !h264::forgets(track, &self.read(track, begin)?) {
                begin = sync_before(track, begin - 1);
            }
        }
        Ok(begin)
    }

    fn read(&mut self, track: &Track, sample: usize) -> Result<Vec<u8>> {
        let cannot = |e: std::io::Error| Error::input(format!("cannot be read: {e}"));
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::open(self.video.path()).map_err(cannot)?),
        };
        let sample = track.samples[sample];
        let mut data = vec![0; sample.size as usize];
        file.seek(SeekFrom::Start(sample.offset)).map_err(cannot)?;
        file.read_exact(&mut data).map_err(cannot)?;
        Ok(data)
    }
}

impl Running {
    fn holds(&self, sample: usize) -> bool {
        self.kept.iter().any(|(kept, _)| *kept == sample)
    }
}

/// Says whether a track is of a kind that can be decoded.
///
/// # Errors
/// If it is not, or its configuration is broken.
pub(super) fn check(track: &Track) -> Result<()> {
    Backend::new(track).map(|_| ())
}

/// The last sample, up to one that is wanted, of which the file says that decoding can begin there.
fn sync_before(track: &Track, wanted: usize) -> usize {
    (0..=wanted).rev().find(|&sample| track.samples[sample].sync).unwrap_or(0)
}
