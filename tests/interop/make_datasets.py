"""Makes the small datasets in tests/fixtures/lerobot, with LeRobot's own package where it can write them.

    python tests/interop/make_datasets.py --out tests/fixtures/lerobot [NAME ...]

Beside every dataset's own files stands `expect.safetensors`: what LeRobot and PyAV read from them, for flowgpu's tests.

    column/<name>          [N] or [N, D]    a parquet column with the type it is stored in; booleans as 0 and 1
    frames/<camera>        [K, 3, H, W] u8  some pictures: PNG as Pillow reads it, video as PyAV gives it in "rgb24"
    frame_index/<camera>   [K] i64          which frames of the whole dataset these are
    window/<I>/<name>                       for some frames I: `action` [5, A] and `action_is_pad` [5] u8, as training
                                            sees them
"""

import argparse
import io
import json
import os
import shutil
from pathlib import Path
from typing import Callable

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import av
import av.logging
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from PIL import Image
from safetensors.numpy import save_file

FPS = 10
LENGTHS = [12, 7, 9]  # of the episodes
TASKS = ["reach the red square", "stay", "reach the red square"]
STATE, ACTION, WINDOW = 5, 3, 5
VIDEO_STRIDE, IMAGE_STRIDE = 4, 6  # of how many frames one is in expect.safetensors
SIZES = {"top": (48, 64), "wrist": (66, 98)}  # height, width: one is no multiple of 16


# --- What the robot did ---------------------------------------------------------------------------------------------

