//! How fast a data set's pictures become batches: shuffled batches of 8 with action chunks of 50, as training takes them.
//!
//! ```text
//! cargo bench --bench loader -- DATASET [--workers N] [--seconds S] [--size HxW] [--cache DIR] [--memory GIB] [--floats]
//! ```
//! Nothing is kept in memory unless `--memory` says so. Pictures are bytes [3, H, W], which is what the device takes;
//! `--floats` also makes them float32 in [0, 1], as LeRobot's loader does. The last line is the speed;
//! tests/interop/loader_speed.py runs this beside LeRobot's loader.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use flowgpu::data::{
    CacheOptions, Dataset, Loader, Padding, PolicyFeature, Prefetch, Role, Sampler, Windows,
};
use flowgpu::{Error, Result};

const BATCH: usize = 8;
const CHUNK: usize = 50;
/// Batches that wait.
const AHEAD: usize = 3;

struct Options {
    root: PathBuf,
    workers: usize,
    seconds: f64,
    size: Option<[usize; 2]>,
    cache: CacheOptions,
    floats: bool,
}

/// The arguments; nothing where no data set is named.
fn options() -> Result<Option<Options>> {
    let usage =
        || Error::input("give DATASET [--workers N] [--seconds S] [--size HxW] [--cache DIR] [--memory GIB]");
    let mut found = Options {
        root: PathBuf::new(),
        workers: 2,
        seconds: 5.0,
        size: None,
        cache: CacheOptions { memory: 0, files: None },
        floats: false,
    };
    // Cargo adds --bench.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(usage);
        let number = |text: String| text.parse::<f64>().map_err(|_| usage());
        match argument.as_str() {
            "--floats" => found.floats = true,
            "--workers" => found.workers = number(value()?)? as usize,
            "--seconds" => found.seconds = number(value()?)?,
            "--memory" => found.cache.memory = (number(value()?)? * f64::from(1 << 30)) as usize,
            "--cache" => found.cache.files = Some((value()?.into(), 64 << 30)),
            "--size" => {
                let text = value()?;
                let (height, width) = text.split_once('x').ok_or_else(usage)?;
                found.size = Some([number(height.into())? as usize, number(width.into())? as usize]);
            }
            root => found.root = root.into(),
        }
    }
    Ok((!found.root.as_os_str().is_empty()).then_some(found))
}

fn main() -> Result<()> {
    // `cargo test --benches` names none.
    let Some(options) = options()? else {
        println!("loader: run with DATASET; see the head of benches/loader.rs");
        return Ok(());
    };
    let dataset = Dataset::open(&options.root)?;
    let mut features = Vec::new();
    for mut feature in dataset.info.features.for_policy() {
        if feature.role == Role::Visual {
            let own = dataset.image_shape(&feature.key)?;
            let [height, width] = options.size.unwrap_or([own[1], own[2]]);
            feature.shape = vec![3, height, width];
        }
        features.push(feature);
    }
    let cameras = features.iter().filter(|feature: &&PolicyFeature| feature.role == Role::Visual).count();
    let loader = Loader::new(dataset, &features, Windows::new(1, CHUNK), Padding::Hold, &options.cache)?;
    let episodes: Vec<usize> = (0..loader.dataset().episodes.len()).collect();
    let sampler = Sampler::new(loader.frames_of(&episodes), BATCH, 0)?;
    let make = move |step| loader.batch(&sampler.batch(step), None);
    let mut ahead = Prefetch::start(0, options.workers.max(1), AHEAD, make)?;
    let (mut pictures, mut start) = (0, Instant::now());
    for step in 0.. {
        let batch = ahead.take(step).unwrap_or_else(|| Err(Error::failure("the loader broke off")))?;
        if options.floats {
            let floats: Vec<Vec<f32>> = batch
                .images
                .iter()
                .map(|camera| camera.iter().map(|&byte| f32::from(byte) / 255.0).collect())
                .collect();
            black_box(floats);
        }
        black_box(batch);
        if step < AHEAD as u64 + 1 {
            // What was made before anybody asked does not count.
            start = Instant::now();
            continue;
        }
        pictures += BATCH * cameras;
        if start.elapsed().as_secs_f64() >= options.seconds {
            break;
        }
    }
    println!("{:.1} frames/s", pictures as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
