//! 8-bit RGB pictures: rows of pixels for people and PNG files, planes for networks.

mod resize;

pub use resize::{Pixel, resize};

use crate::{Error, Result};

/// An RGB picture, `pixels[(y * width + x) * 3 + channel]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Height · width · 3 bytes, red first.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A picture of one colour.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Self { width, height, pixels: colour.repeat(width * height) }
    }

    /// The picture of planes `[3, height, width]`, as [`Image::planar`] gives them.
    ///
    /// # Panics
    /// If there are fewer values.
    pub fn of_planes([height, width]: [usize; 2], planes: &[u8]) -> Self {
        let plane = height * width;
        let pixels = (0..plane).flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]]).collect();
        Self { width, height, pixels }
    }

    /// The planes, channel by channel: `[3, height, width]`, as networks read them.
    pub fn planar(&self) -> Vec<u8> {
        let mut planes = Vec::with_capacity(self.pixels.len());
        for channel in 0..3 {
            planes.extend(self.pixels.iter().skip(channel).step_by(3));
        }
        planes
    }

    /// Half the size: each pixel is the mean of 2x2, halves rounded up
    /// (what OpenCV's `INTER_LINEAR` gives at exactly 2:1).
    pub fn halved(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut pixels = Vec::with_capacity(width * height * 3);
        let at = |x: usize, y: usize, c: usize| u16::from(self.pixels[(y * self.width + x) * 3 + c]);
        for y in 0..height {
            for x in 0..width {
                for c in 0..3 {
                    let sum = at(2 * x, 2 * y, c)
                        + at(2 * x + 1, 2 * y, c)
                        + at(2 * x, 2 * y + 1, c)
                        + at(2 * x + 1, 2 * y + 1, c);
                    pixels.push(((sum + 2) / 4) as u8);
                }
            }
        }
        Self { width, height, pixels }
    }

    /// The picture as a PNG file's bytes.
    ///
    /// # Errors
    /// If the sizes do not fit the pixels.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&self.pixels))
            .map_err(|e| Error::failure(format!("cannot encode a PNG: {e}")))?;
        Ok(bytes)
    }

    /// A picture from a PNG file's bytes; grey and palette pictures become RGB, alpha is dropped.
    ///
    /// # Errors
    /// If the bytes are no PNG or are cut short.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let broken = |e: png::DecodingError| Error::input(format!("not a readable PNG: {e}"));
        let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(broken)?;
        let size = reader.output_buffer_size().ok_or_else(|| Error::input("a PNG too large to hold"))?;
        let mut raw = vec![0; size];
        let info = reader.next_frame(&mut raw).map_err(broken)?;
        raw.truncate(info.buffer_size());
        let pixels = match info.color_type {
            png::ColorType::Rgb => raw,
            png::ColorType::Rgba => raw.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
            png::ColorType::Grayscale => raw.iter().flat_map(|&g| [g; 3]).collect(),
            png::ColorType::GrayscaleAlpha => raw.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
            png::ColorType::Indexed => return Err(Error::input("a PNG with an unexpanded palette")),
        };
        Ok(Self { width: info.width as usize, height: info.height as usize, pixels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_keeps_every_pixel() {
        let image = Image { width: 3, height: 2, pixels: (0..18).map(|v| v * 14).collect() };
        let bytes = image.to_png().expect("encodes");
        assert_eq!(Image::from_png(&bytes).expect("decodes"), image);
        assert!(Image::from_png(&bytes[..bytes.len() / 2]).is_err(), "a cut file is an error");
    }

    #[test]
    fn planes_and_halves_follow_their_definitions() {
        let image = Image { width: 2, height: 2, pixels: vec![0, 1, 2, 1, 5, 2, 0, 1, 2, 1, 1, 2] };
        assert_eq!(image.planar(), [0, 1, 0, 1, 1, 5, 1, 1, 2, 2, 2, 2]);
        assert_eq!(image.halved().pixels, [1, 2, 2]);
    }
}
