//! Episodes side by side as one looping GIF.

use crate::image::Image;
use crate::{Error, Result};

/// One episode's frames, all of one size, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// The scene before the first action, and after each one.
    pub frames: Vec<Image>,
    /// Its frame turns green at the end if it succeeded, orange if not.
    pub success: bool,
}

/// Most clips in one picture.
pub const MAX_CLIPS: usize = 6;

const COLUMNS: usize = 3;
const BORDER: usize = 2;
const GAP: usize = 4;
const PAPER: [u8; 3] = [250, 250, 248];
const RUNNING: [u8; 3] = [190, 190, 190];
const SUCCEEDED: [u8; 3] = [0, 158, 115];
const FAILED: [u8; 3] = [230, 159, 0];

/// A GIF of up to [`MAX_CLIPS`] clips in rows of three, `fps` frames a second, for ever. A clip that is
/// over holds its last frame; all hold it for a second before the loop begins again. Each frame stores
/// only the rectangle that changed.
///
/// # Errors
/// No clip or too many, a clip without frames, frames of different sizes, or a picture over 65,535 pixels.
pub fn animate(clips: &[Clip], fps: u32) -> Result<Vec<u8>> {
    let refuse = |what: &str| Err(Error::input(format!("cannot animate: {what}")));
    if clips.is_empty() || clips.len() > MAX_CLIPS {
        return refuse(&format!("one to {MAX_CLIPS} episodes fit, not {}", clips.len()));
    }
    let Some(first) = clips[0].frames.first() else {
        return refuse("an episode without frames");
    };
    for clip in clips {
        let same = |frame: &Image| (frame.width, frame.height) == (first.width, first.height);
        if clip.frames.is_empty() || !clip.frames.iter().all(same) {
            return refuse("every episode needs frames, all of one size");
        }
    }
    let grid = Grid::around(first.width, first.height, clips.len());
    let (Ok(width), Ok(height)) = (u16::try_from(grid.width), u16::try_from(grid.height)) else {
        return refuse("the picture is larger than 65,535 pixels");
    };

    let failed = |e: gif::EncodingError| Error::failure(format!("cannot encode a GIF: {e}"));
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[]).map_err(failed)?;
    encoder.set_repeat(gif::Repeat::Infinite).map_err(failed)?;
    // In hundredths of a second; browsers slow anything below 2 down to 10.
    let delay = (100.0 / f64::from(fps.max(1))).round().clamp(2.0, 1000.0) as u16;
    let length = clips.iter().map(|clip| clip.frames.len()).max().unwrap_or(0);
    let mut before: Option<Image> = None;
    for time in 0..length {
        let now = grid.draw(clips, time);
        let part = Rectangle::that_changed(before.as_ref(), &now);
        let mut frame =
            gif::Frame::from_rgb_speed(part.width as u16, part.height as u16, &part.cut(&now), 10);
        (frame.left, frame.top) = (part.left as u16, part.top as u16);
        frame.dispose = gif::DisposalMethod::Keep;
        frame.delay = if time + 1 == length { delay.max(100) } else { delay };
        encoder.write_frame(&frame).map_err(failed)?;
        before = Some(now);
    }
    drop(encoder);
    Ok(bytes)
}

/// Where the clips lie.
struct Grid {
    /// One clip with its border.
    cell: (usize, usize),
    width: usize,
    height: usize,
}

impl Grid {
    fn around(width: usize, height: usize, clips: usize) -> Self {
        let cell = (width + 2 * BORDER, height + 2 * BORDER);
        let (columns, rows) = (clips.min(COLUMNS), clips.div_ceil(COLUMNS));
        Self { cell, width: columns * (cell.0 + GAP) + GAP, height: rows * (cell.1 + GAP) + GAP }
    }

    fn draw(&self, clips: &[Clip], time: usize) -> Image {
        let mut image = Image::filled(self.width, self.height, PAPER);
        for (place, clip) in clips.iter().enumerate() {
            let left = GAP + place % COLUMNS * (self.cell.0 + GAP);
            let top = GAP + place / COLUMNS * (self.cell.1 + GAP);
            let last = clip.frames.len() - 1;
            let colour = match (time >= last, clip.success) {
                (false, _) => RUNNING,
                (true, true) => SUCCEEDED,
                (true, false) => FAILED,
            };
            paste(&mut image, &Image::filled(self.cell.0, self.cell.1, colour), left, top);
            paste(&mut image, &clip.frames[time.min(last)], left + BORDER, top + BORDER);
        }
        image
    }
}

