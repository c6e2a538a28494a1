"""flowgpu's checkpoints in PyTorch and LeRobot, and PyTorch's in flowgpu.

    python tests/interop/checkpoints.py compare DIR --flowgpu BIN
    python tests/interop/checkpoints.py make DIR [--cameras 2 | --dataset ROOT] [--full] [--flowgpu BIN]

`compare` takes a pretrained_model folder, whoever wrote it: model.safetensors goes into the reference module of
tests/golden with a strict `load_state_dict`, the processor files into LeRobot's own pipelines. Then both programs are
asked the same: the network's velocity and a sample on normalised inputs (`flowgpu verify`), and a whole chunk, from raw
pictures and states to actions in the robot's units (`flowgpu sample`).

`make` writes such a folder with PyTorch and LeRobot: seeded weights of a small `flowmatching` (or, with --full, the
published size), the processors, statistics and train_config.json; with --flowgpu it is compared at once. Features and
statistics are those of a dataset, if there is one, so that `flowgpu train --policy DIR` can go on from it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
from lerobot.datasets.utils import dataset_to_policy_features
from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    NormalizerProcessorStep,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
    UnnormalizerProcessorStep,
)
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from safetensors.torch import load_file, save_file
from torch import Tensor

from flow import Solver, sample
from flowmatching import SEED_001
from generate import ADAMW, Golden, build, save

BATCH = 1  # as a robot asks
# How far a chunk in the robot's units may be: the part of the largest action.
CHUNK_BOUND = 1e-4


# --- Both programs on one folder ------------------------------------------------------------------------------------

def compare(folder: Path, flowgpu: Path) -> bool:
    config = json.loads((folder / "config.json").read_text())
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model = build(config).eval()
    model.load_state_dict(weights, strict=True)
    print(f"{folder}: {len(weights)} tensors, {sum(p.numel() for p in model.parameters()):,} parameters, "
          "loaded strictly")
    before, after = processors(folder)

    torch.manual_seed(0)
    seen = raw_observation(config)
    normalised = before({key: tensor[0] for key, tensor in as_floats(seen).items()})
    observation = {key: resized(normalised[key], config) for key in config["input_features"]}
    shape = (BATCH, model.chunk_size, model.action_dim)
    tensors = {f"param/{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"obs/{key}": tensor for key, tensor in observation.items()}
    tensors |= {"x_t": torch.randn(shape), "t": torch.rand(BATCH), "sample_noise": torch.randn(shape)}
    solver = Solver(config["flow"]["solver"], config["flow"]["num_steps"])
    with torch.no_grad():
        rounded = model(observation, tensors["x_t"], tensors["t"]).double()
        model, exact = model.double(), {key: tensor.double() for key, tensor in observation.items()}
        velocity = tensors["expect/velocity"] = model(exact, tensors["x_t"].double(), tensors["t"].double())
        tensors["expect/sample"] = sample(model, exact, tensors["sample_noise"].double(), solver)
    nmse = ((rounded - velocity).square().sum() / velocity.square().sum()).item()
    print(f"velocity of PyTorch in float32 against float64: NMSE {nmse:.1e}")
    golden = Golden(config, vars(solver), ADAMW, None, tensors)
    with tempfile.TemporaryDirectory() as scratch:
        good = verified(golden, Path(scratch), flowgpu)
        return chunks_agree(folder, seen, golden, after, Path(scratch), flowgpu) and good


def verified(golden: Golden, scratch: Path, flowgpu: Path) -> bool:
    """The network on normalised inputs."""
    file = scratch / "golden.safetensors"
    save(golden, file)
    result = subprocess.run([flowgpu, "verify", file, "--device", "cpu"], text=True, capture_output=True)
    print(result.stdout.replace(str(file), "velocity and sample") + result.stderr, end="")
    return result.returncode == 0


def chunks_agree(folder: Path, seen: dict[str, Tensor], golden: Golden, after, scratch: Path, flowgpu: Path) -> bool:
    """A chunk from raw inputs to the robot's units."""
    save_file({key: tensor.contiguous() for key, tensor in seen.items()}, scratch / "seen.safetensors")
    save_file({"noise": golden.tensors["sample_noise"]}, scratch / "noise.safetensors")
    command = [flowgpu, "sample", "--policy", folder, "--observations", scratch / "seen.safetensors", "--noise",
               scratch / "noise.safetensors", "--out", scratch / "chunk.safetensors", "--device", "cpu"]
    result = subprocess.run(command, text=True, capture_output=True)
    if result.returncode != 0:
        print(result.stdout + result.stderr)
        return False
    answer = load_file(scratch / "chunk.safetensors")["actions"].double()
    width = next(iter(golden.config["output_features"].values()))["shape"][0]
    normalised = golden.tensors["expect/sample"].float()[..., :width]
    expected = torch.stack([after(step) for step in normalised.flatten(0, 1)]).view(answer.shape).double()
    bounds = load_file(folder / "policy_postprocessor_step_0_unnormalizer_processor.safetensors")
    if "action.low" in bounds:  # flowgpu's own: what leaves the policy is clamped
        expected = expected.clamp(bounds["action.low"], bounds["action.high"])
    error, largest = (answer - expected).abs().max().item(), expected.abs().max().item()
    good = error <= CHUNK_BOUND * largest
    print(f"chunk {tuple(answer.shape)} in the robot's units: largest error {error:.1e} of {largest:.3f}, "
          f"{'pass' if good else 'FAIL'}")
    return good