def picture(camera: str, episode: int, frame: int) -> np.ndarray:
    """[H, W, 3] u8: a gradient, edges of saturated colours, grain, and a square that moves on by 3 pixels a frame."""
    height, width = SIZES[camera]
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y + 40 * episode) % 256], axis=-1).astype(np.uint8)
    image[height // 2 :, : width // 3] = (250, 10, 240) if episode % 2 else (5, 230, 20)
    grain = np.random.default_rng(episode).integers(0, 256, (18, 22, 3), np.uint8)
    image[3:21, width - 30 : width - 8] = np.roll(grain, frame, axis=1)
    left, top = (3 * frame + 7 * episode) % (width - 12), (2 * frame + 5) % (height - 12)
    image[top : top + 11, left : left + 12] = (255, 0, 0)
    image[-4:, -2 * frame - 1 :] = 255
    return image


def values(episode: int, length: int) -> dict[str, np.ndarray]:
    """A state [T, 5], an action [T, 3], a reward [T] and an end [T]."""
    random = np.random.default_rng(episode)
    done = np.zeros(length, bool)
    done[-1] = True
    return {
        "observation.state": np.cumsum(random.standard_normal((length, STATE)), axis=0).astype(np.float32),
        "action": random.uniform(-1, 1, (length, ACTION)).astype(np.float32),
        "next.reward": random.standard_normal(length).astype(np.float32),
        "next.done": done,
    }


def features(cameras: dict[str, str]) -> dict:
    """Of cameras, each `image` or `video`, and the values."""
    axes = ["height", "width", "channels"]
    pictures = {
        f"observation.images.{name}": {"dtype": kind, "shape": (*SIZES[name], 3), "names": axes}
        for name, kind in cameras.items()
    }
    return pictures | {
        "observation.state": {"dtype": "float32", "shape": (STATE,), "names": [f"joint_{i}" for i in range(STATE)]},
        "action": {"dtype": "float32", "shape": (ACTION,), "names": {"motors": ["x", "y", "grip"]}},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
    }


def record(root: Path, cameras: dict[str, str], **options):
    """A v3.0 dataset by LeRobot: three episodes in one parquet file and one MP4 file a camera."""
    dataset = LeRobotDataset.create(
        f"flowgpu/{root.name}", FPS, features(cameras), root=root, robot_type="sketch", **options
    )
    for episode, (length, task) in enumerate(zip(LENGTHS, TASKS)):
        rows = values(episode, length)
        for frame in range(length):
            row = {key: np.atleast_1d(column[frame]) for key, column in rows.items()}
            row |= {f"observation.images.{name}": picture(name, episode, frame) for name in cameras}
            dataset.add_frame(row | {"task": task})
        dataset.save_episode(parallel_encoding=False)
    dataset.finalize()
    shutil.rmtree(root / "images", ignore_errors=True)


# --- The datasets ---------------------------------------------------------------------------------------------------

def v30_images(root: Path):
    """Pictures as PNG in parquet, two cameras."""
    record(root, {"top": "image", "wrist": "image"})


def v30_av1(root: Path):
    """AV1 as LeRobot encodes by default (libsvtav1, a key frame every 2), two cameras."""
    record(root, {"top": "video", "wrist": "video"})


def v30_h264(root: Path):
    """H.264, yuv420p, a key frame every 2."""
    record(root, {"wrist": "video"}, vcodec="h264")


def v30_h264_full_range(root: Path):
    """H.264, yuvj420p: the full range of 0 to 255."""
    record(root, {"wrist": "video"}, vcodec="h264")
    reencode(root, "wrist", pix_fmt="yuvj420p", options={"g": "4", "crf": "20", "bf": "0"})


def v30_h264_b_frames(root: Path):
    """H.264 with B-frames that others refer to, a key frame every 12: frames are stored out of order."""
    record(root, {"top": "video"}, vcodec="h264")
    options = {"g": "12", "crf": "23", "bf": "3", "b-pyramid": "normal", "b_strategy": "0"}
    reencode(root, "top", pix_fmt="yuv420p", options=options)


def v30_rewritten(root: Path):
    """Pictures in parquet as converters leave them: a declared shape that lies, channels first; list columns of no
    fixed length; two data files; several row groups across episodes; a tasks table without a name for its index."""
    record(root, {"top": "image"})
    info = read_json(root / "meta/info.json")
    info["features"]["observation.images.top"] |= {"shape": [3, 128, 128], "names": ["channels", "height", "width"]}
    info["features"]["observation.state"]["names"] = None
    info["features"]["action"]["names"] = [["x", "y", "grip"]]
    info["robot_type"] = None
    info["a_key_of_tomorrow"] = {"ignored": True}
    write_json(root / "meta/info.json", info)

    tasks = pq.read_table(root / "meta/tasks.parquet")
    names = ["__index_level_0__" if name == "task" else name for name in tasks.column_names]
    pq.write_table(tasks.rename_columns(names).replace_schema_metadata(None), root / "meta/tasks.parquet")

    file = root / "data/chunk-000/file-000.parquet"
    table = plain(pq.read_table(file))
    cut = sum(LENGTHS[:2])
    pq.write_table(table.slice(0, cut), file, row_group_size=5, compression="zstd")
    pq.write_table(table.slice(cut), file.with_name("file-001.parquet"), row_group_size=4, compression="none")
    rewrite_episodes(root, {"data/file_index": [0, 0, 1]})


def v21_video(root: Path):
    """v2.1 by hand: a parquet file and an H.264 file an episode, list columns, statistics an episode."""
    write_v21(root, video="top", image=None, list_type=pa.list_, state=pa.float32(), statistics=True)


def v21_images(root: Path):
    """v2.1 by hand, without any statistics: 64-bit states in large lists; pictures as JPEG bytes in the first episode
    and as nothing but a path to a PNG in the others."""
    write_v21(root, video=None, image="top", list_type=pa.large_list, state=pa.float64(), statistics=False)


DATASETS: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (v30_images, v30_av1, v30_h264, v30_h264_full_range, v30_h264_b_frames, v30_rewritten, v21_video,
                 v21_images)
}


def reencode(root: Path, camera: str, pix_fmt: str, options: dict):
    """The dataset's one video again, from the same pictures, with libx264 by PyAV."""
    frames = [picture(camera, episode, frame) for episode, length in enumerate(LENGTHS) for frame in range(length)]
    encode(root / f"videos/observation.images.{camera}/chunk-000/file-000.mp4", frames, pix_fmt, options)
    info = read_json(root / "meta/info.json")
    info["features"][f"observation.images.{camera}"]["info"]["video.pix_fmt"] = pix_fmt
    write_json(root / "meta/info.json", info)
    rewrite_episodes(root, {})


def rewrite_episodes(root: Path, changes: dict[str, list]):
    """The table of episodes with some columns changed, and without its statistics, which a reader needs not have."""
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    table = table.select([name for name in table.column_names if not name.startswith("stats/")])
    for name, column in changes.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(column))
    pq.write_table(table.replace_schema_metadata(None), file)


def encode(file: Path, frames: list[np.ndarray], pix_fmt: str, options: dict):
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", FPS, options=options | {"threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        output.mux(stream.encode())


