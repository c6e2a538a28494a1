//! The first video track of a file: where each sample (a compressed frame) lies, and when it is shown.
//!
//! Files keep samples in decoding order; with B-frames they are shown in another. A frame's number, everywhere else,
//! is its place in the order of showing, after what an edit list cuts off.

use super::{Codec, boxes::Fields};
use crate::{Error, Result};

/// Longest side of a picture that is believed.
const MAX_SIDE: usize = 8192;

/// Smallest compressed frame that is believed, in bytes: what bounds the tables by the file's own size.
const MIN_SAMPLE: u64 = 8;

/// One compressed frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u32,
    /// Whether decoding can begin here.
    pub sync: bool,
    /// When it is shown, in units of the track's clock; the first shown frame is not always at 0.
    pub shown: i64,
}

/// What a file's tables say of its first video track.
#[derive(Debug)]
pub(super) struct Track {
    pub codec: Codec,
    /// The decoder's configuration: the content of `avcC` or `av1C`.
    pub setup: Vec<u8>,
    /// `[height, width]`.
    pub size: [usize; 2],
    /// Ticks of the track's clock in a second.
    pub timescale: u32,
    /// Average frames a second.
    pub fps: f64,
    /// In decoding order.
    pub samples: Vec<Sample>,
    /// The sample of each shown frame.
    pub order: Vec<u32>,
}

impl Track {
    /// The track from a movie box's content, in a file of `length` bytes.
    ///
    /// # Errors
    /// If the tables contradict themselves or the file, or the track is of an unknown kind.
    pub fn parse(movie: &[u8], length: u64) -> Result<Self> {
        let movie = Fields(movie);
        if movie.find(b"mvex")?.is_some() {
            return Err(Error::input(
                "is a fragmented MP4 file, which is not supported; rewrite it (ffmpeg -i IN -c copy OUT.mp4)",
            ));
        }
        let mut header = movie.need(b"mvhd")?;
        let version = header.version()?;
        header.take(if version == 0 { 8 } else { 16 })?;
        let movie_scale = header.u32()?;
        let mut rest = movie;
        while let Some((kind, track)) = rest.next_box()? {
            if &kind != b"trak" {
                continue;
            }
            let media = track.need(b"mdia")?;
            let mut handler = media.need(b"hdlr")?;
            handler.take(8)?;
            if handler.take(4)? == b"vide" {
                return Self::video(track, media, movie_scale, length);
            }
        }
        Err(Error::input("has no video track"))
    }

    fn video(track: Fields<'_>, media: Fields<'_>, movie_scale: u32, length: u64) -> Result<Self> {
        let mut header = media.need(b"mdhd")?;
        let version = header.version()?;
        header.take(if version == 0 { 8 } else { 16 })?;
        let timescale = header.u32()?;
        if timescale == 0 {
            return Err(Error::input("has a video track whose clock stands still"));
        }
        let tables = media.need(b"minf")?.need(b"stbl")?;
        let (codec, setup, size) = description(tables.need(b"stsd")?)?;
        let mut samples = sizes(tables.need(b"stsz")?, length)?;
        offsets(&mut samples, tables, length)?;
        let ticks = times(&mut samples, tables)?;
        if let Some(mut table) = tables.find(b"stss")? {
            table.version()?;
            samples.iter_mut().for_each(|sample| sample.sync = false);
            for _ in 0..table.entries(4)? {
                let number = table.u32()? as usize;
                let sample = number.checked_sub(1).and_then(|i| samples.get_mut(i));
                sample.ok_or_else(|| Error::input(format!("lists frame {number}, which it has not")))?.sync =
                    true;
            }
        }
        let shown = match track.find(b"edts")? {
            Some(edits) => edit(edits.need(b"elst")?, timescale, movie_scale)?,
            None => (i64::MIN, i64::MAX),
        };
        let mut order: Vec<u32> = (0..samples.len() as u32).collect();
        order.retain(|&i| (shown.0..shown.1).contains(&samples[i as usize].shown));
        order.sort_by_key(|&i| samples[i as usize].shown);
        if order.is_empty() {
            return Err(Error::input("has a video track without frames"));
        }
        let fps = samples.len() as f64 * f64::from(timescale) / ticks.max(1) as f64;
        Ok(Self { codec, setup, size, timescale, fps, samples, order })
    }
}

/// Codec, its configuration, and `[height, width]`, from the sample description.
fn description(mut table: Fields<'_>) -> Result<(Codec, Vec<u8>, [usize; 2])> {
    table.version()?;
    if table.u32()? != 1 {
        return Err(Error::input("has a video track of several descriptions, which is not supported"));
    }
    let (kind, mut entry) = table.next_box()?.ok_or_else(|| Error::input("has an empty description"))?;
    let (codec, setup) = match &kind {
        b"av01" => (Codec::Av1, b"av1C"),
        b"avc1" | b"avc3" => (Codec::H264, b"avcC"),
        _ => {
            let name = match &kind {
                b"hvc1" | b"hev1" => "HEVC (H.265)".into(),
                b"mp4v" => "MPEG-4 part 2".into(),
                b"vp09" => "VP9".into(),
                _ => format!("`{}`", kind.escape_ascii()),
            };
            return Err(Error::input(format!(
                "holds {name} video; AV1 and H.264 are supported: encode it again (ffmpeg -i IN -c:v libx264 OUT.mp4)"
            )));
        }
    };
    entry.take(24)?;
    let (width, height) = (usize::from(entry.u16()?), usize::from(entry.u16()?));
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::input(format!(
            "claims pictures of {width}x{height}; at most {MAX_SIDE}x{MAX_SIDE} are supported"
        )));
    }
    entry.take(50)?;
    Ok((codec, entry.need(setup)?.0.to_vec(), [height, width]))
}

