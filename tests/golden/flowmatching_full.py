"""The published size of `flowmatching` (seed 001), in place: a golden file of 0.7 GB, and PyTorch's own speed.

    python tests/golden/flowmatching_full.py make FILE [--cameras 1|2] [--seed 0] [--batch 1]
    flowgpu verify FILE
    python tests/golden/flowmatching_full.py time FILE [--chunks 7]

`make` draws seeded weights (169,608,992 parameters with one camera, 170,395,424 with two), and computes one forward
pass and a sample of ten steps in float64. FILE belongs outside the repository. `time` loads the same weights in float32
and times chunks as a robot would ask for them (`eval`, `torch.inference_mode`, the observation encoded once a chunk),
and says how much memory the process held at most.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from flow import Solver, interpolate, sample
from flowmatching import SEED_001, SEED_001_TWO_CAMERAS, FlowMatching

CONFIGS = {1: (SEED_001, 169_608_992), 2: (SEED_001_TWO_CAMERAS, 170_395_424)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("make", help="write the golden file")
    command.add_argument("file", type=Path)
    command.add_argument("--cameras", type=int, choices=CONFIGS, default=1)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--batch", type=int, default=1)
    command.set_defaults(run=make)
    command = commands.add_parser("time", help="PyTorch's latency and memory in float32")
    command.add_argument("file", type=Path)
    command.add_argument("--chunks", type=int, default=7)
    command.set_defaults(run=time_chunks)
    arguments = parser.parse_args()
    torch.backends.mha.set_fastpath_enabled(arguments.run is time_chunks)
    arguments.run(arguments)


def make(arguments):
    config, published = CONFIGS[arguments.cameras]
    torch.manual_seed(arguments.seed)
    model = FlowMatching(config)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == published, f"{parameters} parameters for {published}"
    for p in model.parameters():  # off the zeros and ones, among which mistakes would hide
        p.data += 0.01 * torch.randn_like(p)

    batch, shape = arguments.batch, (arguments.batch, model.chunk_size, model.action_dim)
    tensors = {f"param/{name}": p for name, p in model.state_dict().items()}
    for key, feature in config["input_features"].items():
        visual = feature["type"] == "VISUAL"
        tensors[f"obs/{key}"] = torch.rand(batch, 3, *config["image_size"]) if visual else torch.randn(batch, 14)
    actions = torch.randn(shape)
    actions[..., model.real_action_dim :] = 0
    noise, t = torch.randn(shape), torch.rand(batch)
    tensors |= {"sample_noise": torch.randn(shape), "t": t, "x_t": interpolate(actions, noise, t, model.noise_at)[0]}

    flow = config["flow"]
    metadata = {
        "flowgpu.golden": "1", "config": json.dumps(config),
        "solver": json.dumps({"name": flow["solver"], "steps": flow["num_steps"]}),
        "reference": f"PyTorch {torch.__version__.split('+')[0]} on CPU, float64, stored as float32",
    }
    observation = {key: tensors[f"obs/{key}"].double() for key in config["input_features"]}
    model = model.double().eval()
    with torch.no_grad():
        velocity = model(observation, tensors["x_t"].double(), t.double())
        chunk = sample(model, observation, tensors["sample_noise"].double(), solver_of(metadata))
    tensors |= {"expect/velocity": velocity, "expect/sample": chunk}
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(tensors, arguments.file, metadata)
    print(f"{arguments.file}: {parameters:,} parameters, {arguments.cameras} camera(s), batch {batch}, "
          f"{arguments.file.stat().st_size / 1e6:.1f} MB")


def solver_of(metadata: dict) -> Solver:
    return Solver(**json.loads(metadata["solver"]))


def time_chunks(arguments):
    with safetensors.safe_open(arguments.file, framework="pt") as opened:
        metadata = opened.metadata()
        config = json.loads(metadata["config"])
        with torch.device("meta"):
            model = FlowMatching(config)
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    weights = {name.removeprefix("param/"): tensors.pop(name) for name in list(tensors) if name.startswith("param/")}
    model.load_state_dict(weights, assign=True)
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    model.eval()
    observation = {key: tensors[f"obs/{key}"] for key in config["input_features"]}
    noise, solver = tensors["sample_noise"], solver_of(metadata)

    seconds = []
    with torch.inference_mode():
        for _ in range(arguments.chunks + 1):
            start = time.perf_counter()
            chunk = sample(model, observation, noise, solver)
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        model.encode(observation)
        encode = time.perf_counter() - start
    error = (chunk - tensors["expect/sample"]).double()
    nmse = (error.square().sum() / tensors["expect/sample"].double().square().sum()).item()
    first, seconds = seconds[0], seconds[1:]
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, batch {len(noise)}, {solver.steps} steps: "
          f"median {statistics.median(seconds):.3f} s a chunk ({min(seconds):.3f} to {max(seconds):.3f}, "
          f"{len(seconds)} chunks; the first {first:.3f}), of it {encode:.3f} s to encode the observation")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak resident memory {peak / 1e6:.0f} MB, weights {weight_bytes / 1e6:.0f} MB; "
          f"sample in float32 against float64: NMSE {nmse:.1e}, bound 1e-11")


if __name__ == "__main__":
    main()
