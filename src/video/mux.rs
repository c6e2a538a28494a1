//! The boxes of a written MP4 file: one H.264 track, pictures in the order they are shown, tables before the data.

/// Ticks of the track's clock for one picture (FFmpeg's choice for common rates).
const TICKS: u32 = 512;

/// Ticks of the movie's clock in a second.
const MOVIE_SCALE: u64 = 1000;

/// What the boxes say.
pub(super) struct Contents<'a> {
    pub width: u16,
    pub height: u16,
    pub fps: u32,
    /// The first sequence and picture parameter sets, NAL units without start codes.
    pub parameters: [&'a [u8]; 2],
    /// Bytes of each compressed picture.
    pub sizes: &'a [u32],
    /// Pictures from one that can be decoded alone to the next.
    pub group: usize,
}

/// All that comes before the compressed pictures: `ftyp`, `moov` and the head of `mdat`.
pub(super) fn head(contents: &Contents<'_>) -> Vec<u8> {
    let kind = boxed(b"ftyp", [b"isom" as &[u8], &512u32.to_be_bytes(), b"isomiso2avc1mp41"].concat());
    let data: u64 = contents.sizes.iter().map(|&size| u64::from(size)).sum();
    let mut data_head = vec![0, 0, 0, 1];
    data_head.extend(b"mdat");
    data_head.extend((data + 16).to_be_bytes());
    // The table of offsets has one entry of fixed size, so that the length does not depend on its value.
    let length = kind.len() + movie(contents, 0).len() + data_head.len();
    [kind, movie(contents, length as u64), data_head].concat()
}

/// A box of a type.
fn boxed(kind: &[u8; 4], content: Vec<u8>) -> Vec<u8> {
    let mut out = (content.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(content);
    out
}

/// A box with a version (0) and flags.
fn full(kind: &[u8; 4], flags: u32, content: Vec<u8>) -> Vec<u8> {
    boxed(kind, [flags.to_be_bytes().to_vec(), content].concat())
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_be_bytes()).collect()
}

/// The matrix of a picture that is neither turned nor scaled.
fn upright() -> Vec<u8> {
    words(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000])
}

fn movie(contents: &Contents<'_>, offset: u64) -> Vec<u8> {
    let count = contents.sizes.len() as u64;
    let duration = (count * MOVIE_SCALE).div_ceil(u64::from(contents.fps)) as u32;
    let scale = MOVIE_SCALE as u32;
    let header = [
        words(&[0, 0, scale, duration, 0x1_0000, 0x0100_0000, 0, 0]),
        upright(),
        words(&[0, 0, 0, 0, 0, 0, 2]),
    ];
    let (width, height) = (u32::from(contents.width), u32::from(contents.height));
    let track_header =
        [words(&[0, 0, 1, 0, duration, 0, 0, 0, 0]), upright(), words(&[width << 16, height << 16])];
    let media_header = [words(&[0, 0, contents.fps * TICKS, count as u32 * TICKS]), vec![0x55, 0xc4, 0, 0]];
    let handler = [words(&[0]), b"vide".to_vec(), words(&[0, 0, 0]), b"video\0".to_vec()];
    let here = full(b"url ", 1, Vec::new());
    let references = boxed(b"dinf", full(b"dref", 0, [words(&[1]), here].concat()));
    let information = [full(b"vmhd", 1, vec![0; 8]), references, tables(contents, offset)];
    let media = [
        full(b"mdhd", 0, media_header.concat()),
        full(b"hdlr", 0, handler.concat()),
        boxed(b"minf", information.concat()),
    ];
    let track = [full(b"tkhd", 3, track_header.concat()), boxed(b"mdia", media.concat())];
    boxed(b"moov", [full(b"mvhd", 0, header.concat()), boxed(b"trak", track.concat())].concat())
}

fn tables(contents: &Contents<'_>, offset: u64) -> Vec<u8> {
    let count = contents.sizes.len();
    let [sequence, picture] = contents.parameters;
    let mut setup = vec![1, sequence[1], sequence[2], sequence[3], 0xff, 0xe1];
    setup.extend((sequence.len() as u16).to_be_bytes());
    setup.extend(sequence);
    setup.push(1);
    setup.extend((picture.len() as u16).to_be_bytes());
    setup.extend(picture);
    let entry: [&[u8]; 9] = [
        &[0, 0, 0, 0, 0, 0, 0, 1],
        &[0; 16],
        &contents.width.to_be_bytes(),
        &contents.height.to_be_bytes(),
        &words(&[72 << 16, 72 << 16, 0]),
        &[0, 1],
        &[0; 32],
        &[0, 24, 0xff, 0xff],
        &boxed(b"avcC", setup),
    ];
    let description = [words(&[1]), boxed(b"avc1", entry.concat())].concat();
    let alone: Vec<u32> = (1..=count as u32).step_by(contents.group).collect();
    let chunk = [words(&[1]), offset.to_be_bytes().to_vec()].concat();
    let all = [
        full(b"stsd", 0, description),
        full(b"stts", 0, words(&[1, count as u32, TICKS])),
        full(b"stss", 0, [words(&[alone.len() as u32]), words(&alone)].concat()),
        full(b"stsc", 0, words(&[1, 1, count as u32, 1])),
        full(b"stsz", 0, [words(&[0, count as u32]), words(contents.sizes)].concat()),
        full(b"co64", 0, chunk),
    ];
    boxed(b"stbl", all.concat())
}
