"""Writes tests/fixtures/episodes: a folder of episodes as `flowgpu import episodes` takes it, by NumPy and Pillow.

Two episodes of 4 and 3 frames; in frame t of episode e everything is a formula of t and e, which tests/episodes.rs
repeats.

    python tests/interop/make_episodes.py      (numpy, pillow)
"""

from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent.parent / "fixtures" / "episodes"


def pictures(episode, frames, height, width):
    """[frames, height, width, 3]: red counts columns, green rows, blue frames."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([10 * x, 20 * y, 30 * t + episode], axis=-1).astype(np.uint8)


def write(episode, frames, arrays_file, save):
    t = np.arange(frames)
    folder = OUT / f"episode_{episode}" / "observation.images.top"
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures(episode, frames, 6, 8)):
        # From 8 on, without leading zeros: 9 comes before 10.
        Image.fromarray(picture).save(folder / f"{8 + i}.png")
    arrays = {
        "observation.state": np.stack([t + 0.5, -t, t * 0 + episode], axis=1).astype(np.float64),
        "action": np.asfortranarray(np.stack([t * 0.25, 1 - t], axis=1).astype(np.float16)),
        "observation.images.wrist": pictures(episode, frames, 4, 5),
        "next.done": t == frames - 1,
        "next.reward": (t * 2).astype(np.int32),
        "timestamp": t / 10,
    }
    save(arrays_file, **arrays)
    print(f"{arrays_file}: {frames} frames")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write(2, 4, OUT / "episode_2.npz", np.savez)
    write(10, 3, OUT / "episode_10" / "arrays.npz", np.savez_compressed)


if __name__ == "__main__":
    main()
