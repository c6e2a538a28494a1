//! Pictures in video files: which frame of which file shows a frame of the dataset, and decoders that stay at their
//! places between calls.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Episode, overview::Clip};
use crate::{
    Error, Result,
    image::Image,
    video::{Decoder, Video},
};

/// A decoder so few frames behind goes on; from further behind a new one starts at a key frame.
const NEAR: usize = 64;

/// The pictures of one camera.
#[derive(Clone)]
pub(super) struct Footage {
    scenes: Vec<Scene>,
    pool: Arc<Pool>,
}

/// An episode's place in a file.
#[derive(Clone)]
struct Scene {
    path: Arc<Path>,
    /// The second of the file at which it begins.
    from: f64,
    /// The dataset's frame that it begins with.
    first: usize,
    fps: f64,
}

/// Files' tables, and decoders nobody is using.
#[derive(Default)]
struct Pool {
    videos: Mutex<BTreeMap<Arc<Path>, Video>>,
    /// Those used last at the end, each with the frame it can decode next.
    idle: Mutex<Vec<(usize, Decoder)>>,
}

impl std::fmt::Debug for Footage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Footage of {} episodes", self.scenes.len())
    }
}

impl Footage {
    /// The clips of the episodes, one each.
    pub fn new<'a>(clips: &'a [Clip], episodes: &[Episode], fps: f64) -> Self {
        let mut paths: BTreeMap<&'a Path, Arc<Path>> = BTreeMap::new();
        let scene = |(clip, episode): (&'a Clip, &Episode)| Scene {
            path: paths.entry(&clip.path).or_insert_with(|| clip.path.as_path().into()).clone(),
            from: clip.from,
            first: episode.frames.start,
            fps,
        };
        Self { scenes: clips.iter().zip(episodes).map(scene).collect(), pool: Arc::default() }
    }

    /// Adds the episodes of another dataset, whose frames come after `frames` others.
    pub fn append(&mut self, other: Self, frames: usize) {
        let later = other.scenes.into_iter().map(|scene| Scene { first: scene.first + frames, ..scene });
        self.scenes.extend(later);
    }

    /// The file of an episode.
    pub fn file(&self, episode: usize) -> Option<Arc<Path>> {
        self.scenes.get(episode).map(|scene| scene.path.clone())
    }

    /// How the first file is compressed.
    ///
    /// # Errors
    /// If it is missing or broken.
    pub fn storage(&self) -> Result<String> {
        let scene = self.scenes.first().ok_or_else(|| Error::input("there is no video"))?;
        Ok(self.video(&scene.path)?.codec().name().to_owned())
    }

    /// A frame's picture.
    ///
    /// # Errors
    /// If the file is missing or broken, or shows nothing at that time.
    pub fn image(&self, frame: usize, episode: usize) -> Result<Image> {
        let scene = self.scenes.get(episode).ok_or_else(|| Error::input("the episode has no video"))?;
        let video = self.video(&scene.path)?;
        let shown = scene.shown(frame, &video)?;
        let mut decoder = self.borrow(&video, shown);
        let image = decoder.frame(shown)?;
        self.give_back(shown + 1, decoder);
        Ok(image)
    }

    /// Checks that an episode's file goes on to its `last` frame; nothing is decoded.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn check(&self, episode: usize, last: usize) -> Result<()> {
        let scene = self.scenes.get(episode).ok_or_else(|| Error::input("the episode has no video"))?;
        scene.shown(last, &self.video(&scene.path)?).map(|_| ())
    }

    /// A file's tables, read once.
    fn video(&self, path: &Arc<Path>) -> Result<Video> {
        let videos = || self.pool.videos.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(video) = videos().get(path) {
            return Ok(video.clone());
        }
        // Not under the lock: other threads may read other files' tables meanwhile.
        let video = Video::open(path)?;
        Ok(videos().entry(path.clone()).or_insert(video).clone())
    }

    /// The idle decoder that is nearest before a frame, or a new one: several threads that each read their own run of
    /// frames keep their own decoder, without decoding anything twice.
    fn borrow(&self, video: &Video, frame: usize) -> Decoder {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |(next, decoder): &(usize, Decoder)| {
            decoder.video().path() == video.path() && *next <= frame && frame - next <= NEAR
        };
        let places = idle.iter().enumerate().filter(|(_, entry)| near(entry));
        let best = places.max_by_key(|(_, (next, _))| *next).map(|(place, _)| place);
        best.map_or_else(|| video.decoder(), |place| idle.remove(place).1)
    }

    fn give_back(&self, next: usize, decoder: Decoder) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push((next, decoder));
        // A few for each thread: windows of several frames, and a neighbour's place.
        if idle.len() > 2 * rayon::current_num_threads() + 2 {
            idle.remove(0);
        }
    }
}

impl Scene {
    /// The frame of the file that shows a frame of the dataset: counted from the frame nearest to the beginning of
    /// the episode, so that no sum of times rounds it away. Where the file runs at another rate, the frame nearest in
    /// time. Half a frame is the most that may be amiss.
    fn shown(&self, frame: usize, video: &Video) -> Result<usize> {
        let place = frame.saturating_sub(self.first);
        let wanted = self.from + place as f64 / self.fps;
        let amiss = |index: usize| video.seconds(index).map_or(f64::INFINITY, |found| (found - wanted).abs());
        let counted = (self.from * self.fps).round() as usize + place;
        let near = 0.5 / self.fps;
        if amiss(counted) <= near {
            return Ok(counted);
        }
        let (mut low, mut high) = (0, video.len());
        while low < high {
            let middle = (low + high) / 2;
            match video.seconds(middle).is_some_and(|found| found < wanted) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let nearest = if low > 0 && amiss(low - 1) < amiss(low) { low - 1 } else { low };
        if amiss(nearest) <= near {
            return Ok(nearest);
        }
        Err(Error::input(format!(
            "{} has no picture at {wanted:.3} s: it has {} frames; the dataset is incomplete: copy it again",
            self.path.display(),
            video.len()
        )))
    }
}
