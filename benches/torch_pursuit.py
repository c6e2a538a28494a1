"""How fast PyTorch runs the pursuit policy (seed 000: 287,106 parameters, 128×128 image, chunks of 8), flowgpu's peer.

    python benches/torch_pursuit.py train --batch 64 --seconds 5
    python benches/torch_pursuit.py sample --batch 1 --steps 20 --repeat 3
    python benches/torch_pursuit.py serve        then `train 64`, `sample 1`, `sample 64 compiled`, … on stdin

train   one step: uint8 images and actions gathered from memory, images / 255, noise, t, forward with dropout 0.1,
        MSE, backward, Adam (fused). float32. No decoding, no augmentation.
sample  one chunk: uint8 images / 255 -> encoder -> 20 Euler steps of the decoder -> actions back on the host.
        encode "once" is the best PyTorch does with these modules; "each" runs the encoder again in every step, as the
        published code does.

Each measurement is one JSON object on a line of stdout: times in ms of single steps or chunks as median and quartiles
after a warm-up that is not timed, and the rate the median gives. `load` is the machine's load average at the start:
PyTorch's threads wait for each other, so a single busy core spoils the figures by far more than its share.

`serve` keeps everything warm between requests, so that a driver can take turns with another program; it answers each
line with one line and stops at end of input. A request is `train BATCH` or `sample BATCH`, then, in any order, `eager`
or `compiled` and `once` or `each`; what is left out comes from the command line.
"""

import argparse
import json
import os
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from typing import Callable

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))
from patch_decoder import PURSUIT, PatchDecoder, loss, sample  # noqa: E402

POOL = 512  # distinct images that batches are gathered from
WARMUP = 3
MIN_TIMED = 5
VARIANTS = ("eager", "compiled")
ENCODES = ("once", "each")


class Bench:
    """Builds every arm once, when first asked for, and times it."""

    def __init__(self, device: str, steps: int):
        self.device = torch.device(device)
        self.steps = steps
        torch.manual_seed(0)
        self.images = torch.randint(0, 256, (POOL, 3, 128, 128), dtype=torch.uint8).to(self.device)
        self.actions = (torch.rand(POOL, 8, 2) * 2 - 1).to(self.device)

    def train_step(self, variant: str) -> Callable[[int], None]:
        """A function that trains on a batch of the size it is given."""
        model = PatchDecoder(PURSUIT | {"loss_reduction": "all"}).to(self.device).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

        def objective(images: Tensor, actions: Tensor) -> Tensor:
            noise = torch.randn_like(actions)
            t = torch.rand(len(actions), device=actions.device)
            return loss(model, images.float() / 255, actions, noise, t)

        if variant == "compiled":
            objective = torch.compile(objective, dynamic=False)

        def step(batch: int):
            index = torch.randint(POOL, (batch,), device=self.device)
            optimizer.zero_grad(set_to_none=True)
            objective(self.images[index], self.actions[index]).backward()
            optimizer.step()

        return step

    def sampler(self, variant: str, encode: str) -> Callable[[int], None]:
        """A function that samples one chunk for each of as many images as it is told."""
        model = PatchDecoder(PURSUIT).to(self.device).eval()
        if variant == "compiled":
            model.encode = torch.compile(model.encode, dynamic=False)
            model.decode = torch.compile(model.decode, dynamic=False)

        @torch.inference_mode()
        def chunk(batch: int):
            images = self.images[:batch].float() / 255
            noise = torch.randn(batch, 8, 2, device=self.device)
            run = sample if encode == "once" else sample_encoding_each_step
            return run(model, images, noise, self.steps).cpu()

        return chunk

    @cache
    def arm(self, task: str, variant: str, encode: str) -> Callable[[int], None]:
        return self.train_step(variant) if task == "train" else self.sampler(variant, encode)

    @cache
    def warm_up(self, task: str, batch: int, variant: str, encode: str):
        for _ in range(WARMUP):
            self.timed(self.arm(task, variant, encode), batch)

    def timed(self, run: Callable[[int], None], batch: int) -> float:
        """Milliseconds of one run, finished on the device."""
        start = time.perf_counter()
        run(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) * 1e3

    def measure(self, task: str, batch: int, variant: str, encode: str, seconds: float) -> dict:
        """One measurement, ready to print; `skipped` says why there is none."""
        row = {"peer": "pytorch", "version": torch.__version__, "device": device_name(self.device),
               "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1),
               "task": task, "batch": batch, "variant": variant}
        if task == "sample":
            row |= {"steps": self.steps, "encode": encode}
        try:
            self.warm_up(task, batch, variant, encode)
        except Exception as error:  # torch.compile fails in many ways: no compiler, no headers, no Triton
            if variant == "eager":
                raise
            reason = (str(error).strip() or "no message").splitlines()[0]
            return row | {"skipped": f"torch.compile: {type(error).__name__}: {reason}"}
        times = []
        end = time.perf_counter() + seconds
        while len(times) < MIN_TIMED or time.perf_counter() < end:
            times.append(self.timed(self.arm(task, variant, encode), batch))
        q1, median, q3 = statistics.quantiles(times, n=4)
        return row | {"runs": len(times), "ms_median": round(median, 3), "ms_q1": round(q1, 3), "ms_q3": round(q3, 3),
                      "samples_per_s": round(batch * 1e3 / median, 2)}


