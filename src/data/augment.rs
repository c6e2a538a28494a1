//! Augmentation: training pictures cropped and recoloured at random, as drawn by the caller's random numbers.
//!
//! ```text
//! crop        a window of side share u ~ U[S, 1] (the same of both sides), its place uniform, resized to the whole
//! colours, in a random order, each clamped to [0, 1]; grey = 0.2989 R + 0.587 G + 0.114 B
//! brightness  f x                                     f ~ U[max(0, 1 − B), 1 + B]
//! contrast    f x + (1 − f) mean of the picture's grey   f ~ U[max(0, 1 − C), 1 + C]
//! saturation  f x + (1 − f) grey                      f ~ U[max(0, 1 − S), 1 + S]
//! hue         the hue of HSV turned by f of a circle  f ~ U[−H, H]
//! ```
//! Crops reach up to the whole picture, which is what the policy sees when it acts. The colours are those of
//! torchvision's `ColorJitter` on float pictures (`torchvision.transforms.functional.adjust_*`, version 0.29), and
//! resizing is [`resize`]; a picture is rounded to bytes once, at the end.

use super::cache::to_byte;
use crate::rng::Rng;
use crate::{Error, Result, image::resize};

/// What may be done to a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// S, the smallest side of a crop as a share of the picture's; 1 for none.
    pub random_crop: f64,
    /// Brightness, contrast, saturation and hue: B, C, S, H; 0 for none.
    pub color_jitter: [f64; 4],
}

/// A change of colours, with its f.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Colour {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    Hue(f32),
}

/// A window of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

/// What is done to one sample's pictures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Look {
    window: Option<Window>,
    colours: Vec<Colour>,
}

impl Augmentation {
    /// Nothing.
    pub const NONE: Self = Self { random_crop: 1.0, color_jitter: [0.0; 4] };

    /// Checks the ranges.
    ///
    /// # Errors
    /// Names the flag that is of no use.
    pub fn check(&self) -> Result<()> {
        if !(self.random_crop > 0.0 && self.random_crop <= 1.0) {
            return Err(Error::input(format!(
                "--random-crop is {}: use a share above 0, up to 1, which crops nothing",
                self.random_crop
            )));
        }
        let [.., hue] = self.color_jitter;
        if self.color_jitter.iter().any(|range| !(range.is_finite() && *range >= 0.0)) || hue > 0.5 {
            return Err(Error::input(format!(
                "--color-jitter is {:?}: use ranges of brightness, contrast, saturation and hue that are not negative, \
                 the hue's at most 0.5",
                self.color_jitter
            )));
        }
        Ok(())
    }

    /// Draws what is done to pictures `[3, H, W]`. It takes the same numbers whatever is switched on.
    pub(super) fn draw(&self, [_, height, width]: [usize; 3], rng: &mut Rng) -> Look {
        let share = self.random_crop + (1.0 - self.random_crop) * rng.uniform();
        let [down, right] = [rng.uniform(), rng.uniform()];
        let side = |side: usize| ((side as f64 * share).round() as usize).clamp(1, side);
        let place = |room: usize, at: f64| ((room + 1) as f64 * at) as usize;
        let (h, w) = (side(height), side(width));
        let window =
            Window { top: place(height - h, down), left: place(width - w, right), height: h, width: w };
        let order = rng.permutation(4);
        let mut factor = |range: f64, middle: f64| {
            let low = if middle == 0.0 { -range } else { (middle - range).max(0.0) };
            (low + (middle + range - low) * rng.uniform()) as f32
        };
        let [brightness, contrast, saturation, hue] = self.color_jitter;
        let all = [
            (brightness, Colour::Brightness(factor(brightness, 1.0))),
            (contrast, Colour::Contrast(factor(contrast, 1.0))),
            (saturation, Colour::Saturation(factor(saturation, 1.0))),
            (hue, Colour::Hue(factor(hue, 0.0))),
        ];
        let drawn = order.into_iter().map(|at| all[at as usize]).filter(|(range, _)| *range > 0.0);
        Look {
            window: ((h, w) != (height, width)).then_some(window),
            colours: drawn.map(|(_, c)| c).collect(),
        }
    }
}