fn paste(onto: &mut Image, image: &Image, left: usize, top: usize) {
    for (y, row) in image.pixels.chunks_exact(image.width * 3).enumerate() {
        let start = ((top + y) * onto.width + left) * 3;
        onto.pixels[start..start + row.len()].copy_from_slice(row);
    }
}

/// A part of a picture, at least one pixel.
struct Rectangle {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Rectangle {
    /// The smallest one that holds every pixel that differs; the whole picture if there was none before.
    fn that_changed(before: Option<&Image>, now: &Image) -> Self {
        let Some(before) = before else {
            return Self { left: 0, top: 0, width: now.width, height: now.height };
        };
        let (mut left, mut top, mut right, mut bottom) = (now.width, now.height, 0, 0);
        let pixels = before.pixels.chunks_exact(3).zip(now.pixels.chunks_exact(3));
        for (index, _) in pixels.enumerate().filter(|(_, (a, b))| a != b) {
            let (x, y) = (index % now.width, index / now.width);
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
        if right == 0 {
            return Self { left: 0, top: 0, width: 1, height: 1 };
        }
        Self { left, top, width: right - left, height: bottom - top }
    }

    fn cut(&self, image: &Image) -> Vec<u8> {
        let row = |y: usize| &image.pixels[(y * image.width + self.left) * 3..][..self.width * 3];
        (self.top..self.top + self.height).flat_map(row).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Environment, Pursuit};

    fn expert_clips(count: u64) -> Vec<Clip> {
        let clip = |seed| {
            let mut arena = Pursuit::new(seed);
            let mut frames = vec![arena.render().halved()];
            let mut success = false;
            while !success && frames.len() < 15 {
                success = arena.advance(arena.expert()).success;
                frames.push(arena.render().halved());
            }
            Clip { frames, success }
        };
        (42..42 + count).map(clip).collect()
    }

    /// What a viewer shows after each frame, RGB.
    fn play(bytes: &[u8]) -> (Vec<Image>, Vec<u16>) {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes).expect("a GIF");
        assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
        let mut screen = Image::filled(decoder.width().into(), decoder.height().into(), [0; 3]);
        let (mut shown, mut delays) = (Vec::new(), Vec::new());
        while let Some(frame) = decoder.read_next_frame().expect("a frame") {
            let pixels = frame.buffer.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
            let part = Image { width: frame.width.into(), height: frame.height.into(), pixels };
            paste(&mut screen, &part, frame.left.into(), frame.top.into());
            shown.push(screen.clone());
            delays.push(frame.delay);
        }
        (shown, delays)
    }

    #[test]
    fn a_viewer_sees_every_pixel_of_every_frame() {
        let clips = expert_clips(5);
        let bytes = animate(&clips, 20).expect("encodes");
        let (shown, delays) = play(&bytes);
        crate::report::tests::show("episodes.png", &shown[14]);
        let grid = Grid::around(128, 128, 5);
        let length = clips.iter().map(|clip| clip.frames.len()).max().expect("clips");
        assert_eq!(shown.len(), length);
        for (time, image) in shown.iter().enumerate() {
            assert!(*image == grid.draw(&clips, time), "frame {time}");
        }
        assert_eq!((delays[0], delays[length - 1]), (5, 100));
        assert!(bytes.len() < 100_000, "{} bytes", bytes.len());
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let clips = expert_clips(1);
        assert!(animate(&[], 20).is_err());
        assert!(animate(&vec![clips[0].clone(); 7], 20).is_err());
        assert!(animate(&[Clip { frames: vec![], success: true }], 20).is_err());
        let mixed =
            Clip { frames: vec![Image::filled(2, 2, [0; 3]), Image::filled(3, 2, [0; 3])], success: true };
        assert!(animate(&[mixed], 20).is_err());
    }
}
