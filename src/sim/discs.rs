//! Filled discs on white, pixel for pixel as `pygame.draw.circle` (2.6.1) fills them.

use crate::image::Image;

const WHITE: [u8; 3] = [255; 3];

/// A filled circle of an even number of rows around the corner between four pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disc {
    /// Column and row of the pixel right of and below the centre; may lie outside the picture.
    pub centre: [i32; 2],
    /// For rows k and −1−k from the centre: columns −w to w−1 are filled. As long as the radius.
    pub half_widths: &'static [i32],
    pub colour: [u8; 3],
}

impl Disc {
    fn radius(&self) -> i32 {
        self.half_widths.len() as i32
    }

    fn covers(&self, x: i32, y: i32) -> bool {
        let (dx, dy) = (x - self.centre[0], y - self.centre[1]);
        let row = if dy < 0 { -1 - dy } else { dy };
        self.half_widths.get(row as usize).is_some_and(|&w| (-w..w).contains(&dx))
    }
}

/// A white picture with the discs on it, each on top of those before it, cut at the border.
pub(super) fn draw(width: usize, height: usize, discs: &[Disc]) -> Image {
    let mut image = Image::filled(width, height, WHITE);
    for disc in discs {
        for y in clipped(disc.centre[1] - disc.radius(), disc.centre[1] + disc.radius(), height) {
            for x in clipped(disc.centre[0] - disc.radius(), disc.centre[0] + disc.radius(), width) {
                if disc.covers(x as i32, y as i32) {
                    image.pixels[(y * width + x) * 3..][..3].copy_from_slice(&disc.colour);
                }
            }
        }
    }
    image
}

/// `draw(2 * width, 2 * height, discs).halved().planar()` without the large picture: `planes` becomes
/// `[3, height, width]`. Only pixels near a disc are computed.
pub(super) fn draw_halved_planes(width: usize, height: usize, discs: &[Disc], planes: &mut Vec<u8>) {
    let plane = width * height;
    planes.clear();
    planes.resize(3 * plane, 255);
    let colour_at =
        |x, y| discs.iter().rev().find(|disc| disc.covers(x, y)).map_or(WHITE, |disc| disc.colour);
    for disc in discs {
        let [left, top] = disc.centre.map(|c| (c - disc.radius()).div_euclid(2));
        let side = disc.radius() + 1;
        for y in clipped(top, top + side, height) {
            for x in clipped(left, left + side, width) {
                let (wide_x, wide_y) = (2 * x as i32, 2 * y as i32);
                let corners = [(0, 0), (1, 0), (0, 1), (1, 1)];
                let colours = corners.map(|(dx, dy)| colour_at(wide_x + dx, wide_y + dy));
                for channel in 0..3 {
                    let sum: u16 = colours.iter().map(|colour| u16::from(colour[channel])).sum();
                    planes[channel * plane + y * width + x] = ((sum + 2) / 4) as u8;
                }
            }
        }
    }
}

/// The part of `from..to` that lies in `0..size`.
fn clipped(from: i32, to: i32, size: usize) -> std::ops::Range<usize> {
    let clip = |v: i32| (v.max(0) as usize).min(size);
    clip(from)..clip(to)
}
