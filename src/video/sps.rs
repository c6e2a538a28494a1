//! What an H.264 sequence parameter set says of the pictures: size, and whether black is 0 or 16.
//!
//! It is read before the decoder sees it, so that no memory is taken for a size the file does not have.

use crate::{Error, Result};

/// The part of a sequence parameter set that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sps {
    /// `[height, width]` after cropping.
    pub size: [usize; 2],
    /// Whether luma and chroma use all of 0 to 255 (FFmpeg's yuvj420p).
    pub full_range: bool,
}

impl Sps {
    /// Reads the NAL unit, its head included.
    ///
    /// # Errors
    /// If it ends early, or names a kind of picture that is not decoded: other than 8 bits, other than 4:2:0.
    pub fn parse(unit: &[u8]) -> Result<Self> {
        let mut bits = Bits { bytes: without_escapes(unit), at: 8 };
        let profile = bits.read(8)?;
        bits.read(16)?;
        bits.unsigned()?;
        if [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135].contains(&profile) {
            let chroma = bits.unsigned()?;
            if chroma != 1 {
                let name =
                    ["monochrome", "4:2:0", "4:2:2", "4:4:4"].get(chroma as usize).unwrap_or(&"unknown");
                return Err(unsupported(&format!("{name} colour")));
            }
            let depths = [bits.unsigned()?, bits.unsigned()?];
            if depths != [0, 0] {
                return Err(unsupported(&format!("{} bits a channel", depths[0].saturating_add(8))));
            }
            bits.read(1)?;
            if bits.read(1)? == 1 {
                for list in 0..8 {
                    if bits.read(1)? == 1 {
                        bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.unsigned()?;
        match bits.unsigned()? {
            0 => drop(bits.unsigned()?),
            1 => {
                bits.read(1)?;
                bits.unsigned()?;
                bits.unsigned()?;
                for _ in 0..bits.unsigned()?.min(255) {
                    bits.unsigned()?;
                }
            }
            _ => {}
        }
        bits.unsigned()?;
        bits.read(1)?;
        let (columns, rows) = (bits.unsigned()?, bits.unsigned()?);
        let frames_only = bits.read(1)?;
        if frames_only == 0 {
            bits.read(1)?;
        }
        bits.read(1)?;
        let vertical = 2 - frames_only;
        let mut crop = [0; 4];
        if bits.read(1)? == 1 {
            for edge in &mut crop {
                *edge = bits.unsigned()?;
            }
        }
        let side = |blocks: u32, unit: u32, crop: &[u32]| -> usize {
            let whole = (u64::from(blocks) + 1) * 16 * u64::from(unit);
            let cut = crop.iter().map(|&c| u64::from(c)).sum::<u64>() * 2 * u64::from(unit);
            usize::try_from(whole.saturating_sub(cut)).unwrap_or(usize::MAX)
        };
        let size = [side(rows, vertical, &crop[2..]), side(columns, 1, &crop[..2])];
        Ok(Self { size, full_range: bits.read(1)? == 1 && bits.full_range()? })
    }
}

fn unsupported(what: &str) -> Error {
    Error::input(format!(
        "its H.264 stream has {what}, which is not supported; encode it again as yuv420p (ffmpeg -i IN -pix_fmt yuv420p OUT.mp4)"
    ))
}

/// The bytes without each 3 that stands after two zeros: it keeps them from looking like a start code.
fn without_escapes(unit: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let keep = |&byte: &u8| {
        let escape = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        !escape
    };
    unit.iter().copied().filter(keep).collect()
}

struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// The next `count` bits, at most 32.
    fn read(&mut self, count: usize) -> Result<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8).ok_or_else(|| {
                Error::input("its H.264 stream is broken: a sequence parameter set ends early")
            })?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Ok(value)
    }

    /// An Exp-Golomb number. (A signed one has as many bits.)
    fn unsigned(&mut self) -> Result<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return Err(Error::input("its H.264 stream is broken: a number of more than 32 bits"));
            }
        }
        Ok((1 << zeros) - 1 + self.read(zeros)?)
    }

    fn skip_scaling_list(&mut self, length: usize) -> Result<()> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..length {
            if next != 0 {
                let code = i64::from(self.unsigned()?);
                let delta = if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
        Ok(())
    }

    /// The range flag of the usability information, false where it is not said.
    fn full_range(&mut self) -> Result<bool> {
        if self.read(1)? == 1 && self.read(8)? == 255 {
            self.read(32)?;
        }
        if self.read(1)? == 1 {
            self.read(1)?;
        }
        if self.read(1)? == 0 {
            return Ok(false);
        }
        self.read(3)?;
        Ok(self.read(1)? == 1)
    }
}
