"""Who is measured."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import build
from cases import CASES, ON_CPU, PRODUCT, SAMPLE_1, SEED, TRAIN, Case

OURS_CPU, OURS_GPU = "flowgpu, cpu", "flowgpu, gpu"


@dataclass(frozen=True)
class Arm:
    """A program that answers requests, line by line. Without a command it is left out, for the reason `missing`."""

    name: str
    command: list[str] | None
    cases: tuple[Case, ...]
    beside: str | None = None  # the arm of flowgpu that its ratio is to
    on_software: tuple[Case, ...] | None = None  # the cases on a software adapter; None: this is none of wgpu's
    nmse_bound: float = 1e-6
    missing: str = ""


def all_arms(speed: Path, with_build: bool, through: list[str]) -> list[Arm]:
    """`through`: what starts the programs that use wgpu's adapters."""
    ours = [Arm(OURS_CPU, serve(speed, "cpu"), ON_CPU), Arm(OURS_GPU, serve(speed, "gpu"), CASES, on_software=SEED)]
    arms = [*ours, *pytorch(), *burn(with_build), *meganeura(with_build)]
    return [replace(arm, command=[*through, *arm.command]) if arm.command and arm.on_software else arm for arm in arms]


def serve(*command: Path | str) -> list[str]:
    """PROGRAM DEVICE -> PROGRAM serve DEVICE GOLDEN."""
    *program, device = map(str, command)
    return [*program, "serve", device, str(build.GOLDEN)]


def pytorch() -> list[Arm]:
    cuda = build.torch_sees_cuda()
    if cuda is None:
        return [Arm("PyTorch", None, (), missing=f"no torch in {Path(sys.executable).name}: see benches/README.md")]

    def arm(device: str, name: str, *options: str, **more) -> Arm:
        program = [sys.executable, build.BENCHES / "peers" / "pytorch" / "peer.py"]
        beside, cases = (OURS_GPU, CASES) if device == "cuda" else (OURS_CPU, ON_CPU)
        if "--compile" in options and "--tf32" not in options and "--bf16" not in options:
            cases = tuple(case for case in cases if case != PRODUCT)  # the same kernel, compiled or not
        return Arm(f"PyTorch, {device} {name}", [*serve(*program, device), *options], cases, beside, **more)

    arms = [arm("cpu", "eager"), arm("cpu", "compiled", "--compile")]
    if cuda:
        graphs = ("--compile", "--graphs")
        arms += [
            arm("cuda", "eager"), arm("cuda", "compiled", "--compile"), arm("cuda", "graphs", *graphs),
            # 11 and 8 significant bits instead of 24.
            arm("cuda", "graphs, TF32", *graphs, "--tf32", nmse_bound=1e-4),
            arm("cuda", "graphs, bf16", *graphs, "--bf16", nmse_bound=1e-2),
        ]
    return arms


def burn(with_build: bool) -> list[Arm]:
    return [
        peer("Burn, flex", "burn", "flex", with_build, SEED, OURS_CPU),
        peer("Burn, wgpu", "burn", "wgpu", with_build, SEED, OURS_GPU, on_software=(TRAIN, SAMPLE_1)),
    ]


def meganeura(with_build: bool) -> list[Arm]:
    return [peer("meganeura, vulkan", "meganeura", "vulkan", with_build, SEED, OURS_GPU, on_software=(SAMPLE_1,))]


def peer(name: str, folder: str, device: str, with_build: bool, cases: tuple[Case, ...], beside: str, **more) -> Arm:
    binary = build.peer(folder, with_build)
    if binary is None:
        return Arm(name, None, cases, beside, missing=build.how_to_build(folder), **more)
    return Arm(name, serve(binary, device), cases, beside, **more)
