"""LeRobot's own loader beside another program's, on the same files, turn and turn about.

    python tests/interop/loader_speed.py FOLDER [--frames 300] [--rounds 3] [--beside "COMMAND ... {root}"]

Makes, once, three datasets of 480x640 pictures with LeRobot's package (PNG in parquet, AV1, H.264; as its recorder
writes them), and draws shuffled batches of 8 with its DataLoader, with no worker and with two. Speeds are pictures a
second, decoded to float32 [3, 480, 640] in [0, 1]. --beside is run once a round and a dataset, with {root} in its
place, and says its own speed: the last number before "frames/s" in its output.
"""

import argparse
import os
import re
import shlex
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import av.logging
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HEIGHT, WIDTH, FPS, EPISODE = 480, 640, 30, 100
BATCH = 8
FORMATS = {"png": ("image", "h264"), "av1": ("video", "libsvtav1"), "h264": ("video", "h264")}
# Actions of a sample. LeRobot 0.4.4 decodes the PNG of every row of the window, to throw all but one away.
WINDOWS = {"image": (1, 50), "video": (50,)}
CAMERA = "observation.images.top"


def photograph(frame: int, scene: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """[H, W, 3] u8: a scene that moves by a pixel a frame, with the noise of a sensor."""
    moved = np.roll(scene, frame, axis=1)
    return np.clip(moved + random.normal(0, 2, moved.shape), 0, 255).astype(np.uint8)


def scenery(random: np.random.Generator) -> np.ndarray:
    """[H, W, 3]: patches of all sizes, from the whole picture to a few pixels."""
    scene = np.zeros((HEIGHT, WIDTH, 3))
    for cells in (4, 12, 40, 120):
        coarse = torch.from_numpy(random.normal(0, 90 / np.sqrt(cells), (1, 3, cells, cells)))
        scene += torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="nearest")[0].permute(1, 2, 0).numpy()
    return np.clip(scene + 128, 0, 255)


def make(root: Path, kind: str, vcodec: str, frames: int):
    features = {
        CAMERA: {"dtype": kind, "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]},
        "observation.state": {"dtype": "float32", "shape": (14,), "names": None},
        "action": {"dtype": "float32", "shape": (14,), "names": None},
    }
    dataset = LeRobotDataset.create("flowgpu/speed", FPS, features, root=root, vcodec=vcodec, image_writer_threads=2)
    random = np.random.default_rng(0)
    scene = scenery(random)
    for frame in range(frames):
        row = {key: random.standard_normal(14).astype(np.float32) for key in ("observation.state", "action")}
        dataset.add_frame(row | {CAMERA: photograph(frame, scene, random), "task": "look"})
        if (frame + 1) % EPISODE == 0 or frame + 1 == frames:
            dataset.save_episode()
    dataset.stop_image_writer()
    dataset.finalize()


def lerobot_speed(root: Path, workers: int, backend: str, window: int, seconds: float) -> float:
    """Pictures a second, after the first batches, in which workers start."""
    windows = {"action": [i / FPS for i in range(window)]} if window > 1 else None
    dataset = LeRobotDataset("flowgpu/speed", root=root, video_backend=backend, delta_timestamps=windows)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True)
    warm = max(2, workers * loader.prefetch_factor) if workers else 1
    pictures, start, batches = 0, None, 0
    while start is None or time.perf_counter() - start < seconds:
        for batch in loader:
            batches += 1
            if batches == warm:
                start, pictures = time.perf_counter(), 0
                continue
            pictures += len(batch[CAMERA])
            if start is not None and time.perf_counter() - start >= seconds:
                break
    return pictures / (time.perf_counter() - start)


def other_speed(root: Path, command: str) -> float:
    result = subprocess.run(shlex.split(command.format(root=root)), capture_output=True, text=True)
    found = re.findall(r"([\d.,]+)\s*frames/s", result.stdout + result.stderr)
    if result.returncode != 0 or not found:
        raise SystemExit(f"{command}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return float(found[-1].replace(",", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the datasets are, or will be")
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--backends", nargs="+", default=["pyav"], choices=("pyav", "torchcodec"),
                        help="LeRobot's video decoders; torchcodec, its first choice, needs a system ffmpeg")
    parser.add_argument("--beside", metavar="COMMAND", help="another loader, with {root} for the dataset")
    arguments = parser.parse_args()
    av.logging.set_level(av.logging.ERROR)

    print(f"frames/s of {HEIGHT}x{WIDTH}, batches of {BATCH}, torch {torch.__version__}, {os.cpu_count()} cores: "
          f"median (least to most) of {arguments.rounds} rounds")
    for name, (kind, vcodec) in FORMATS.items():
        root = arguments.folder / name
        if not root.exists():
            make(root, kind, vcodec, arguments.frames)
        arms = {f"LeRobot, {backend if kind == 'video' else 'Pillow'}, {window} actions, {workers} workers":
                partial(lerobot_speed, workers=workers, backend=backend, window=window, seconds=arguments.seconds)
                for backend in (arguments.backends if kind == "video" else arguments.backends[:1])
                for window in WINDOWS[kind] for workers in (0, 2)}
        if arguments.beside:
            arms["the other"] = partial(other_speed, command=arguments.beside)
        speeds = {arm: [] for arm in arms}
        for _ in range(arguments.rounds):
            for arm, measure in arms.items():
                speeds[arm].append(measure(root))
        for arm, measured in speeds.items():
            print(f"{name:<6}{arm:<42}{statistics.median(measured):8.1f}  ({min(measured):.1f} to {max(measured):.1f})",
                  flush=True)


if __name__ == "__main__":
    main()