impl Look {
    /// Changes a picture `[3, H, W]`; nothing to change leaves every byte.
    pub fn apply(&self, planes: &mut [u8], shape: [usize; 3]) {
        if self.window.is_none() && self.colours.is_empty() {
            return;
        }
        let levels = self.levels(planes, shape);
        planes.iter_mut().zip(levels).for_each(|(byte, level)| *byte = to_byte(level));
    }

    /// The changed picture, in [0, 1].
    fn levels(&self, planes: &[u8], [_, height, width]: [usize; 3]) -> Vec<f32> {
        let mut levels = match self.window {
            None => planes.iter().map(|&byte| f32::from(byte) / 255.0).collect(),
            Some(Window { top, left, height: h, width: w }) => {
                let rows = planes.chunks_exact(width).enumerate();
                let rows = rows.filter(|(row, _)| (top..top + h).contains(&(row % height)));
                let window: Vec<u8> = rows.flat_map(|(_, row)| &row[left..left + w]).copied().collect();
                resize(&window, [h, w], [height, width])
            }
        };
        for colour in &self.colours {
            colour.apply(&mut levels);
        }
        levels
    }
}

fn grey([r, g, b]: [f32; 3]) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

impl Colour {
    /// Changes a picture `[3, H, W]` in [0, 1].
    fn apply(self, levels: &mut [f32]) {
        let size = levels.len() / 3;
        let (red, rest) = levels.split_at_mut(size);
        let (green, blue) = rest.split_at_mut(size);
        let mut each = |change: &dyn Fn([f32; 3]) -> [f32; 3]| {
            for ((r, g), b) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
                [*r, *g, *b] = change([*r, *g, *b]);
            }
        };
        let mixed = |f: f32, value: f32, with: f32| (f * value + (1.0 - f) * with).clamp(0.0, 1.0);
        match self {
            Self::Brightness(f) => each(&|pixel| pixel.map(|value| (f * value).clamp(0.0, 1.0))),
            Self::Contrast(f) => {
                let sum = std::cell::Cell::new(0.0);
                each(&|pixel| {
                    sum.set(sum.get() + f64::from(grey(pixel)));
                    pixel
                });
                let mean = (sum.get() / size as f64) as f32;
                each(&|pixel| pixel.map(|value| mixed(f, value, mean)));
            }
            Self::Saturation(f) => each(&|pixel| pixel.map(|value| mixed(f, value, grey(pixel)))),
            Self::Hue(f) => each(&|pixel| turned(pixel, f)),
        }
    }
}

