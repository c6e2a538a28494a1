//! A folder of recorded episodes as a LeRobotDataset: NumPy arrays, and pictures as arrays or PNG files.
//!
//! ```text
//! FOLDER/episode_000.npz                                       arrays by key: action [T, A], observation.state [T, S], ...
//! FOLDER/episode_000/observation.images.top/000000.png         a picture a frame, in a folder named by its key
//! FOLDER/episode_001/anything.npz, action.npy, ...             or all of it in the episode's own folder
//! ```
//!
//! Episodes and pictures are taken in the order of their names, with numbers in them counting as numbers.

mod numpy;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::numpy::{Array, Values};
use super::decode::decode;
use super::{DatasetWriter, Dtype, Feature, Features, Info};
use crate::image::Image;
use crate::{Error, Result};

/// Arrays that a dataset counts by itself, left out where they come with the data.
const COUNTED: [&str; 5] = ["timestamp", "frame_index", "episode_index", "index", "task_index"];

/// What the new dataset says of itself.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions<'a> {
    /// Frames per second.
    pub fps: u32,
    /// What was done in the episodes, a sentence.
    pub task: &'a str,
    /// What did it.
    pub robot_type: Option<&'a str>,
}

/// Makes a dataset of a folder of episodes, in a new or empty folder; `progress` gets a line an episode.
///
/// # Errors
/// Names the file and the array that is missing, damaged, not finite, of a type or shape that means nothing, or of
/// another length than the others. What was written by then is removed.
pub fn import_episodes(
    folder: &Path,
    out: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(String),
) -> Result<Info> {
    let episodes = episodes(folder)?;
    let features = Episode::read(&episodes[0])?.features()?;
    let first = episodes[0].place.display();
    if features.get("action").is_none() {
        return Err(Error::input(format!(
            "{first}: there is no array `action`; an episode needs `action`, of shape [frames, values]"
        )));
    }
    let mut writer = DatasetWriter::create(out, options.fps, options.robot_type, &features)?;
    let mut write = || {
        let mut ignored: Vec<String> = Vec::new();
        for (i, sources) in episodes.iter().enumerate() {
            let episode = Episode::read(sources)?;
            if let Some(key) = episode.counted.iter().find(|key| !ignored.contains(key)) {
                progress(format!("`{key}` is left out: the dataset counts it by itself"));
                ignored.extend(episode.counted.iter().cloned());
            }
            let place = episode.place.display();
            episode
                .features()?
                .check_same(&features)
                .map_err(|e| e.at(format!("{place} does not look like the first episode, {first}")))?;
            let frames = episode.write(&mut writer, options.task)?;
            progress(format!("{place}: {frames} frames ({} of {})", i + 1, episodes.len()));
        }
        Ok(())
    };
    match write() {
        Ok(()) => writer.finish(),
        Err(error) => {
            drop(writer);
            // The folder was empty before; a half dataset would be in the way of the next attempt.
            for part in ["meta", "data"] {
                let _ = std::fs::remove_dir_all(out.join(part));
            }
            Err(error)
        }
    }
}

/// Where the parts of one episode are: files of arrays, and folders of pictures by key.
#[derive(Debug, Default)]
struct Sources {
    place: PathBuf,
    arrays: Vec<PathBuf>,
    pictures: Vec<(String, PathBuf)>,
}

/// One episode in memory, but for its PNG files.
struct Episode {
    place: PathBuf,
    /// Key, array, and the file it is from.
    arrays: Vec<(String, Array, PathBuf)>,
    /// Key, and the files in order.
    pictures: Vec<(String, Vec<PathBuf>)>,
    /// The size of the first picture of each of them: height, width.
    sizes: Vec<[usize; 2]>,
    /// Arrays that were left out.
    counted: Vec<String>,
    frames: usize,
}

