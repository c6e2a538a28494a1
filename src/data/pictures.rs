//! The encoded pictures of one camera: kept in memory as the parquet files have them, left there where they are many, or
//! files of their own.

use std::{
    borrow::Cow,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::{decode::decode, table};
use crate::{Error, Result, image::Image};

/// Where a frame's picture is.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// Bytes of a block.
    Kept { block: usize, start: usize, end: usize },
    /// A file of its own.
    File(Box<Path>),
    /// A row of a parquet file, read when it is asked for.
    Row { source: usize, row: usize },
}

/// Parquet files whose pictures are left where they are.
#[derive(Debug)]
struct Source {
    rows: table::Rows,
    key: String,
    root: PathBuf,
}

/// The encoded pictures of every frame.
#[derive(Debug, Clone, Default)]
pub(super) struct Pictures {
    /// One a batch of rows, so that nothing is copied while they grow.
    blocks: Vec<Vec<u8>>,
    places: Vec<Place>,
    sources: Vec<Arc<Source>>,
}

/// A picture as a row of a parquet file has it.
pub(super) struct Row<'a> {
    /// The encoded picture.
    pub bytes: Option<&'a [u8]>,
    /// Where it was, or is.
    pub path: Option<&'a str>,
}

impl Pictures {
    /// Begins a batch of rows.
    pub fn begin_block(&mut self) {
        self.blocks.push(Vec::new());
    }

    /// Adds the next frame's picture to the block.
    ///
    /// # Errors
    /// If there are no bytes, and no path to a place inside the folder.
    pub fn push(&mut self, row: &Row<'_>, root: &Path) -> Result<()> {
        let place = match (row.bytes, row.path, self.blocks.last_mut()) {
            (Some(bytes), _, Some(block)) if !bytes.is_empty() => {
                let start = block.len();
                block.extend_from_slice(bytes);
                Place::Kept { block: self.blocks.len() - 1, start, end: start + bytes.len() }
            }
            (_, path, _) => Place::File(inside(root, path.unwrap_or_default())?),
        };
        self.places.push(place);
        Ok(())
    }

    /// Adds the pictures of a parquet file's first `count` rows, to be read when they are asked for.
    pub fn leave(&mut self, file: &Path, key: &str, root: &Path, count: usize) {
        let source = self.sources.len();
        let rows = table::Rows::new(file);
        self.sources.push(Arc::new(Source { rows, key: key.into(), root: root.into() }));
        self.places.extend((0..count).map(|row| Place::Row { source, row }));
    }

    /// A frame's picture as RGB.
    ///
    /// # Errors
    /// If its file cannot be read, or it is no whole picture.
    ///
    /// # Panics
    /// If there is no such frame.
    pub fn image(&self, frame: usize) -> Result<Image> {
        decode(&self.encoded(frame)?)
    }

    /// How the first picture is encoded.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn storage(&self) -> Result<String> {
        let place = self.places.first().ok_or_else(|| Error::input("there is no picture"))?;
        let kind = if self.encoded(0)?.starts_with(b"\x89PNG") { "PNG" } else { "JPEG" };
        Ok(match place {
            Place::Kept { .. } => kind.into(),
            Place::Row { .. } => kind.into(),
            Place::File(_) => format!("{kind} files"),
        })
    }

    fn encoded(&self, frame: usize) -> Result<Cow<'_, [u8]>> {
        match &self.places[frame] {
            Place::Kept { block, start, end } => Ok(Cow::Borrowed(&self.blocks[*block][*start..*end])),
            Place::File(path) => file(path).map(Cow::Owned),
            Place::Row { source, row } => {
                let Source { rows, key, root } = &*self.sources[*source];
                let mut bytes = Vec::new();
                rows.read(key, *row, |array| {
                    table::pictures(array, |row| {
                        bytes = match (row.bytes, row.path) {
                            (Some(found), _) if !found.is_empty() => found.to_vec(),
                            (_, path) => file(&inside(root, path.unwrap_or_default())?)?,
                        };
                        Ok(())
                    })
                })?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Adds the frames of another dataset.
    pub fn append(&mut self, other: Self) {
        let (blocks, sources) = (self.blocks.len(), self.sources.len());
        self.blocks.extend(other.blocks);
        self.sources.extend(other.sources);
        self.places.extend(other.places.into_iter().map(|place| match place {
            Place::Kept { block, start, end } => Place::Kept { block: block + blocks, start, end },
            Place::Row { source, row } => Place::Row { source: source + sources, row },
            file => file,
        }));
    }
}

fn file(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|e| Error::input(format!("cannot read {} ({e}); copy the dataset again", path.display())))
}

/// A path below a folder, which what a dataset says must not leave.
fn inside(root: &Path, path: &str) -> Result<Box<Path>> {
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.is_empty() {
        return Err(Error::input("a picture has neither bytes nor a path"));
    }
    if !Path::new(path).components().all(plain) {
        return Err(Error::input(format!(
            "the picture {path:?} lies outside the dataset's folder; store pictures in the parquet files"
        )));
    }
    Ok(root.join(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_from_rows_or_from_files_beside_them() -> Result<()> {
        let root = tempfile::tempdir().expect("a folder");
        let [red, blue] = [[255, 0, 0], [0, 0, 255]].map(|colour| Image::filled(3, 2, colour));
        std::fs::write(root.path().join("blue.png"), blue.to_png()?).expect("writes");
        let png = red.to_png()?;
        let mut pictures = Pictures::default();
        pictures.begin_block();
        pictures.push(&Row { bytes: Some(&png), path: Some("elsewhere.png") }, root.path())?;
        pictures.push(&Row { bytes: None, path: Some("./blue.png") }, root.path())?;
        pictures.append(pictures.clone());
        assert_eq!((pictures.image(0)?, pictures.image(1)?), (red.clone(), blue.clone()));
        assert_eq!((pictures.image(2)?, pictures.image(3)?), (red, blue));
        std::fs::remove_file(root.path().join("blue.png")).expect("there");
        assert!(pictures.image(1).is_err_and(|e| e.to_string().contains("blue.png")));
        Ok(())
    }

    #[test]
    fn no_path_leads_out_of_the_folder() {
        for path in ["/etc/passwd", "../secret.png", "a/../../secret.png", ""] {
            let pushed = Pictures::default().push(&Row { bytes: None, path: Some(path) }, Path::new("here"));
            assert!(pushed.is_err(), "{path}");
        }
    }
}
