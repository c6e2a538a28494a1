//! Videos as a user meets them: LeRobot's files, other encoders', broken ones, and our own.
//!
//! What each file must look like comes from PyAV (tests/fixtures/video/make.py).
#![cfg(feature = "video")]

use std::path::{Path, PathBuf};

use flowgpu::{
    image::Image,
    video::{Codec, Video, VideoWriter},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/video").join(name)
}

/// PyAV's pictures of a fixture.
fn expected(name: &str, height: usize) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(fixture(name).with_extension("png")).expect("a strip of frames");
    let strip = Image::from_png(&bytes).expect("a PNG");
    strip.pixels.chunks(strip.width * height * 3).map(<[u8]>::to_vec).collect()
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len(), "as many values");
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

const READABLE: [(&str, Codec, [usize; 2], usize, f64); 11] = [
    ("av1_lerobot.mp4", Codec::Av1, [50, 66], 5, 30.0),
    ("av1_hidden.mp4", Codec::Av1, [26, 34], 12, 30.0),
    ("av1_full.mp4", Codec::Av1, [48, 64], 2, 30.0),
    ("av1_odd.mp4", Codec::Av1, [26, 35], 3, 30.0),
    ("av1_joined.mp4", Codec::Av1, [48, 64], 5, 10.0),
    ("h264_lerobot.mp4", Codec::H264, [50, 66], 4, 30.0),
    ("h264_b.mp4", Codec::H264, [26, 34], 16, 10.0),
    ("h264_open.mp4", Codec::H264, [26, 34], 18, 30.0),
    ("h264_full.mp4", Codec::H264, [34, 50], 3, 30.0),
    ("h264_709.mp4", Codec::H264, [26, 34], 2, 30.0),
    ("h264_joined.mp4", Codec::H264, [26, 34], 16, 10.0),
];

#[test]
fn every_pixel_of_every_frame_is_pyavs() {
    for (name, codec, size, frames, fps) in READABLE {
        let video = Video::open(fixture(name)).expect("opens");
        assert_eq!((video.codec(), video.size(), video.len()), (codec, size, frames), "{name}");
        assert!((video.fps() - fps).abs() < 1e-6, "{name}: {} fps", video.fps());
        let expected = expected(name, size[0]);
        assert_eq!(expected.len(), frames, "{name}");
        let mut decoder = video.decoder();
        for (index, expected) in expected.iter().enumerate() {
            let image = decoder.frame(index).expect("decodes");
            assert_eq!([image.height, image.width], size);
            let difference = largest_difference(&image.pixels, expected);
            assert!(difference <= 2, "{name}, frame {index}: {difference}");
            let seconds = video.seconds(index).expect("a time");
            assert!((seconds - index as f64 / fps).abs() < 1e-3, "{name}, frame {index}: {seconds} s");
        }
        assert_eq!(video.seconds(frames), None);
    }
}

#[test]
fn frames_in_any_order_are_the_same_as_in_sequence() {
    for (name, _, _, frames, _) in READABLE {
        let video = Video::open(fixture(name)).expect("opens");
        let mut decoder = video.decoder();
        let all: Vec<Image> = (0..frames).map(|i| decoder.frame(i).expect("decodes")).collect();
        for step in [1, 3, 5, 7, frames - 1] {
            for index in (0..2 * frames).map(|i| i * step % frames) {
                assert!(decoder.frame(index).expect("decodes") == all[index], "{name}, frame {index}");
            }
        }
        let error = decoder.frame(frames).expect_err("past the end").to_string();
        assert!(error.contains(name) && error.contains(&format!("frame {frames}")), "{error}");
        assert!(decoder.frame(0).expect("an error does no harm") == all[0]);
    }
}

#[test]
fn threads_share_a_video() {
    let video = Video::open(fixture("h264_b.mp4")).expect("opens");
    let first = video.decoder().frame(9).expect("decodes");
    std::thread::scope(|scope| {
        let one = || assert!(video.decoder().frame(9).expect("decodes") == first);
        (0..3).for_each(|_| drop(scope.spawn(one)));
    });
}

#[test]
fn what_is_not_supported_is_named() {
    let cases = [
        ("refused_10bit.mp4", "10 bits"),
        ("refused_444.mp4", "4:4:4"),
        ("refused_interlaced.mp4", "interlace"),
        ("refused_av1_10bit.mp4", "8 bits"),
        ("refused_mpeg4.mp4", "MPEG-4 part 2"),
        ("refused_hevc.mp4", "HEVC"),
        ("refused_fragmented.mp4", "fragmented"),
        ("make.py", "no MP4 file"),
        ("nowhere.mp4", "cannot be read"),
    ];
    for (name, what) in cases {
        let error = Video::open(fixture(name)).and_then(|video| video.decoder().frame(0));
        let error = error.expect_err(name).to_string();
        assert!(error.contains(name) && error.contains(what), "{error}");
    }
}

