//! Pictures for people: animated episodes and plots.
//!
//! Everything is drawn on a solid light ground, so that it reads the same in light and dark themes.

mod axes;
pub mod denoise;
pub mod field;
pub mod gif;
pub mod path;
pub mod plot;
mod stroke;
pub mod sweep;
pub mod trace;
pub mod trace_file;
pub mod whiskers;

#[cfg(test)]
mod tests {
    use crate::image::Image;

    /// For eyes: writes what a test drew into the folder that `FLOWGPU_PLOTS` names.
    pub(super) fn show(name: &str, image: &Image) {
        if let Ok(folder) = std::env::var("FLOWGPU_PLOTS") {
            let bytes = image.to_png().expect("encodes");
            std::fs::write(std::path::Path::new(&folder).join(name), bytes).expect("writes");
        }
    }

    /// How many pixels have exactly this colour.
    pub(super) fn coloured(
        image: &Image,
        plotters::style::RGBColor(r, g, b): plotters::style::RGBColor,
    ) -> usize {
        image.pixels.chunks_exact(3).filter(|p| **p == [r, g, b]).count()
    }
}
