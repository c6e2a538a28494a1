"""Does flowgpu read from a dataset what LeRobot reads from it?

    python tests/interop/compare_datasets.py DATASET... --flowgpu BIN [--frames 6] [--chunk-size 5]
    python tests/interop/compare_datasets.py --collect FOLDER --flowgpu BIN [--video]

Of some frames of each dataset (v3.0, whoever wrote it) every value of `flowgpu inspect DATASET --frame I --chunk-size
N --out FILE` is held to LeRobotDataset's own item with `delta_timestamps`: numbers and PNG exactly, video within 2 of
255, JPEG within 4. LeRobot does not open v2.1: such a dataset is held to its `expect.safetensors` (make_datasets.py).

With --collect, flowgpu first records pursuit and pendulum in FOLDER; LeRobot then opens what it wrote and loads a
batch.
"""

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from safetensors.numpy import load_file

VIDEO_TOLERANCE = 2  # of 255
JPEG_TOLERANCE = 4  # decoders round the inverse cosine transform and bring up colours each in its own way
PER_FRAME = ("timestamp", "frame_index", "episode_index", "index")  # columns that a policy is not shown


def compare(root: Path, flowgpu: Path, frames: int, chunk: int) -> bool:
    info = json.loads((root / "meta/info.json").read_text())
    total = info["total_frames"]
    chosen = sorted(set(np.linspace(0, total - 1, frames).round().astype(int).tolist()))
    reader = by_lerobot if info["codebase_version"].startswith("v3") else by_expect
    theirs = reader(root, info, chunk)
    worst, wrong, compared = 0.0, [], 0
    for frame in chosen:
        try:
            ours = seen_by_flowgpu(flowgpu, root, frame, chunk)
        except subprocess.CalledProcessError as failure:
            print(f"{root}: frame {frame}: flowgpu: {failure.stderr.strip()}")
            return False
        for key, (value, tolerance) in theirs(frame).items():
            if key not in ours:
                wrong.append(f"{key} of frame {frame} is missing")
                continue
            error = distance(ours[key], value)
            compared += 1
            worst = max(worst, error) if tolerance else worst
            if error > tolerance:
                wrong.append(f"{key} of frame {frame} differs by {error} ({ours[key].shape}, {value.shape})")
    print(f"{root}: {len(chosen)} of {total} frames, {compared} values compared, video within {worst:.0f} of 255: "
          + ("pass" if not wrong else "FAIL"))
    for sentence in wrong[:10]:
        print(f"  {sentence}")
    return not wrong


def seen_by_flowgpu(flowgpu: Path, root: Path, frame: int, chunk: int) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "frame.safetensors"
        command = [flowgpu, "inspect", root, "--frame", str(frame), "--chunk-size", str(chunk), "--out", file]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return load_file(file)


def by_lerobot(root: Path, info: dict, chunk: int):
    """A function from a frame to LeRobot's values: each with how far flowgpu's may be from it."""
    dataset = LeRobotDataset("flowgpu/interop", root=root, video_backend="pyav",
                             delta_timestamps={"action": [i / info["fps"] for i in range(chunk)]})

    def read(frame: int) -> dict:
        item = dataset[frame]
        values = {}
        for key, feature in info["features"].items():
            if feature["dtype"] in ("image", "video"):
                picture = np.rint(item[key].numpy() * 255).astype(np.uint8)
                values[key] = (picture, VIDEO_TOLERANCE if feature["dtype"] == "video" else 0)
            elif key not in PER_FRAME:
                values[key] = (item[key].numpy(), 0)
        values["action_is_pad"] = (item["action_is_pad"].numpy(), 0)
        return values

    return read


def is_jpeg(root: Path, info: dict, key: str, episode: int) -> bool:
    """Whether the pictures of an episode of a v2.1 dataset are JPEG bytes."""
    chunk = episode // info["chunks_size"]
    file = root / info["data_path"].format(episode_chunk=chunk, episode_index=episode)
    first = pq.read_table(file, columns=[key])[key][0].as_py()["bytes"]
    return bool(first) and first.startswith(b"\xff\xd8")


def by_expect(root: Path, info: dict, chunk: int):
    expect = load_file(root / "expect.safetensors")
    episodes, actions = expect["column/episode_index"], expect["column/action"]

    def read(frame: int) -> dict:
        values = {}
        for key, feature in info["features"].items():
            if feature["dtype"] in ("image", "video"):
                found = np.flatnonzero(expect[f"frame_index/{key}"] == frame)
                if len(found):
                    tolerance = VIDEO_TOLERANCE if feature["dtype"] == "video" else 0
                    if feature["dtype"] == "image" and is_jpeg(root, info, key, int(episodes[frame])):
                        tolerance = JPEG_TOLERANCE
                    values[key] = (expect[f"frames/{key}"][found[0]], tolerance)
            elif key not in PER_FRAME:
                values[key] = (expect[f"column/{key}"][frame].astype(np.float32), 0)
        last = np.flatnonzero(episodes == episodes[frame])[-1]
        wanted = frame + np.arange(chunk)
        return values | {"action": (actions[np.minimum(wanted, last)], 0), "action_is_pad": (wanted > last, 0)}

    return read


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference; infinite if the numbers are not as many or not in the same order."""
    ours, theirs = np.squeeze(ours), np.squeeze(theirs)
    if ours.shape != theirs.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0))


def collect(folder: Path, flowgpu: Path, video: bool) -> list[Path]:
    """Datasets by flowgpu; LeRobot loads a batch of each."""
    roots = []
    for env in ("pursuit", "pendulum"):
        root = folder / (f"{env}-video" if video else env)
        command = [flowgpu, "collect", "--env", env, "--episodes", "4", "--output-dir", root, "--device", "cpu"]
        if video:
            if env == "pendulum":  # has no pictures
                continue
            command += ["--video"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        dataset = LeRobotDataset("flowgpu/collected", root=root, video_backend="pyav")
        batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=min(8, len(dataset)), shuffle=True)))
        shapes = {key: tuple(value.shape) for key, value in batch.items() if isinstance(value, torch.Tensor)}
        print(f"{root}: LeRobot opens {dataset.num_episodes} episodes, {len(dataset)} frames, tasks "
              f"{list(dataset.meta.tasks.index)}, statistics of {len(dataset.meta.stats)} features; "
              f"a batch is {shapes}")
        roots.append(root)
    return roots


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("datasets", nargs="*", type=Path, metavar="DATASET")
    parser.add_argument("--flowgpu", type=Path, required=True, help="the program")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--chunk-size", type=int, default=5)
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="record datasets here first")
    parser.add_argument("--video", action="store_true", help="record pictures as video")
    arguments = parser.parse_args()
    roots = list(arguments.datasets)
    if arguments.collect:
        roots += collect(arguments.collect, arguments.flowgpu, arguments.video)
    good = [compare(root, arguments.flowgpu, arguments.frames, arguments.chunk_size) for root in roots]
    raise SystemExit(0 if good and all(good) else 1)


if __name__ == "__main__":
    main()