def plain(table: pa.Table) -> pa.Table:
    """Lists without a fixed length, and no note for the `datasets` package."""
    for at, field in enumerate(table.schema):
        if pa.types.is_fixed_size_list(field.type):
            column = pa.array(table.column(at).to_pylist(), pa.list_(field.type.value_type))
            table = table.set_column(at, field.name, column)
    return table.replace_schema_metadata(None)


def write_v21(root: Path, video: str | None, image: str | None, list_type, state: pa.DataType, statistics: bool):
    tasks = list(dict.fromkeys(TASKS))
    episodes, episode_stats, start = [], [], 0
    for episode, (length, task) in enumerate(zip(LENGTHS, TASKS)):
        rows = values(episode, length)
        if state == pa.float64():  # numbers that 32 bits do not hold
            rows["observation.state"] = rows["observation.state"].astype(np.float64) / 3
        columns = {}
        if image:
            columns[f"observation.images.{image}"] = v21_pictures(root, image, episode, length)
        columns |= {
            "observation.state": pa.array(rows["observation.state"].tolist(), list_type(state)),
            "action": pa.array(rows["action"].tolist(), list_type(pa.float32())),
            "timestamp": pa.array(np.arange(length, dtype=np.float32) / np.float32(FPS)),
            "frame_index": pa.array(np.arange(length)),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(np.arange(start, start + length)),
            "task_index": pa.array(np.full(length, tasks.index(task))),
        }
        file = root / f"data/chunk-000/episode_{episode:06d}.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        if video:
            file = root / f"videos/chunk-000/observation.images.{video}/episode_{episode:06d}.mp4"
            frames = [picture(video, episode, frame) for frame in range(length)]
            encode(file, frames, "yuv420p", {"g": "2", "crf": "30"})
        episodes.append({"episode_index": episode, "tasks": [task], "length": length})
        numbers = {key: np.array(columns[key].to_pylist()) for key in ("observation.state", "action")}
        stats = {key: summary(column) for key, column in numbers.items()}
        episode_stats.append({"episode_index": episode, "stats": stats})
        start += length

    camera = video or image
    info = {
        "codebase_version": "v2.1", "robot_type": "sketch",
        "total_episodes": len(LENGTHS), "total_frames": sum(LENGTHS), "total_tasks": len(tasks),
        "total_videos": len(LENGTHS) if video else 0, "total_chunks": 1, "chunks_size": 1000,
        "fps": FPS, "splits": {"train": f"0:{len(LENGTHS)}"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4" if video else None,
        "features": {
            f"observation.images.{camera}": {
                "dtype": "video" if video else "image", "shape": [*SIZES[camera], 3],
                "names": ["height", "width", "channel"],
            } | ({"video_info": {"video.fps": float(FPS), "video.codec": "h264", "video.pix_fmt": "yuv420p",
                                 "video.is_depth_map": False, "has_audio": False}} if video else {}),
            "observation.state": {"dtype": np.dtype(state.to_pandas_dtype()).name, "shape": [STATE],
                                  "names": {"motors": None}},
            "action": {"dtype": "float32", "shape": [ACTION], "names": None},
            **{key: {"dtype": kind, "shape": [1], "names": None} for key, kind in (
                ("timestamp", "float32"), ("frame_index", "int64"), ("episode_index", "int64"), ("index", "int64"),
                ("task_index", "int64"))},
        },
    }
    write_json(root / "meta/info.json", info)
    write_lines(root / "meta/episodes.jsonl", episodes)
    write_lines(root / "meta/tasks.jsonl", [{"task_index": i, "task": task} for i, task in enumerate(tasks)])
    if statistics:
        write_lines(root / "meta/episodes_stats.jsonl", episode_stats)


def v21_pictures(root: Path, camera: str, episode: int, length: int) -> pa.Array:
    rows = []
    for frame in range(length):
        path = f"images/observation.images.{camera}/episode_{episode:06d}/frame_{frame:06d}.png"
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if episode == 0:
            jpeg = file.with_suffix(".jpg")
            Image.fromarray(picture(camera, episode, frame)).save(jpeg, quality=90)
            rows.append({"bytes": jpeg.read_bytes(), "path": jpeg.name})
            jpeg.unlink()
        else:
            Image.fromarray(picture(camera, episode, frame)).save(file)
            rows.append({"bytes": None, "path": path})
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def summary(column: np.ndarray) -> dict:
    return {"min": column.min(0).tolist(), "max": column.max(0).tolist(), "mean": column.mean(0).tolist(),
            "std": column.std(0).tolist(), "count": [len(column)]}


# --- What is expected of them ---------------------------------------------------------------------------------------

def expect(root: Path) -> dict[str, np.ndarray]:
    info = read_json(root / "meta/info.json")
    table = pa.concat_tables([pq.read_table(file) for file in sorted(root.glob("data/*/*.parquet"))])
    tensors = {}
    for name in table.column_names:
        if not pa.types.is_struct(table.schema.field(name).type):
            tensors[f"column/{name}"] = array(table, name)
    for key, feature in info["features"].items():
        if feature["dtype"] == "image":
            frames = [as_picture(root, row) for row in table.column(key).to_pylist()[::IMAGE_STRIDE]]
            tensors |= kept(key, frames, IMAGE_STRIDE, table.num_rows)
        elif feature["dtype"] == "video":
            files = sorted(root.glob(f"videos/{key}/*/*.mp4")) or sorted(root.glob(f"videos/*/{key}/*.mp4"))
            frames = [frame for file in files for frame in decode(file)]
            assert len(frames) == table.num_rows, f"{root.name}: {len(frames)} frames of {key}"
            tensors |= kept(key, frames[::VIDEO_STRIDE], VIDEO_STRIDE, table.num_rows)
    for frame in (0, LENGTHS[0] - 2, sum(LENGTHS) - 1):
        tensors |= {f"window/{frame}/{name}": value for name, value in window(tensors, frame).items()}
    return tensors


def array(table: pa.Table, name: str) -> np.ndarray:
    """A column with the type it is stored in."""
    kind = table.schema.field(name).type
    kind = kind if not hasattr(kind, "value_type") else kind.value_type
    stored = kind.to_pandas_dtype()
    return np.array(table.column(name).to_pylist(), np.uint8 if stored == np.bool_ else stored)


def as_picture(root: Path, row: dict) -> np.ndarray:
    """A parquet cell as Pillow reads it."""
    source = io.BytesIO(row["bytes"]) if row["bytes"] else root / row["path"]
    return np.array(Image.open(source).convert("RGB"))


def decode(file: Path) -> list[np.ndarray]:
    """All frames, in the order they are shown."""
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def kept(key: str, frames: list[np.ndarray], every: int, rows: int) -> dict[str, np.ndarray]:
    pictures = np.ascontiguousarray(np.stack(frames).transpose(0, 3, 1, 2))
    return {f"frames/{key}": pictures, f"frame_index/{key}": np.arange(0, rows, every)}


def window(tensors: dict[str, np.ndarray], frame: int) -> dict[str, np.ndarray]:
    """The next actions; past the episode's end the last one again, marked as padding."""
    last = np.flatnonzero(tensors["column/episode_index"] == tensors["column/episode_index"][frame])[-1]
    wanted = frame + np.arange(WINDOW)
    actions = tensors["column/action"][np.minimum(wanted, last)]
    return {"action": actions, "action_is_pad": (wanted > last).astype(np.uint8)}


# --- Files ----------------------------------------------------------------------------------------------------------

def read_json(file: Path) -> dict:
    return json.loads(file.read_text())


def write_json(file: Path, value: dict):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=4) + "\n")


def write_lines(file: Path, rows: list[dict]):
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the datasets")
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(DATASETS), help=f"of {', '.join(DATASETS)}")
    arguments = parser.parse_args()
    av.logging.set_level(av.logging.ERROR)
    total = 0
    for name in arguments.names:
        root = arguments.out / name
        shutil.rmtree(root, ignore_errors=True)
        DATASETS[name](root)
        save_file(expect(root), root / "expect.safetensors")
        sizes = {file: file.stat().st_size for file in root.rglob("*") if file.is_file()}
        total += sum(sizes.values())
        print(f"{name:<22}{len(sizes):>4} files {sum(sizes.values()) / 1024:8.1f} KiB, of it expect.safetensors "
              f"{sizes[root / 'expect.safetensors'] / 1024:.1f} KiB")
    print(f"{'total':<32}{total / 1024:9.1f} KiB")


if __name__ == "__main__":
    main()
