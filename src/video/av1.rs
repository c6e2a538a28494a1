//! AV1 by the crate `re_rav1d`: rav1d, the Rust port of dav1d, behind a safe interface.

use re_rav1d::dav1d::{Decoder, PixelLayout, PlanarImageComponent, Settings};

use super::{boxes::Fields, colour::Planes, track::Track};
use crate::{Error, Result};

/// Times the decoder may ask for more before it is taken to be stuck.
const PATIENCE: usize = 64;

/// A decoder that has seen nothing yet, and what it must see first.
pub(super) struct Av1 {
    decoder: Decoder,
    /// Sequence headers kept outside the samples.
    head: Vec<u8>,
    size: [usize; 2],
}

impl Av1 {
    /// A decoder of a track, on the calling thread alone.
    ///
    /// # Errors
    /// If the track's configuration is broken, or names a kind of picture that is not decoded.
    pub fn new(track: &Track) -> Result<Self> {
        let mut setup = Fields(&track.setup);
        let (_version, _level, kind) = (setup.u8()?, setup.u8()?, setup.u8()?);
        setup.u8()?;
        let bit = |n: u8| kind >> n & 1 == 1;
        let what = match () {
            () if bit(6) => "more than 8 bits a channel",
            () if bit(4) => "no colour",
            () if !bit(3) || !bit(2) => "colour at another resolution than 4:2:0",
            () => "",
        };
        if !what.is_empty() {
            return Err(unsupported(what));
        }
        let mut settings = Settings::new();
        settings.set_n_threads(1);
        settings.set_max_frame_delay(1);
        let [height, width] = track.size;
        settings.set_frame_size_limit(u32::try_from(height * width).unwrap_or(u32::MAX));
        let decoder = Decoder::with_settings(&settings)
            .map_err(|e| Error::failure(format!("cannot make an AV1 decoder: {e}")))?;
        Ok(Self { decoder, head: setup.0.to_vec(), size: track.size })
    }

    /// The picture of a sample.
    ///
    /// # Errors
    /// If the sample is broken.
    pub fn decode(&mut self, sample: &[u8]) -> Result<Planes> {
        let broken = |e: re_rav1d::dav1d::Error| Error::input(format!("the AV1 data are broken: {e}"));
        let mut input = std::mem::take(&mut self.head);
        input.extend(sample);
        let mut sent = self.decoder.send_data(input, None, None, None);
        let mut picture = None;
        for _ in 0..PATIENCE {
            match self.decoder.get_picture() {
                // The last one counts: a sample with several layers shows the best.
                Ok(new) => picture = Some(new),
                Err(e) if e.is_again() => {}
                Err(e) => return Err(broken(e)),
            }
            match sent {
                Ok(()) => break,
                Err(e) if e.is_again() => sent = self.decoder.send_pending_data(),
                Err(e) => return Err(broken(e)),
            }
        }
        let picture = picture.ok_or_else(|| Error::input("the AV1 data hold no whole picture"))?;
        let [height, width] = self.size;
        if (picture.width() as usize, picture.height() as usize) != (width, height) {
            return Err(Error::input(format!(
                "the AV1 picture is of {}x{}, its track of {width}x{height}",
                picture.width(),
                picture.height()
            )));
        }
        if picture.pixel_layout() != PixelLayout::I420 || picture.bit_depth() != 8 {
            return Err(unsupported("pictures that are not 4:2:0 of 8 bits"));
        }
        let plane = |component, width: usize, height: usize| {
            let (data, stride) = (picture.plane(component), picture.stride(component) as usize);
            let rows = data.chunks(stride.max(1)).take(height);
            rows.flat_map(|row| &row[..width.min(row.len())]).copied().collect::<Vec<u8>>()
        };
        let (half, halves) = (width.div_ceil(2), height.div_ceil(2));
        let luma = plane(PlanarImageComponent::Y, width, height);
        let blue = plane(PlanarImageComponent::U, half, halves);
        let red = plane(PlanarImageComponent::V, half, halves);
        // PyAV takes every AV1 picture for one of limited range, whatever its tag; LeRobot writes no other.
        Ok(Planes { width, height, luma, blue, red, full_range: false })
    }
}

fn unsupported(what: &str) -> Error {
    Error::input(format!(
        "its AV1 stream has {what}, which is not supported; encode it again as yuv420p (ffmpeg -i IN -pix_fmt yuv420p OUT.mp4)"
    ))
}