/// Samples with their sizes (`stsz`).
fn sizes(mut table: Fields<'_>, length: u64) -> Result<Vec<Sample>> {
    let sample = |size| Sample { offset: 0, size, sync: true, shown: 0 };
    table.version()?;
    match table.u32()? {
        0 => {
            let count = table.entries(4)?;
            (0..count).map(|_| Ok(sample(table.u32()?))).collect()
        }
        size => {
            let count = table.u32()?;
            if u64::from(count) * u64::from(size).max(MIN_SAMPLE) > length {
                return Err(Error::input(format!(
                    "claims {count} frames of {size} bytes and has {length} bytes"
                )));
            }
            Ok(vec![sample(size); count as usize])
        }
    }
}

/// Where samples lie: chunks (`stco`, `co64`) of runs of samples (`stsc`).
fn offsets(samples: &mut [Sample], tables: Fields<'_>, length: u64) -> Result<()> {
    let (mut chunks, wide) = match tables.find(b"stco")? {
        Some(table) => (table, false),
        None => (tables.need(b"co64")?, true),
    };
    chunks.version()?;
    let chunk_count = chunks.entries(if wide { 8 } else { 4 })?;
    let mut runs = tables.need(b"stsc")?;
    runs.version()?;
    let run_count = runs.entries(12)?;
    let mut next = if run_count == 0 { u32::MAX } else { runs.u32()? };
    let (mut seen, mut each, mut done) = (0, 0, 0);
    for chunk in 1..=chunk_count as u32 {
        while chunk >= next && seen < run_count {
            each = runs.u32()? as usize;
            if runs.u32()? != 1 {
                return Err(Error::input(
                    "has a video track of several descriptions, which is not supported",
                ));
            }
            seen += 1;
            next = if seen < run_count { runs.u32()? } else { u32::MAX };
        }
        let mut at = if wide { chunks.u64()? } else { chunks.u32()?.into() };
        let left = samples.len() - done;
        for sample in &mut samples[done..done + each.min(left)] {
            sample.offset = at;
            at = at.saturating_add(sample.size.into());
            if at > length {
                return Err(Error::input(format!(
                    "is cut short or broken: frame {done} ends at byte {at}, the file at byte {length}"
                )));
            }
            done += 1;
        }
    }
    if done < samples.len() {
        return Err(Error::input(format!("has {} frames and says where {done} of them lie", samples.len())));
    }
    Ok(())
}

/// When samples are shown: durations (`stts`) and delays (`ctts`). The durations' sum is returned.
fn times(samples: &mut [Sample], tables: Fields<'_>) -> Result<u64> {
    let mut decoded: u64 = 0;
    for_each_run(samples, tables.need(b"stts")?, |sample, duration| {
        sample.shown = i64::try_from(decoded).unwrap_or(i64::MAX);
        decoded = decoded.saturating_add(duration.into());
    })?;
    if let Some(delays) = tables.find(b"ctts")? {
        // Version 1 is signed; encoders write negative delays into version 0 as well.
        for_each_run(samples, delays, |sample, delay| {
            sample.shown = sample.shown.saturating_add(i64::from(delay.cast_signed()));
        })?;
    }
    Ok(decoded)
}

/// Walks a table of (count, value) over the samples.
fn for_each_run(
    samples: &mut [Sample],
    mut table: Fields<'_>,
    mut each: impl FnMut(&mut Sample, u32),
) -> Result<()> {
    table.version()?;
    let mut rest = samples.iter_mut();
    for _ in 0..table.entries(8)? {
        let (count, value) = (table.u32()?, table.u32()?);
        rest.by_ref().take(count as usize).for_each(|sample| each(sample, value));
    }
    match rest.len() {
        0 => Ok(()),
        missing => Err(Error::input(format!("has no time for its last {missing} frames"))),
    }
}

/// The span of the track's clock that an edit list shows.
fn edit(mut table: Fields<'_>, timescale: u32, movie_scale: u32) -> Result<(i64, i64)> {
    let version = table.version()?;
    let mut span = None;
    for _ in 0..table.entries(if version == 0 { 12 } else { 20 })? {
        let duration = table.sized(version)?;
        let start = if version == 0 { table.u32()?.cast_signed().into() } else { table.u64()?.cast_signed() };
        let rate = table.u32()?;
        if start < 0 {
            continue; // A pause before the first frame; frames are counted, not waited for.
        }
        if span.is_some() || rate != 0x1_0000 {
            return Err(Error::input("has an edit list of several parts or speeds, which is not supported"));
        }
        let ticks = u128::from(duration) * u128::from(timescale) / u128::from(movie_scale.max(1));
        let end = match duration {
            0 => i64::MAX,
            _ => start.saturating_add(i64::try_from(ticks).unwrap_or(i64::MAX)),
        };
        span = Some((start, end));
    }
    Ok(span.unwrap_or((i64::MIN, i64::MAX)))
}
