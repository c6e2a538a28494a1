//! Pictures on their way into a network: borrowed or kept, as bytes or as floats.

use std::ops::Range;

use crate::graph::Program;
use crate::image::resize;
use crate::kernels::Dtype;
use crate::{Error, Result};

/// Planes of pictures, `[.., 3, H, W]`: bytes as a camera gives them, or floats in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Images<'a> {
    /// 0 to 255.
    Bytes(&'a [u8]),
    /// 0 to 1.
    Floats(&'a [f32]),
}

impl Images<'_> {
    /// Values.
    pub fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Floats(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a program's image input must hold.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Bytes(_) => Dtype::U8,
            Self::Floats(_) => Dtype::F32,
        }
    }

    /// Writes them to a program's input of that name.
    ///
    /// # Errors
    /// If their number does not fit.
    pub fn write(&self, program: &Program, name: &str) -> Result<()> {
        match self {
            Self::Bytes(values) => program.write_bytes(name, values),
            Self::Floats(values) => program.write(name, values),
        }
    }

    /// A run of the values.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Bytes(values) => Images::Bytes(&values[range]),
            Self::Floats(values) => Images::Floats(&values[range]),
        }
    }

    /// The place and value of the first that is not finite.
    pub(super) fn not_finite(&self) -> Option<(usize, f32)> {
        let Self::Floats(values) = self else { return None };
        values.iter().copied().enumerate().find(|(_, value)| !value.is_finite())
    }
}

/// Pictures that are kept, `[.., 3, H, W]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 0 to 255.
    Bytes(Vec<u8>),
    /// 0 to 1.
    Floats(Vec<f32>),
}

impl Pixels {
    /// `times` copies of a picture.
    pub fn repeated(image: Images<'_>, times: usize) -> Self {
        match image {
            Images::Bytes(values) => Self::Bytes(values.repeat(times)),
            Images::Floats(values) => Self::Floats(values.repeat(times)),
        }
    }

    /// To be read.
    pub fn images(&self) -> Images<'_> {
        match self {
            Self::Bytes(values) => Images::Bytes(values),
            Self::Floats(values) => Images::Floats(values),
        }
    }

    /// Appends pictures.
    ///
    /// # Errors
    /// If some are bytes and others floats.
    pub fn append(&mut self, images: Images<'_>) -> Result<()> {
        match (self, images) {
            (Self::Bytes(kept), Images::Bytes(values)) => kept.extend_from_slice(values),
            (Self::Floats(kept), Images::Floats(values)) => kept.extend_from_slice(values),
            _ => return Err(Error::input("pictures are bytes or floats, not both in one episode or batch")),
        }
        Ok(())
    }

    /// Forgets the first `count` values.
    pub(super) fn drop_first(&mut self, count: usize) {
        match self {
            Self::Bytes(values) => drop(values.drain(..count)),
            Self::Floats(values) => drop(values.drain(..count)),
        }
    }

    /// Brings pictures `[.., 3, H, W]` to another size as [`crate::image::resize`] does; they are floats then.
    pub(super) fn resize(&mut self, from: [usize; 2], to: [usize; 2]) {
        let resized = match self {
            Self::Bytes(values) => resize(values, from, to),
            Self::Floats(values) => resize(values, from, to),
        };
        *self = Self::Floats(resized);
    }

    /// Fills up with zeros to `len` values.
    pub(super) fn fill_up(&mut self, len: usize) {
        match self {
            Self::Bytes(values) => values.resize(len, 0),
            Self::Floats(values) => values.resize(len, 0.0),
        }
    }
}