fn moving(width: usize, height: usize, count: usize) -> Vec<Image> {
    let picture = |i: usize| {
        let colour = |x: usize, y: usize| match (x / 2 * 2 + 4 * i) % width < 12 && y / 2 > height / 6 {
            true => [220, 40, 30],
            false => [(x * 255 / width) as u8, (y * 255 / height) as u8, 90],
        };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| colour(x, y))).collect();
        Image { width, height, pixels }
    };
    (0..count).map(picture).collect()
}

#[test]
fn written_videos_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    for (width, height, fps, count) in [(64, 48, 30, 9), (98, 66, 10, 1), (16, 16, 50, 4), (250, 130, 24, 3)]
    {
        let path = folder.path().join(format!("{width}.mp4"));
        let images = moving(width, height, count);
        let mut writer = VideoWriter::create(&path, width, height, fps).expect("begins");
        images.iter().for_each(|image| writer.push(image).expect("encodes"));
        assert!(!path.exists(), "nothing to read before the end");
        assert_eq!(writer.finish().expect("ends"), count);
        let video = Video::open(&path).expect("opens");
        assert_eq!((video.len(), video.size(), video.codec()), (count, [height, width], Codec::H264));
        assert!((video.fps() - f64::from(fps)).abs() < 1e-9);
        let mut decoder = video.decoder();
        for (index, image) in images.iter().enumerate() {
            let back = decoder.frame(index).expect("decodes");
            let squares =
                back.pixels.iter().zip(&image.pixels).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
            let noise = (squares.sum::<f64>() / back.pixels.len() as f64).sqrt();
            // Most of it is colour at half the resolution.
            assert!(noise < 8.0, "{width}x{height}, frame {index}: {noise}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 4, "no parts are left");
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("video.mp4");
    for (width, height, fps) in [(65, 48, 30), (64, 49, 30), (8, 8, 30), (64, 48, 0), (8194, 64, 30)] {
        let error = VideoWriter::create(&path, width, height, fps).err().expect("refused").to_string();
        assert!(error.contains("video.mp4"), "{error}");
    }
    let mut writer = VideoWriter::create(&path, 64, 48, 30).expect("begins");
    assert!(writer.push(&Image::filled(48, 64, [0; 3])).is_err(), "another size");
    assert!(writer.finish().is_err(), "no picture");
    drop(VideoWriter::create(&path, 64, 48, 30).expect("begins"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

/// Small numbers that look random (xorshift), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A file with a few wrong bits or bytes, or without its end; tables are hit as often as pictures.
fn broken(whole: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let tables = whole.windows(4).position(|w| w == b"moov").unwrap_or(0);
    match numbers.below(4) {
        0 => bytes.truncate(numbers.below(whole.len())),
        kind => {
            for _ in 0..=numbers.below(4) {
                let near = tables + numbers.below(whole.len() - tables);
                let at = if kind == 1 { near } else { numbers.below(whole.len()) };
                bytes[at] = match numbers.below(3) {
                    0 => 0xff,
                    1 => numbers.below(256) as u8,
                    _ => bytes[at] ^ 1 << numbers.below(8),
                };
            }
        }
    }
    bytes
}

#[test]
fn broken_files_give_errors_that_name_them_or_pictures() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.mp4");
    let (mut errors, mut pictures) = (0, 0);
    for (seed, (name, ..)) in READABLE.iter().enumerate() {
        let whole = std::fs::read(fixture(name)).expect("a fixture");
        let mut numbers = Numbers(seed as u64 + 1);
        for case in 0..60 {
            std::fs::write(&path, broken(&whole, &mut numbers)).expect("writes");
            let Err(error) = Video::open(&path).and_then(|video| {
                let mut decoder = video.decoder();
                let [height, width] = video.size();
                for index in 0..video.len().min(40) {
                    let image = decoder.frame(index)?;
                    assert_eq!((image.width, image.height), (width, height));
                    pictures += 1;
                }
                Ok(())
            }) else {
                continue;
            };
            assert!(error.to_string().contains("broken.mp4"), "{name}, case {case}: {error}");
            errors += 1;
        }
    }
    assert!(errors > 200 && pictures > 500, "{errors} errors, {pictures} pictures: both kinds are met");
}