/// A colour whose hue is turned by a share of the circle, by way of HSV.
fn turned([r, g, b]: [f32; 3], by: f32) -> [f32; 3] {
    let (value, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = value - least;
    if chroma == 0.0 {
        return [r, g, b];
    }
    // Sixths of the circle from red.
    let sixths = if value == r {
        (g - b) / chroma
    } else if value == g {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    let sixths = (sixths / 6.0 + by).rem_euclid(1.0) * 6.0;
    let saturation = chroma / value;
    let part = sixths - sixths.floor();
    let none = value * (1.0 - saturation);
    let (falling, rising) = (value * (1.0 - saturation * part), value * (1.0 - saturation * (1.0 - part)));
    match sixths as u32 % 6 {
        0 => [value, rising, none],
        1 => [falling, value, none],
        2 => [none, value, rising],
        3 => [none, falling, value],
        4 => [rising, none, value],
        _ => [value, none, falling],
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::rng::Stream;

    /// A factor, and the picture that comes out.
    type Cases = Vec<(f32, Vec<f32>)>;

    /// What torchvision makes of a picture, by tests/golden/augment.py.
    #[derive(Deserialize)]
    struct Golden {
        shape: [usize; 3],
        picture: Vec<u8>,
        brightness: Cases,
        contrast: Cases,
        saturation: Cases,
        hue: Cases,
        /// Top, left, height, width.
        crop: Vec<([usize; 4], Vec<f32>)>,
        /// A crop, then brightness 1.2, hue −0.3, saturation 0.4, contrast 1.5.
        all: ([usize; 4], Vec<f32>),
    }

    fn golden() -> Golden {
        serde_json::from_str(include_str!("../../tests/golden/augment.json")).expect("a golden file")
    }

    fn window([top, left, height, width]: [usize; 4]) -> Option<Window> {
        Some(Window { top, left, height, width })
    }

    #[test]
    fn every_change_is_torchvisions() {
        let golden = golden();
        let agree = |look: Look, expected: &[f32]| {
            let found = look.levels(&golden.picture, golden.shape);
            let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(found.len() == expected.len() && apart < 2e-6, "{look:?}: {apart}");
        };
        type Kind = fn(f32) -> Colour;
        let kinds: [(&Cases, Kind); 4] = [
            (&golden.brightness, Colour::Brightness),
            (&golden.contrast, Colour::Contrast),
            (&golden.saturation, Colour::Saturation),
            (&golden.hue, Colour::Hue),
        ];
        for (cases, colour) in kinds {
            for (factor, expected) in cases {
                agree(Look { window: None, colours: vec![colour(*factor)] }, expected);
            }
        }
        for (place, expected) in &golden.crop {
            agree(Look { window: window(*place), colours: Vec::new() }, expected);
        }
        let colours =
            vec![Colour::Brightness(1.2), Colour::Hue(-0.3), Colour::Saturation(0.4), Colour::Contrast(1.5)];
        agree(Look { window: window(golden.all.0), colours }, &golden.all.1);
    }

    const STRONG: Augmentation = Augmentation { random_crop: 0.5, color_jitter: [0.5, 0.5, 0.5, 0.5] };

    #[test]
    fn the_key_decides_and_nothing_asked_for_changes_nothing() {
        let golden = golden();
        let varied = |by: Augmentation, sample| {
            let mut rng = Rng::new(1, Stream::Augmentation, 2, sample);
            let mut picture = golden.picture.clone();
            by.draw(golden.shape, &mut rng).apply(&mut picture, golden.shape);
            picture
        };
        assert_eq!(varied(STRONG, 3), varied(STRONG, 3));
        assert_ne!(varied(STRONG, 3), varied(STRONG, 4));
        assert_eq!(varied(Augmentation::NONE, 3), golden.picture);
        for sample in 0..50 {
            let look = STRONG.draw([3, 40, 30], &mut Rng::new(1, Stream::Augmentation, 0, sample));
            let Window { top, left, height, width } =
                look.window.unwrap_or(Window { top: 0, left: 0, height: 40, width: 30 });
            assert!((20..=40).contains(&height) && (15..=30).contains(&width) && look.colours.len() == 4);
            assert!(top + height <= 40 && left + width <= 30, "{look:?}");
        }
    }

    #[test]
    fn ranges_of_no_use_are_named() {
        for (crop, jitter, flag) in [
            (0.0, [0.0; 4], "--random-crop"),
            (1.1, [0.0; 4], "--random-crop"),
            (f64::NAN, [0.0; 4], "--random-crop"),
            (1.0, [0.0, -1.0, 0.0, 0.0], "--color-jitter"),
            (1.0, [0.0, 0.0, 0.0, 0.6], "--color-jitter"),
        ] {
            let error = Augmentation { random_crop: crop, color_jitter: jitter }.check().expect_err(flag);
            assert!(error.to_string().contains(flag), "{error}");
        }
    }
}
