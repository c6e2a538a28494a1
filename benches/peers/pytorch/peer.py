"""flowgpu's peer in PyTorch: training steps and samples of the seed-000 network, chunks of the full-size policy.

    python peer.py serve cpu|cuda GOLDEN [--compile] [--graphs] [--tf32] [--bf16]

Answers each line on stdin with one line of JSON, until end of input:

    check                    NMSE of the golden file's sample; what is timed computes it, row by row
    train BATCH REPEAT       one step on u8 images: / 255, noise, t, dropout 0.1, MSE, backward, Adam (fused), loss read
    sample BATCH REPEAT      u8 images / 255 -> encoder, once -> 20 Euler steps of the decoder -> actions on the host
    chunk BATCH REPEAT       the same of the full-size `flowmatching` policy with random weights: ten Euler steps
    train-full BATCH REPEAT  a training step of that policy
    product N REPEAT         a product of two N x N matrices

The modules are those of tests/golden. Times are those of single runs, after three that are not timed. What cannot be
done is answered with `skipped` and the reason: torch.compile alone fails for want of a compiler, headers or Triton.
"""

import argparse
import json
import math
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Callable

import safetensors
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "tests" / "golden"))  # last, because it has a statistics.py of its own
from flow import FlowNetwork, Observation, Solver, loss  # noqa: E402
from patch_decoder import PatchDecoder  # noqa: E402

POOL = 512  # distinct images that batches are gathered from
WARM_UP = 3
LEARNING_RATE = 1e-4


class Golden:
    """The file with the seed's weights and the reference's sample."""

    def __init__(self, path: Path):
        with safetensors.safe_open(path, framework="pt") as opened:
            metadata = opened.metadata()
            self.tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        self.config = json.loads(metadata["config"])
        self.solver = Solver(**json.loads(metadata["solver"]))

    def network(self, **changes) -> PatchDecoder:
        network = PatchDecoder(self.config | changes)
        weights = {name.removeprefix("param/"): t for name, t in self.tensors.items() if name.startswith("param/")}
        network.load_state_dict(weights)
        return network


class Inputs:
    """Random images in host memory, and what else a policy's batches consist of."""

    def __init__(self, network: FlowNetwork, side: int, pool: int, camera: str, state: tuple[str, int] | None = None):
        self.chunk = (network.chunk_size, network.action_dim)
        self.camera = camera
        self.images = torch.randint(0, 256, (pool, 3, side, side), dtype=torch.uint8)
        self.actions = torch.rand(pool, *self.chunk) * 2 - 1
        self.states = {state[0]: torch.randn(pool, state[1])} if state else {}

    def observation(self, rows: Tensor, device: torch.device) -> Observation:
        # Pinned, as a good loader does it: the copy to a GPU is then no slower than need be.
        images = torch.empty((len(rows), *self.images.shape[1:]), dtype=torch.uint8, pin_memory=device.type == "cuda")
        torch.index_select(self.images, 0, rows, out=images)
        seen = {self.camera: images.to(device, non_blocking=True).float() / 255}
        return seen | {key: values[rows].to(device) for key, values in self.states.items()}