/// The episodes of a folder in order.
fn episodes(folder: &Path) -> Result<Vec<Sources>> {
    let mut found: BTreeMap<String, Sources> = BTreeMap::new();
    for path in entries(folder)? {
        let is_folder = path.is_dir();
        if !is_folder && !is_arrays(&path) {
            continue;
        }
        let name = if is_folder { path.file_name() } else { path.file_stem() };
        let name = name.unwrap_or_default().to_string_lossy().into_owned();
        let sources =
            found.entry(name).or_insert_with(|| Sources { place: path.clone(), ..Sources::default() });
        if !is_folder {
            sources.arrays.push(path);
            continue;
        }
        for part in entries(&path)? {
            if part.is_dir() {
                let key = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
                sources.pictures.push((key, part));
            } else if is_arrays(&part) {
                sources.arrays.push(part);
            }
        }
    }
    let mut found: Vec<_> = found.into_iter().filter(|(_, sources)| !sources.arrays.is_empty()).collect();
    found.sort_by(|a, b| by_number(&a.0, &b.0));
    if found.is_empty() {
        return Err(Error::input(format!(
            "{} holds no episodes: neither FILE.npz nor a folder with one (see flowgpu import episodes --help)",
            folder.display()
        )));
    }
    Ok(found.into_iter().map(|(_, sources)| sources).collect())
}

fn is_arrays(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "npz" || extension == "npy")
}

/// What is in a folder, in the order of its names; hidden files are not.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| Error::input(format!("{} cannot be read: {e}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let mut names = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    names.retain(|name| !name.starts_with('.'));
    names.sort_by(|a, b| by_number(a, b));
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Compares names as people do: `frame_2` comes before `frame_10`.
fn by_number(a: &str, b: &str) -> Ordering {
    // Digits in a row are a number, anything else stands for itself: a longer number is larger, leading zeros aside.
    let pieces = |name: &str| -> Vec<(usize, String)> {
        let digit = |c: char| c.is_ascii_digit();
        name.chars()
            .collect::<Vec<_>>()
            .chunk_by(|&a, &b| digit(a) && digit(b))
            .map(|piece| {
                let text: String = piece.iter().collect();
                let number = text.trim_start_matches('0');
                if digit(piece[0]) { (number.len(), number.to_owned()) } else { (0, text) }
            })
            .collect()
    };
    pieces(a).cmp(&pieces(b)).then_with(|| a.cmp(b))
}

impl Episode {
    /// Reads the arrays, looks at the first pictures, and checks that all have as many frames.
    fn read(sources: &Sources) -> Result<Self> {
        let mut episode = Self {
            place: sources.place.clone(),
            arrays: Vec::new(),
            pictures: Vec::new(),
            sizes: Vec::new(),
            counted: Vec::new(),
            frames: 0,
        };
        for file in &sources.arrays {
            for (key, array) in numpy::read(file)? {
                if COUNTED.contains(&key.as_str()) {
                    episode.counted.push(key);
                    continue;
                }
                episode.refuse_twice(&key)?;
                episode.arrays.push((key, array, file.clone()));
            }
        }
        for (key, folder) in &sources.pictures {
            let files = entries(folder)?;
            let png = |file: &Path| file.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
            if let Some(other) = files.iter().find(|file| !png(file)) {
                return Err(Error::input(format!("{} is no PNG file, and should be one", other.display())));
            }
            let first = files
                .first()
                .ok_or_else(|| Error::input(format!("{} holds no pictures", folder.display())))?;
            let size = picture(first)?;
            episode.refuse_twice(key)?;
            episode.sizes.push([size.height, size.width]);
            episode.pictures.push((key.clone(), files));
        }
        episode.frames = episode.common_length()?;
        Ok(episode)
    }

    fn refuse_twice(&self, key: &str) -> Result<()> {
        let arrays = self.arrays.iter().map(|(known, ..)| known);
        match arrays.chain(self.pictures.iter().map(|(known, _)| known)).any(|known| known == key) {
            true => Err(Error::input(format!("{}: `{key}` is there twice", self.place.display()))),
            false => Ok(()),
        }
    }

    /// The number of frames, which every part must have.
    fn common_length(&self) -> Result<usize> {
        let arrays =
            self.arrays.iter().map(|(key, array, _)| (key, array.shape.first().copied().unwrap_or(0)));
        let mut lengths = arrays.chain(self.pictures.iter().map(|(key, files)| (key, files.len())));
        let place = self.place.display();
        let (first, frames) =
            lengths.next().ok_or_else(|| Error::input(format!("{place}: there is no array")))?;
        if let Some((key, other)) = lengths.find(|&(_, other)| other != frames) {
            return Err(Error::input(format!(
                "{place}: `{first}` has {frames} frames, but `{key}` has {other}"
            )));
        }
        match frames {
            0 => Err(Error::input(format!("{place}: `{first}` has no frames"))),
            _ => Ok(frames),
        }
    }

