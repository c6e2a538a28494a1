"""Training and sampling speed of the seed network: flowgpu beside PyTorch, on the same machine, in turns.

    python benches/compare.py [--rounds 7] [--write]

Needs Python with torch, numpy and safetensors, and a Rust toolchain. Each round asks every arm once, one after the
other, so that whatever else the machine does falls on all of them; an arm's figure is the median of its rounds'
medians, and the spread is the smallest and the largest of them. An arm that cannot run says so and is left out.
With --write, the table goes to benches/RESULTS.md and the figures to benches/results.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = [("train", 64), ("sample", 1), ("sample", 64)]
NAMES = {
    ("train", 64): "training step, batch 64",
    ("sample", 1): "20-step sample, batch 1",
    ("sample", 64): "20-step sample, batch 64",
}
# How often flowgpu repeats a case in one round: about a second and a half of work.
REPEATS = {"cpu": {("train", 64): 20, ("sample", 1): 300, ("sample", 64): 20}, "gpu": {}}


class Arm:
    """A program that answers requests, line by line."""

    def __init__(self, name: str, command: list[str], request):
        self.name, self.request = name, request
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, case: tuple[str, int]) -> float | None:
        """Median milliseconds of one step or chunk; None if the arm cannot."""
        try:
            self.process.stdin.write(self.request(case) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        return json.loads(line).get("median_ms") if line else None


def speed_binary() -> str:
    """Builds flowgpu's side and returns its path."""
    command = ["cargo", "build", "--release", "--bench", "speed", "--message-format=json"]
    output = subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    built = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in built if m.get("executable") and m["target"]["name"] == "speed")


def arms() -> list[Arm]:
    """Every arm that starts here."""
    binary = speed_binary()

    def ours(device: str):
        return lambda case: f"{case[0]} {case[1]} {REPEATS[device].get(case, 2)}"

    found = [Arm(f"flowgpu, {d}", [binary, "serve", d], ours(d)) for d in ("cpu", "gpu")]
    peer = [sys.executable, str(HERE / "torch_pursuit.py"), "serve", "--seconds", "1.5"]
    for variant in ("eager", "compiled"):
        found.append(Arm(f"PyTorch, {variant}", peer, lambda case, v=variant: f"{case[0]} {case[1]} {v}"))
    return found


def measure(rounds: int) -> dict[str, dict[tuple[str, int], list[float]]]:
    """Rounds of medians of every arm and case."""
    everyone = arms()
    figures = {arm.name: {case: [] for case in CASES} for arm in everyone}
    for case in CASES:
        for arm in everyone:  # compile and warm up
            if arm.ask(case) is None:
                print(f"skipped: {arm.name} cannot run {NAMES[case]}", file=sys.stderr)
        for turn in range(rounds):
            for arm in everyone:
                # A software adapter takes seconds a step; one round shows its size.
                if arm.name == "flowgpu, gpu" and turn >= 1:
                    continue
                if (median := arm.ask(case)) is not None:
                    figures[arm.name][case].append(median)
                    print(f"{NAMES[case]}, round {turn + 1}: {arm.name} {median:.2f} ms", file=sys.stderr)
    return figures


def table(figures) -> str:
    """The figures as Markdown, with ratios to PyTorch's better arm."""
    lines = [
        "| case | arm | median | spread | samples/s | PyTorch's best / this |",
        "|---|---|---|---|---|---|",
    ]
    for case in CASES:
        medians = {name: statistics.median(cases[case]) for name, cases in figures.items() if cases[case]}
        best = min((m for name, m in medians.items() if name.startswith("PyTorch")), default=None)
        for name, median in medians.items():
            rounds = figures[name][case]
            ratio = f"{best / median:.2f}" if best else "-"
            rate = f"{case[1] / median * 1e3:,.0f}"
            spread = f"{min(rounds):.2f} to {max(rounds):.2f} ms"
            lines.append(f"| {NAMES[case]} | {name} | {median:.2f} ms | {spread} | {rate} | {ratio} |")
    return "\n".join(lines)


def machine() -> str:
    """What ran this, in words."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()}; torch {torch.__version__} with "
        f"{torch.get_num_threads()} threads; load {os.getloadavg()[0]:.2f} at the start"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    where = machine()
    figures = measure(arguments.rounds)
    text = f"{where}; {arguments.rounds} rounds.\n\n{table(figures)}\n"
    print(text)
    if arguments.write:
        results = HERE / "RESULTS.md"
        head = results.read_text().split("<!-- compare.py -->")[0] if results.exists() else "# Results\n\n"
        results.write_text(f"{head}<!-- compare.py -->\n{text}")
        plain = {arm: {NAMES[case]: rounds for case, rounds in cases.items()} for arm, cases in figures.items()}
        (HERE / "results.json").write_text(json.dumps({"machine": where, "median_ms": plain}, indent=1) + "\n")


if __name__ == "__main__":
    main()
