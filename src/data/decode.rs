//! Encoded pictures, PNG or JPEG, as pixels.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use crate::{Error, Result, image::Image};

/// No camera makes larger pictures; a damaged header may claim them.
const MAX_PIXELS: u64 = 1 << 27;

/// Neither format packs more than 1,032 bytes into one (deflate's longest match in two bits; a JPEG block in one).
const MAX_RATIO: u64 = 1100;

/// A picture from the bytes of a PNG or JPEG file, as RGB.
///
/// # Errors
/// If the bytes are neither, are cut short, or claim to be larger than they can be.
pub(super) fn decode(bytes: &[u8]) -> Result<Image> {
    if bytes.starts_with(b"\x89PNG") {
        // Width and height stand at the same place in every PNG: after signature, length and name of the first chunk.
        let size = |at: usize| {
            let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
            word.map_or(0, u32::from_be_bytes)
        };
        believable(size(16), size(20), bytes)?;
        Image::from_png(bytes)
    } else if bytes.starts_with(&[0xff, 0xd8]) {
        jpeg(bytes)
    } else {
        let start: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Err(Error::input(format!(
            "{} bytes that begin with [{}]: only PNG and JPEG pictures can be read",
            bytes.len(),
            start.join(" ")
        )))
    }
}

fn jpeg(bytes: &[u8]) -> Result<Image> {
    let broken = |e: &dyn std::fmt::Display| Error::input(format!("not a readable JPEG: {e}"));
    // The decoder makes up what is cut off. Cameras may pad with zeros.
    let padding = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    if !bytes[..bytes.len() - padding].ends_with(&[0xff, 0xd9]) {
        return Err(broken(&"it is cut short"));
    }
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| broken(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| broken(&"no size"))?;
    believable(width as u32, height as u32, bytes)?;
    let pixels = decoder.decode().map_err(|e| broken(&e))?;
    if pixels.len() != width * height * 3 {
        return Err(broken(&format!("{} bytes for {width} x {height} pixels", pixels.len())));
    }
    Ok(Image { width, height, pixels })
}

/// Asked before memory is taken for the pixels.
fn believable(width: u32, height: u32, bytes: &[u8]) -> Result<()> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > MAX_PIXELS || pixels > MAX_RATIO * bytes.len() as u64 {
        return Err(Error::input(format!(
            "a picture of {width} x {height} pixels in {} bytes is damaged or none that can be read",
            bytes.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures").join(name);
        std::fs::read(path).expect("a picture of the repository")
    }

    #[test]
    fn jpegs_of_every_kind_are_what_libjpeg_makes_of_them() {
        // Decoders spread colours of half the resolution over the pixels with different roundings.
        for (name, bound) in [("baseline", 2), ("grey", 2), ("halved", 4), ("progressive", 4)] {
            let found = decode(&picture(&format!("{name}.jpg"))).expect(name);
            let expected = decode(&picture(&format!("{name}.png"))).expect(name);
            assert_eq!((found.width, found.height), (expected.width, expected.height), "{name}");
            let apart = found.pixels.iter().zip(&expected.pixels).map(|(&a, &b)| a.abs_diff(b)).max();
            assert!(apart <= Some(bound), "{name}: {apart:?}");
        }
    }

    #[test]
    fn a_damaged_picture_is_an_error_or_a_picture() {
        for name in ["baseline.jpg", "progressive.jpg", "grey.jpg", "grey.png"] {
            let whole = picture(name);
            let image = decode(&whole).expect(name);
            for end in 0..whole.len() {
                assert!(decode(&whole[..end]).map_or(true, |cut| cut == image), "{name}, cut at {end}");
            }
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(image) = decode(&bytes) {
                    assert_eq!(image.pixels.len(), image.width * image.height * 3, "{name}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn no_memory_is_taken_for_a_size_that_cannot_be() {
        let mut png = Image::filled(2, 2, [0; 3]).to_png().expect("encodes");
        png[16..20].copy_from_slice(&40_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&40_000u32.to_be_bytes());
        assert!(decode(&png).is_err_and(|e| e.to_string().contains("40000 x 40000")));
        assert!(decode(b"GIF89a").is_err_and(|e| e.to_string().contains("only PNG and JPEG")));
    }
}