    /// The columns, by name.
    fn features(&self) -> Result<Features> {
        let mut columns: BTreeMap<&str, Feature> = BTreeMap::new();
        for (key, array, file) in &self.arrays {
            let at = || format!("{}, array `{key}`", file.display());
            columns.insert(key, feature(key, array).map_err(|e| e.at(at()))?);
        }
        for ((key, _), &[height, width]) in self.pictures.iter().zip(&self.sizes) {
            columns.insert(key, Feature::image(width, height));
        }
        Ok(columns.into_iter().fold(Features::new(), |all, (key, feature)| all.with(key, feature)))
    }

    /// Adds the episode to a dataset.
    fn write(&self, writer: &mut DatasetWriter, task: &str) -> Result<usize> {
        for frame in 0..self.frames {
            let mut images: Vec<(&str, Image)> = Vec::new();
            let mut vectors: Vec<(&str, Vec<f32>)> = Vec::new();
            for (key, array, file) in &self.arrays {
                let width: usize = array.shape[1..].iter().product();
                let row = frame * width..(frame + 1) * width;
                match (&array.values, &array.shape[..]) {
                    (Values::Bytes(bytes), &[_, height, width, 3]) => {
                        images.push((key, Image { width, height, pixels: bytes[row].to_vec() }));
                    }
                    (Values::Bytes(bytes), _) => {
                        vectors.push((key, bytes[row].iter().copied().map(f32::from).collect()));
                    }
                    (Values::Numbers(_, values), _) => {
                        let row = &values[row];
                        if let Some(bad) = row.iter().find(|value| !value.is_finite()) {
                            return Err(Error::input(format!(
                                "{}, array `{key}`: frame {frame} holds {bad}",
                                file.display()
                            )));
                        }
                        vectors.push((key, row.to_vec()));
                    }
                }
            }
            for ((key, files), &[height, width]) in self.pictures.iter().zip(&self.sizes) {
                let image = picture(&files[frame])?;
                if [image.height, image.width] != [height, width] {
                    return Err(Error::input(format!(
                        "{} is {} x {} pixels, the episode's first picture {width} x {height}",
                        files[frame].display(),
                        image.width,
                        image.height
                    )));
                }
                images.push((key, image));
            }
            let images: Vec<_> = images.iter().map(|(key, image)| (*key, image)).collect();
            let vectors: Vec<_> = vectors.iter().map(|(key, values)| (*key, &values[..])).collect();
            writer.add_frame(&images, &vectors, task).map_err(|e| e.at(self.place.display()))?;
        }
        writer.end_episode()?;
        Ok(self.frames)
    }
}

/// The column that an array of all frames fills.
fn feature(key: &str, array: &Array) -> Result<Feature> {
    // What a policy sees and does is real, whatever a recorder rounds it to.
    let real = key == "action" || key.starts_with("observation");
    let dtype = match &array.values {
        Values::Bytes(_) if matches!(array.shape[..], [_, _, _, 3]) => {
            return Ok(Feature::image(array.shape[2], array.shape[1]));
        }
        _ if real => Dtype::Float32,
        Values::Bytes(_) => Dtype::Int64,
        Values::Numbers(dtype, _) => dtype.clone(),
    };
    let width = match array.shape[..] {
        [_] => 1,
        [_, width] if width > 0 => width,
        _ => {
            return Err(Error::input(format!(
                "it has shape {:?}: use [frames] or [frames, values], and uint8 of [frames, height, width, 3] for \
                 pictures",
                array.shape
            )));
        }
    };
    Ok(Feature { dtype, shape: vec![width], names: Value::Null, rest: Map::new() })
}

fn picture(file: &Path) -> Result<Image> {
    let bytes =
        std::fs::read(file).map_err(|e| Error::input(format!("{} cannot be read: {e}", file.display())))?;
    decode(&bytes).map_err(|e| e.at(file.display()))
}
