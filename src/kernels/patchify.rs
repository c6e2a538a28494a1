//! Pictures cut into square patches, one patch a row.
//!
//! ```text
//! rows[first + b N + n, (c P + py) P + px] = f(images[b, c, P (n / across) + py, P (n mod across) + px])
//! N = down · across, down = ⌊height / P⌋, across = ⌊width / P⌋
//! f(x) = x for floats, x / 255 for bytes, and then scale[c] · f + shift[c] where there is an affine binding
//! ```
//! Columns stand in the order of a Conv2d weight `[d, C, P, P]`. A convolution whose kernel and stride are both P
//! is then the product Y = rows Wᵀ + bias with W as `[d, C P P]`; its weight gradient is the product dYᵀ rows and
//! its bias gradient the column sums of dY. Pictures are data, so there is no gradient through this kernel. What
//! does not fill a patch at the right and lower edges is left out, as Conv2d leaves it out.
//!
//! Byte i of a byte binding is byte i mod 4, counted from the lowest bits, of word i / 4; a float binding is read
//! as words too, so that one shader serves both.

use super::check::{Case, Data};
use super::shader::shader;
use super::{AdapterClass, Describe, Dispatch, Float, Io, Slice, word};

/// The cut. Inputs: images `[batch, channels, height, width]` (bytes or floats), affine `[2, channels]` (scales,
/// then shifts; or nothing). Outputs, in place: rows
/// `[first + batch · N or more, channels · patch · patch]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Patchify {
    /// Pictures.
    pub batch: usize,
    /// Colours of all frames stacked in a picture.
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// P: pixels along a patch's side.
    pub patch: usize,
    /// Whether the pictures are bytes.
    pub bytes: bool,
    /// Whether the affine binding is there: for a mean µ and a deviation σ, scale 1/σ and shift −µ/σ.
    pub normalize: bool,
    /// The first row that is written; those before it are another camera's.
    pub first: usize,
}

impl Patchify {
    /// N: patches of a picture.
    pub fn patches(&self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// Elements of a row.
    pub fn columns(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    fn len(&self) -> usize {
        self.batch * self.patches() * self.columns()
    }
}

impl Describe for Patchify {
    const NAME: &'static str = "patchify";

    fn dispatch(&self, _: AdapterClass) -> Dispatch {
        // Runs begin where a word of bytes does.
        let run = if self.patch.is_multiple_of(4) && self.width.is_multiple_of(4) { 4 } else { 1 };
        let sizes = [
            ("CHANNELS", self.channels),
            ("HEIGHT", self.height),
            ("WIDTH", self.width),
            ("SIDE", self.patch),
        ];
        let dispatch = Dispatch::linear(shader!("patchify"), self.len() / run, 256).with("RUN", run as f64);
        sizes.into_iter().fold(dispatch, |dispatch, (knob, size)| dispatch.with(knob, size as f64))
    }

    fn params(&self) -> Vec<u32> {
        let (bytes, normalize) = (u32::from(self.bytes), u32::from(self.normalize));
        vec![word(self.len()), bytes, normalize, word(self.first * self.columns())]
    }

    fn twin<T: Float>(&self, io: &mut Io<'_, '_, T>) {
        let (images, affine) = (io.inputs[0], io.inputs[1].floats());
        let pixel = |at: usize| match images {
            Slice::U8(bytes) => T::of(f64::from(bytes[at])) / T::of(255.0),
            other => other.floats()[at],
        };
        let (patch, patches, across) = (self.patch, self.patches(), self.width / self.patch);
        let rows = &mut io.outputs[0][self.first * self.columns()..][..self.len()];
        for (row, out) in rows.chunks_exact_mut(self.columns()).enumerate() {
            let (entry, place) = (row / patches, row % patches);
            for (column, value) in out.iter_mut().enumerate() {
                let channel = column / (patch * patch);
                let y = place / across * patch + column / patch % patch;
                let x = place % across * patch + column % patch;
                *value = pixel(((entry * self.channels + channel) * self.height + y) * self.width + x);
                if self.normalize {
                    *value = *value * affine[channel] + affine[self.channels + channel];
                }
            }
        }
    }

    fn flops(&self) -> u64 {
        self.len() as u64
    }
}

impl Patchify {
    /// The cases that tests and `doctor` run.
    pub fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |batch, channels, height, width, patch, bytes, normalize, first| {
            let kernel = Patchify { batch, channels, height, width, patch, bytes, normalize, first };
            let (rows, len) = (first * kernel.columns() + kernel.len(), batch * channels * height * width);
            let name = format!("{batch}x{channels}x{height}x{width} by {patch}");
            let name = name + if bytes { " bytes" } else { "" } + if normalize { " normalized" } else { "" };
            let mut case = Case::new(name, kernel);
            let byte = |i: usize| (i * 37 + i / 256) as u8;
            case = if bytes {
                case.data(Data::U8((0..len).map(byte).collect()))
            } else {
                case.floats((0..len).map(|i| f32::from(byte(i)) / 64.0 - 1.0).collect())
            };
            case = if normalize { case.input(2 * channels) } else { case.data(Data::Nothing) };
            case.outputs.push(vec![7.0; rows]);
            cases.push(case);
        };
        for bytes in [false, true] {
            for normalize in [false, true] {
                add(1, 1, 1, 1, 1, bytes, normalize, 0);
                add(3, 3, 17, 63, 3, bytes, normalize, 5);
                add(2, 12, 65, 129, 16, bytes, normalize, 0);
                add(1, 3, 128, 128, 16, bytes, normalize, 64);
            }
        }
        // More than 65,535 workgroups.
        add(1, 1, 4097, 4096, 1, true, false, 0);
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_of_rows_is_the_convolution() {
        let kernel = Patchify {
            batch: 2,
            channels: 12,
            height: 7,
            width: 11,
            patch: 3,
            bytes: true,
            normalize: true,
            first: 0,
        };
        let (c, h, w, p) = (12, 7, 11, 3);
        let images: Vec<u8> = (0..2 * c * h * w).map(|i| (i * 89 % 251) as u8).collect();
        let affine: Vec<f64> = (0..2 * c).map(|i| 0.3 + 0.1 * i as f64).collect();
        let weight: Vec<f64> = (0..c * p * p).map(|i| (i as f64 * 0.7).sin()).collect();
        let mut rows = vec![0.0; 2 * kernel.patches() * kernel.columns()];
        kernel.twin(&mut Io {
            inputs: &[Slice::U8(&images), Slice::F(&affine)],
            outputs: &mut [&mut rows[..]],
        });
        for b in 0..2 {
            for y in 0..2 {
                for x in 0..3 {
                    // Conv2d's own sum, stride 3: weight[0, c, py, px] over the window at (3 y, 3 x).
                    let mut expected = 0.0;
                    for channel in 0..c {
                        for (py, px) in (0..9).map(|i| (i / 3, i % 3)) {
                            let at = ((b * c + channel) * h + 3 * y + py) * w + 3 * x + px;
                            let value = f64::from(images[at]) / 255.0 * affine[channel] + affine[c + channel];
                            expected += weight[(channel * p + py) * p + px] * value;
                        }
                    }
                    let row = &rows[(b * 6 + y * 3 + x) * 108..][..108];
                    let product: f64 = row.iter().zip(&weight).map(|(r, w)| r * w).sum();
                    approx::assert_relative_eq!(product, expected, max_relative = 1e-12);
                }
            }
        }
    }
}
