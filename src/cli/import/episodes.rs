//! `flowgpu import episodes`: a folder of NumPy arrays and PNG files as a data set.

use std::path::PathBuf;

use crate::Result;
use crate::cli::common::note;
use crate::data::{ImportOptions, import_episodes};

/// Flags of the subcommand.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An episode is a file of arrays, a folder, or both under one name:
  FOLDER/episode_000.npz                                   numpy.savez(..., **{\"action\": a, \"observation.state\": s})
  FOLDER/episode_000/observation.images.top/000000.png     a picture a frame, in a folder named by its key
  FOLDER/episode_001/arrays.npz, FOLDER/episode_001/action.npy, ...
The names of arrays are the data set's columns: `action` is needed, `observation.state` and other `observation.*` are what
a policy sees, anything else (`next.reward`) is kept. All parts of an episode have as many frames, and all episodes the
same columns.
  [frames] or [frames, values]             float16, float32, float64, integers, bool
  [frames, height, width, 3] of uint8      RGB pictures, as observation.images.top
`timestamp`, `frame_index` and the like are left out: the data set counts them by --fps. Episodes and pictures are taken in
the order of their names, where 2 comes before 10.")]
pub struct Args {
    /// The folder of episodes
    folder: PathBuf,
    /// The data set to write, a new or empty folder
    #[arg(long, value_name = "DATASET")]
    out: PathBuf,
    /// Frames per second of the recording
    #[arg(long, value_name = "N")]
    fps: u32,
    /// What was done, a sentence
    #[arg(long, value_name = "TEXT")]
    task: String,
    /// What did it
    #[arg(long, value_name = "NAME")]
    robot_type: Option<String>,
}

/// Imports the episodes.
///
/// # Errors
/// If an episode is of no use, or the disk refuses.
pub fn run(args: Args) -> Result<()> {
    let Args { folder, out, fps, task, robot_type } = args;
    let options = ImportOptions { fps, task: &task, robot_type: robot_type.as_deref() };
    let info = import_episodes(&folder, &out, &options, &mut |line| note(line))?;
    println!("{} frames in {} episodes: {}", info.total_frames, info.total_episodes, out.display());
    Ok(())
}
