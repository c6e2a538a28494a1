//! H.264 by the crate `rusty_h264`: safe Rust, pictures in decoding order.
//!
//! MP4 files keep parameter sets in `avcC` and put a length before each NAL unit; the decoder wants start codes.

use rusty_h264::{DecodeError, Decoder};

use super::{boxes::Fields, colour::Planes, sps::Sps, track::Track};
use crate::{Error, Result};

const START_CODE: [u8; 4] = [0, 0, 0, 1];
const INSTANT_REFRESH: u8 = 5;
const SEQUENCE_PARAMETERS: u8 = 7;

/// A decoder that has seen nothing yet, and what it must see first.
pub(super) struct H264 {
    decoder: Decoder,
    /// Bytes of the length before a NAL unit.
    length_size: usize,
    /// The next input: parameter sets to begin with, then the sample.
    input: Vec<u8>,
    size: [usize; 2],
    full_range: bool,
}

impl H264 {
    /// A decoder of a track.
    ///
    /// # Errors
    /// If the track's configuration is broken, or names a kind of picture that is not decoded.
    pub fn new(track: &Track) -> Result<Self> {
        let mut setup = Fields(&track.setup);
        setup.take(4)?;
        let length_size = length_size(setup.u8()?);
        let input = Vec::new();
        let mut new =
            Self { decoder: Decoder::new(), length_size, input, size: track.size, full_range: false };
        for mask in [0x1f, 0xff] {
            for _ in 0..setup.u8()? & mask {
                let length = setup.u16()?.into();
                new.add(setup.take(length)?)?;
            }
        }
        Ok(new)
    }

    /// Adds a NAL unit to the input, once its size, if it says one, is the track's.
    fn add(&mut self, unit: &[u8]) -> Result<()> {
        if is(unit, SEQUENCE_PARAMETERS) {
            let sps = Sps::parse(unit)?;
            if sps.size != self.size {
                let [height, width] = sps.size;
                return Err(Error::input(format!(
                    "its H.264 stream is of {width}x{height}, its track of {}x{}",
                    self.size[1], self.size[0]
                )));
            }
            self.full_range = sps.full_range;
        }
        self.input.extend(START_CODE);
        self.input.extend(unit);
        Ok(())
    }

    /// The picture of a sample.
    ///
    /// # Errors
    /// If the sample is broken, or uses what the decoder does not know.
    pub fn decode(&mut self, sample: &[u8]) -> Result<Planes> {
        for unit in units(sample, self.length_size)? {
            self.add(unit)?;
        }
        let decoded = self.decoder.decode(&self.input);
        self.input.clear();
        let frame = match decoded {
            Ok(Some(frame)) if [frame.height, frame.width] == self.size => frame,
            Ok(Some(_)) => return Err(Error::input("the H.264 picture is of another size than its track")),
            Ok(None) => return Err(Error::input("the H.264 data hold no whole picture")),
            Err(DecodeError::Unsupported(what)) => {
                return Err(Error::input(format!(
                    "the H.264 stream uses {what}, which is not supported; encode it again (ffmpeg -i IN -c:v libx264 -pix_fmt yuv420p OUT.mp4)"
                )));
            }
            Err(e) => return Err(Error::input(format!("the H.264 data are broken: {e}"))),
        };
        let [height, width] = self.size;
        let (luma, blue, red) = (frame.y, frame.u, frame.v);
        Ok(Planes { width, height, luma, blue, red, full_range: self.full_range })
    }
}

/// Whether what follows a sample refers to nothing before it (an IDR picture).
pub(super) fn forgets(track: &Track, sample: &[u8]) -> bool {
    let length_size = length_size(track.setup.get(4).copied().unwrap_or(3));
    units(sample, length_size).is_ok_and(|units| units.iter().any(|unit| is(unit, INSTANT_REFRESH)))
}

/// Bytes of the length before a NAL unit, from the byte of `avcC` that says it.
fn length_size(field: u8) -> usize {
    usize::from(field & 3) + 1
}

fn is(unit: &[u8], kind: u8) -> bool {
    unit.first().is_some_and(|head| head & 0x1f == kind)
}

/// The NAL units of a sample.
fn units(sample: &[u8], length_size: usize) -> Result<Vec<&[u8]>> {
    let mut rest = Fields(sample);
    let mut units = Vec::new();
    while !rest.0.is_empty() {
        let length = rest.take(length_size)?.iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
        units.push(rest.take(length)?);
    }
    Ok(units)
}
