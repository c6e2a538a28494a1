//! Between YCbCr at 4:2:0, as videos hold it, and RGB.
//!
//! To RGB, this is FFmpeg's conversion as PyAV asks for it, to the last bit on x86: BT.601 whatever the stream is tagged
//! with, chroma repeated over 2x2 pixels, 16-bit products that are cut, not rounded. (Where the height is odd, which
//! encoders of 4:2:0 seldom allow, FFmpeg interpolates chroma between rows; this does not.)

use crate::image::Image;

/// A decoded picture: luma, and two chroma planes of half the width and height (rounded up), without padding.
#[derive(Debug, Clone)]
pub(super) struct Planes {
    pub width: usize,
    pub height: usize,
    pub luma: Vec<u8>,
    pub blue: Vec<u8>,
    pub red: Vec<u8>,
    /// Whether values use all of 0 to 255; else luma has 16 to 235 and chroma 16 to 240.
    pub full_range: bool,
}

/// What each value of a plane adds to a colour.
struct Tables {
    luma: [i16; 256],
    red_to_red: [i16; 256],
    red_to_green: [i16; 256],
    blue_to_green: [i16; 256],
    blue_to_blue: [i16; 256],
}

impl Tables {
    /// Coefficients are of 2^13: luma, then what Cr adds to red, Cb to blue, Cb and Cr to green.
    const fn new(black: i32, [luma, red, blue, green_blue, green_red]: [i32; 5]) -> Self {
        Self {
            luma: table(black, luma),
            red_to_red: table(128, red),
            red_to_green: table(128, green_red),
            blue_to_green: table(128, green_blue),
            blue_to_blue: table(128, blue),
        }
    }
}

const fn table(zero: i32, coefficient: i32) -> [i16; 256] {
    let mut out = [0; 256];
    let mut value = 0;
    while value < 256 {
        out[value] = (((value as i32 - zero) * 8 * coefficient) >> 16) as i16;
        value += 1;
    }
    out
}

static LIMITED: Tables = Tables::new(16, [9539, 13075, 16525, -3209, -6660]);
static FULL: Tables = Tables::new(0, [8192, 11485, 14516, -2819, -5850]);

impl Planes {
    /// The picture in RGB.
    pub fn to_rgb(&self) -> Image {
        let tables = if self.full_range { &FULL } else { &LIMITED };
        let (width, height) = (self.width, self.height);
        let mut pixels = vec![0; width * height * 3];
        let half = width.div_ceil(2);
        for (y, row) in pixels.chunks_exact_mut(width * 3).enumerate() {
            let luma = &self.luma[y * width..][..width];
            let blue = &self.blue[y / 2 * half..][..half];
            let red = &self.red[y / 2 * half..][..half];
            let pairs = row.chunks_mut(6).zip(luma.chunks(2)).zip(blue.iter().zip(red));
            for ((pixels, luma), (&blue, &red)) in pairs {
                let (blue, red) = (usize::from(blue), usize::from(red));
                let add = [
                    tables.red_to_red[red],
                    tables.blue_to_green[blue] + tables.red_to_green[red],
                    tables.blue_to_blue[blue],
                ];
                for (pixel, &luma) in pixels.chunks_exact_mut(3).zip(luma) {
                    let luma = tables.luma[usize::from(luma)];
                    for (value, add) in pixel.iter_mut().zip(add) {
                        *value = (luma + add).clamp(0, 255) as u8;
                    }
                }
            }
        }
        Image { width, height, pixels }
    }

    /// A picture of even sides in YCbCr of limited range: BT.601, chroma from the mean of 2x2 pixels.
    pub fn from_rgb(image: &Image) -> Self {
        let (width, height) = (image.width, image.height);
        let value = |[r, g, b]: [i32; 3], [cr, cg, cb]: [i32; 3], zero: i32, shift: i32| {
            // Coefficients are of 2^16; `shift` more bits are the number of pixels in the sum.
            let sum = r * cr + g * cg + b * cb + (zero << (16 + shift)) + (1 << (15 + shift));
            (sum >> (16 + shift)) as u8
        };
        let at = |x: usize, y: usize| {
            let pixel = &image.pixels[(y * width + x) * 3..][..3];
            [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2])]
        };
        let luma = (0..height)
            .flat_map(|y| (0..width).map(move |x| value(at(x, y), [16829, 33039, 6416], 16, 0)))
            .collect();
        let chroma = |coefficients: [i32; 3]| -> Vec<u8> {
            let mut plane = Vec::with_capacity(width / 2 * (height / 2));
            for y in (0..height).step_by(2) {
                for x in (0..width).step_by(2) {
                    let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                    let sum = four.iter().fold([0; 3], |s, p| [s[0] + p[0], s[1] + p[1], s[2] + p[2]]);
                    plane.push(value(sum, coefficients, 128, 2));
                }
            }
            plane
        };
        let (blue, red) = (chroma([-9714, -19071, 28785]), chroma([28785, -24103, -4682]));
        Self { width, height, luma, blue, red, full_range: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_white_and_grey_keep_their_value_both_ways() {
        for value in 0..=255 {
            let image = Image::filled(4, 2, [value; 3]);
            let planes = Planes::from_rgb(&image);
            assert!(planes.blue.iter().chain(&planes.red).all(|&v| v == 128), "{value}");
            let back = planes.to_rgb();
            assert!(back.pixels.iter().all(|&v| v.abs_diff(value) <= 1), "{value}: {:?}", &back.pixels[..3]);
        }
        assert_eq!(Planes::from_rgb(&Image::filled(2, 2, [0; 3])).luma, [16; 4]);
        assert_eq!(Planes::from_rgb(&Image::filled(2, 2, [255; 3])).luma, [235; 4]);
    }

    #[test]
    fn colours_come_back_within_two() {
        for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 240, 10], [12, 200, 180], [130, 7, 99]] {
            let back = Planes::from_rgb(&Image::filled(2, 2, colour)).to_rgb();
            for (a, b) in back.pixels.iter().zip(colour.iter().cycle()) {
                assert!(a.abs_diff(*b) <= 2, "{colour:?}: {:?}", &back.pixels[..3]);
            }
        }
    }

    #[test]
    fn odd_sides_have_a_chroma_value_for_the_last_pixel() {
        let (luma, chroma) = (vec![128; 15], vec![128; 6]);
        let planes =
            Planes { width: 5, height: 3, luma, blue: chroma.clone(), red: chroma, full_range: true };
        assert_eq!(planes.to_rgb().pixels, [128; 45]);
    }
}