def sample_encoding_each_step(model: PatchDecoder, images: Tensor, noise: Tensor, steps: int) -> Tensor:
    """`sample` as published: nothing is kept between solver steps. Noise is at t = 0."""
    x = noise
    for i in range(steps):
        x = x + model.decode(model.encode(images), x, x.new_full((len(x),), i / steps)) / steps
    return x


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def parse_request(line: str, variant: str, encode: str) -> tuple[str, int, str, str]:
    """`train 64 compiled` -> ("train", 64, "compiled", encode)."""
    words = line.split()
    task, batch = words[0], words[1] if len(words) > 1 else ""
    if task not in ("train", "sample") or not batch.isdecimal() or not 1 <= int(batch) <= POOL:
        raise ValueError(f"unknown request {line.strip()!r}: want train|sample BATCH, with BATCH from 1 to {POOL}")
    for option in words[2:]:
        if option in VARIANTS:
            variant = option
        elif option in ENCODES:
            encode = option
        else:
            raise ValueError(f"unknown option {option!r}: want one of {', '.join(VARIANTS + ENCODES)}")
    return task, int(batch), variant, encode


def answer(row: dict):
    print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("train", "sample", "serve"))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20, help="Euler steps of a sample")
    parser.add_argument("--seconds", type=float, default=2.0, help="time to measure for, warm-up aside")
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each arm, the arms taking turns")
    parser.add_argument("--variant", choices=VARIANTS, help="default: both; eager for serve")
    parser.add_argument("--encode", choices=ENCODES, help="default: both; once for serve")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="default: PyTorch's own choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    bench = Bench(arguments.device, arguments.steps)

    if arguments.task == "serve":
        defaults = (arguments.variant or "eager", arguments.encode or "once")
        for line in filter(str.strip, sys.stdin):
            try:
                answer(bench.measure(*parse_request(line, *defaults), arguments.seconds))
            except ValueError as error:
                answer({"error": str(error)})
        return

    variants = [arguments.variant] if arguments.variant else VARIANTS
    encodes = [arguments.encode] if arguments.encode else ENCODES
    if arguments.task == "train":
        encodes = ["once"]  # has no meaning there
    arms = [(variant, encode) for variant in variants for encode in encodes]
    for _ in range(arguments.repeat):
        for variant, encode in arms:
            answer(bench.measure(arguments.task, arguments.batch, variant, encode, arguments.seconds))


if __name__ == "__main__":
    main()
