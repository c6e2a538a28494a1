//! Rods, rings and bars with soft edges, for pictures that only people see.
//!
//! A shape is its signed distance in pixels: negative inside, 0 on the edge. Edges soften over one pixel, in
//! eighths, so that a GIF's palette holds every colour.

use crate::image::Image;

/// Paints a pixel where the distance of its centre from the shape is negative.
pub(super) fn paint(image: &mut Image, colour: [u8; 3], distance: impl Fn([f64; 2]) -> f64) {
    for (index, pixel) in image.pixels.chunks_exact_mut(3).enumerate() {
        let centre = [index % image.width, index / image.width].map(|v| v as f64 + 0.5);
        let covered = ((0.5 - distance(centre)).clamp(0.0, 1.0) * 8.0).round() / 8.0;
        for (value, new) in pixel.iter_mut().zip(colour) {
            *value = (f64::from(*value) + covered * (f64::from(new) - f64::from(*value))).round() as u8;
        }
    }
}

/// A line with round ends, `thickness` px wide; a disc where both ends are one point.
pub(super) fn rod(from: [f64; 2], to: [f64; 2], thickness: f64) -> impl Fn([f64; 2]) -> f64 {
    move |[x, y]| {
        let along = [to[0] - from[0], to[1] - from[1]];
        let square = along[0] * along[0] + along[1] * along[1];
        let product = (x - from[0]) * along[0] + (y - from[1]) * along[1];
        let share = if square > 0.0 { (product / square).clamp(0.0, 1.0) } else { 0.0 };
        (x - from[0] - share * along[0]).hypot(y - from[1] - share * along[1]) - thickness / 2.0
    }
}

/// A part of a ring with round ends: from straight up, `sweep` radians counter-clockwise (clockwise if negative).
pub(super) fn arc(centre: [f64; 2], radius: f64, sweep: f64, thickness: f64) -> impl Fn([f64; 2]) -> f64 {
    move |[x, y]| {
        // Counter-clockwise from up; rows count downwards.
        let angle = (centre[0] - x).atan2(centre[1] - y).clamp(sweep.min(0.0), sweep.max(0.0));
        let nearest = [centre[0] - radius * angle.sin(), centre[1] - radius * angle.cos()];
        (x - nearest[0]).hypot(y - nearest[1]) - thickness / 2.0
    }
}