class Peer:
    """Builds what is asked for once, and times it."""

    def __init__(self, options: argparse.Namespace):
        self.device = torch.device(options.device)
        self.golden = Golden(options.golden)
        self.autocast = partial(torch.autocast, self.device.type, torch.bfloat16, enabled=options.bf16)
        self.compile = compiler(options)

    def answer(self, line: str) -> dict:
        what, *numbers = line.split()
        row = {"what": what, "peer": "pytorch", "version": torch.__version__, "device": device_name(self.device)}
        try:
            if what == "check" and not numbers:
                return row | {"nmse": self.nmse()}
            size, repeat = (int(number) for number in numbers)
            return row | {"batch": size} | self.times(self.run(what, size), repeat)
        except Exception as error:  # whatever this machine or this version lacks: the harness is told
            reason = (str(error).strip() or "no message").splitlines()[0]
            return row | {"skipped": f"{type(error).__name__}: {reason}"}

    def nmse(self) -> float:
        """Squared error over the reference's square. Of batches of 1, so that nothing is compiled for this alone."""
        tensors, sampler = self.golden.tensors, self.seed_sampler()
        images, noise = tensors["obs/observation.image"].to(self.device), tensors["sample_noise"].to(self.device)
        rows = [sampler({"observation.image": i[None]}, n[None]) for i, n in zip(images, noise)]
        expected = tensors["expect/sample"].double()
        return ((torch.cat(rows).double() - expected).square().sum() / expected.square().sum()).item()

    @cache
    def run(self, what: str, size: int) -> Callable[[], object]:
        """What is timed."""
        match what:
            case "train":
                network = self.golden.network(loss_reduction="all")
                return self.training(network, Inputs(network, 128, POOL, "observation.image"), size)
            case "sample":
                network = self.golden.network()
                return self.sampling(self.seed_sampler(), Inputs(network, 128, size, "observation.image"), size)
            case "chunk":
                network, inputs, solver = full_size(self.device, pool=size)
                return self.sampling(self.sampler(network, solver), inputs, size)
            case "train-full":
                network, inputs, _ = full_size(self.device, pool=size)
                return self.training(network, inputs, size)
            case "product":
                left, right = torch.randn(2, size, size, device=self.device)
                return self.autocast()(lambda: left @ right)
        raise ValueError(f"`{what}` is unknown")

    @cache
    def seed_sampler(self):
        return self.sampler(self.golden.network(), self.golden.solver)

    def training(self, network: FlowNetwork, inputs: Inputs, batch: int) -> Callable[[], float]:
        network = network.to(self.device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
        objective = self.compile(partial(loss, network))

        def step() -> float:
            rows = torch.randint(len(inputs.images), (batch,))
            seen, actions = inputs.observation(rows, self.device), inputs.actions[rows].to(self.device)
            noise, t = torch.randn_like(actions), torch.rand(batch, device=self.device)
            optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                value = objective(seen, actions, noise, t)
            value.backward()
            optimizer.step()
            return value.item()

        return step

    def sampling(self, sampler, inputs: Inputs, batch: int) -> Callable[[], Tensor]:
        rows = torch.arange(batch)
        return lambda: sampler(inputs.observation(rows, self.device),
                               torch.randn(batch, *inputs.chunk, device=self.device))

    def sampler(self, network: FlowNetwork, solver: Solver) -> Callable[[Observation, Tensor], Tensor]:
        """`flow.sample` with the solver's times on the device: the reference makes them on the CPU."""
        network = network.to(self.device).eval()
        direction = 1 if network.noise_at == 0 else -1
        times = [torch.full((1,), network.noise_at + direction * solver.progress(step, 0), device=self.device)
                 for step in range(solver.steps)]
        assert solver.name == "euler"

        def euler(observation: Observation, x: Tensor) -> Tensor:
            memory = network.encode(observation)
            for t in times:
                x = x + direction / solver.steps * network.decode(memory, x, t)
            return x

        chunk = self.compile(euler)

        @torch.inference_mode()
        def run(observation: Observation, noise: Tensor) -> Tensor:
            with self.autocast():
                return chunk(observation, noise).float().cpu()

        return run

    def times(self, run: Callable[[], object], repeat: int) -> dict:
        for _ in range(WARM_UP):
            self.timed(run)
        times = sorted(self.timed(run) for _ in range(repeat))
        quartiles = {"q1_ms": 0.25, "median_ms": 0.5, "q3_ms": 0.75}
        return {name: round(times[round((repeat - 1) * share)], 4) for name, share in quartiles.items()}

    def timed(self, run: Callable[[], object]) -> float:
        """Milliseconds of one run, finished on the device."""
        start = time.perf_counter()
        run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3


def full_size(device: torch.device, pool: int) -> tuple[nn.Module, Inputs, Solver]:
    """The published size of `flowmatching` with one camera: 169,608,992 random parameters."""
    import flowmatching as fm  # here, because nothing else needs torchvision

    torch.manual_seed(0)
    network, config = fm.FlowMatching(fm.SEED_001), fm.SEED_001
    fraction = torch.linspace(0, 1, config["hidden_dim"] // 2, dtype=torch.float64)
    periods = (fm.SHORTEST_PERIOD * (fm.LONGEST_PERIOD / fm.SHORTEST_PERIOD) ** fraction).to(device)

    def time_embedding(t: Tensor) -> Tensor:
        """The module's own, which makes its periods at every call and on the CPU."""
        angle = 2 * math.pi * t.double()[..., None] / periods
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    network.model.time_embedding = time_embedding
    state = config["input_features"]["observation.state"]["shape"][0]
    inputs = Inputs(network, config["image_size"][0], pool, "observation.images.cam_1", ("observation.state", state))
    return network, inputs, Solver(config["flow"]["solver"], config["flow"]["num_steps"])


def compiler(options: argparse.Namespace) -> Callable[[Callable], Callable]:
    """What the options make of a function."""
    if not options.compile:
        return lambda function: function
    mode = "reduce-overhead" if options.graphs else None
    return partial(torch.compile, dynamic=False, mode=mode)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("device", choices=["cpu", "cuda"])
    parser.add_argument("golden", type=Path)
    parser.add_argument("--compile", action="store_true", help="torch.compile, a whole chunk or loss at once")
    parser.add_argument("--graphs", action="store_true", help="with --compile: CUDA graphs")
    parser.add_argument("--tf32", action="store_true", help="products of float32 by TF32")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    peer = Peer(options)
    for line in filter(str.strip, sys.stdin):
        print(json.dumps(peer.answer(line)), flush=True)


if __name__ == "__main__":
    main()