def processors(folder: Path):
    """LeRobot's own pipelines from the folder's files."""
    before = PolicyProcessorPipeline.from_pretrained(
        folder, config_filename="policy_preprocessor.json", overrides={"device_processor": {"device": "cpu"}}
    )
    after = PolicyProcessorPipeline.from_pretrained(
        folder, config_filename="policy_postprocessor.json",
        to_transition=policy_action_to_transition, to_output=transition_to_policy_action,
    )
    return before, after


def raw_observation(config: dict) -> dict[str, Tensor]:
    """What a camera and a robot deliver: [1, 3, H, W] u8, [1, S] f32."""
    frames = [config["n_obs_steps"]] if config["n_obs_steps"] > 1 else []
    return {
        key: torch.randint(256, (BATCH, *frames, *feature["shape"]), dtype=torch.uint8)
        if feature["type"] == "VISUAL" else 3 * torch.randn(BATCH, *frames, *feature["shape"]) + 1
        for key, feature in config["input_features"].items()
    }


def as_floats(seen: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor for key, tensor in seen.items()}


def resized(tensor: Tensor, config: dict) -> Tensor:
    """Pictures at the size that the network takes, as LeRobot's policies resize them."""
    if tensor.dim() < 4 or "image_size" not in config:
        return tensor
    return torch.nn.functional.interpolate(tensor, size=config["image_size"], mode="bilinear", align_corners=False)


# --- A folder made by PyTorch and LeRobot ---------------------------------------------------------------------------

SMALL = {
    "chunk_size": 6, "n_action_steps": 4, "max_state_dim": 7, "max_action_dim": 6, "image_size": [32, 32],
    "vit_embed_dim": 32, "vit_patch_size": 8, "vit_layers": 2, "vit_heads": 4, "vit_mlp_dim": 64,
    "hidden_dim": 32, "denoiser_layers": 2, "denoiser_heads": 4, "action_pos_embed": True,
}


def make(folder: Path, features: dict, stats: dict, full: bool):
    """`features` by key, as config.json has them; `stats` by key and name, as a dataset has them."""
    config = SEED_001 | ({} if full else SMALL) | {
        "input_features": {key: feature for key, feature in features.items() if feature["type"] != "ACTION"},
        "output_features": {key: feature for key, feature in features.items() if feature["type"] == "ACTION"},
        "device": "cpu", "use_amp": False, "push_to_hub": False, "repo_id": None,
    }
    model = build(config)
    for p in model.parameters():
        p.data += 0.02 * torch.randn_like(p)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
              folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    (folder / "train_config.json").write_text(json.dumps({"policy": config, "steps": 0, "seed": 1}, indent=4))
    write_processors(folder, config, stats)


def made_up(cameras: int, full: bool) -> tuple[dict, dict]:
    """Features and statistics of no particular dataset."""
    size, states, actions = ([3, 480, 640], 14, 14) if full else ([3, 45, 61], 5, 4)
    features = {f"observation.images.cam_{i + 1}": {"type": "VISUAL", "shape": size} for i in range(cameras)}
    features |= {"observation.state": {"type": "STATE", "shape": [states]},
                 "action": {"type": "ACTION", "shape": [actions]}}
    stats = {}
    for key, feature in features.items():
        shape = (3, 1, 1) if feature["type"] == "VISUAL" else feature["shape"]
        stats[key] = {"mean": torch.randn(shape), "std": 0.5 + torch.rand(shape), "min": torch.full(shape, -3.0),
                      "max": torch.full(shape, 3.0), "count": torch.tensor([100.0])}
    return features, stats


def of_dataset(root: Path) -> tuple[dict, dict]:
    """Features as LeRobot gives them to a policy, and the dataset's statistics."""
    meta = LeRobotDatasetMetadata("flowgpu/interop", root=root)
    features = {key: {"type": feature.type.value, "shape": list(feature.shape)}
                for key, feature in dataset_to_policy_features(meta.features).items()}
    return features, meta.stats


def write_processors(folder: Path, config: dict, stats: dict):
    """By LeRobot's own classes."""
    def typed(features: dict) -> dict:
        return {key: PolicyFeature(FeatureType(feature["type"]), tuple(feature["shape"]))
                for key, feature in features.items()}

    inputs, outputs = typed(config["input_features"]), typed(config["output_features"])
    norm_map = {FeatureType(kind): NormalizationMode(mode)
                for kind, mode in config["normalization_mapping"].items()}
    before = [
        RenameObservationsProcessorStep(rename_map={}), AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device="cpu"),
        NormalizerProcessorStep(features=inputs | outputs, norm_map=norm_map, stats=stats),
    ]
    after = [UnnormalizerProcessorStep(features=outputs, norm_map=norm_map, stats=stats),
             DeviceProcessorStep(device="cpu")]
    PolicyProcessorPipeline(steps=before, name="policy_preprocessor").save_pretrained(folder)
    PolicyProcessorPipeline(steps=after, name="policy_postprocessor").save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("compare", "make"))
    parser.add_argument("folder", type=Path, metavar="DIR", help="a pretrained_model folder")
    parser.add_argument("--flowgpu", type=Path, help="the program")
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--dataset", type=Path, metavar="ROOT", help="features and statistics, instead of --cameras")
    parser.add_argument("--full", action="store_true", help="the published size")
    arguments = parser.parse_args()
    torch.backends.mha.set_fastpath_enabled(False)
    if arguments.command == "make":
        torch.manual_seed(1)
        found = of_dataset(arguments.dataset) if arguments.dataset else made_up(arguments.cameras, arguments.full)
        make(arguments.folder, *found, arguments.full)
        print(f"{arguments.folder}: written by PyTorch {torch.__version__} and LeRobot")
    if arguments.flowgpu:
        raise SystemExit(0 if compare(arguments.folder, arguments.flowgpu) else 1)


if __name__ == "__main__":
    main()
