"""Where the programs are, and how they are built."""

import json
import os
import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent
ROOT = BENCHES.parent
GOLDEN = ROOT / "tests" / "golden" / "seed.safetensors"


def flowgpu() -> dict[str, Path]:
    """Builds flowgpu's side, so that it is never an old one: the programs `speed` and `flowgpu`."""
    command = ["cargo", "build", "--release", "--bench", "speed", "--bin", "flowgpu", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return {m["target"]["name"]: Path(m["executable"]) for m in messages if m.get("executable")}


def peer(name: str, build: bool) -> Path | None:
    """The program of benches/peers/NAME, or None where it has not been built."""
    manifest = BENCHES / "peers" / name / "Cargo.toml"
    if build:
        try:
            subprocess.run(["cargo", *build_arguments(manifest)], cwd=ROOT, check=True)
        except subprocess.CalledProcessError:
            return None
    target = Path(ROOT, os.environ.get("CARGO_TARGET_DIR") or manifest.parent / "target")
    binary = target / "release" / f"peer-{name}{'.exe' if os.name == 'nt' else ''}"
    return binary if binary.exists() else None


def build_arguments(manifest: Path) -> list[str]:
    return ["build", "--release", "--manifest-path", manifest.relative_to(ROOT).as_posix()]


def how_to_build(name: str) -> str:
    manifest = BENCHES / "peers" / name / "Cargo.toml"
    return f"not built: cargo {' '.join(build_arguments(manifest))}, or --build here"


def torch_sees_cuda() -> bool | None:
    """None where this Python has no torch. Asked in a process of its own: torch keeps threads and memory."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return answer.stdout.strip() == "True" if answer.returncode == 0 else None
