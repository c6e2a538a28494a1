"""What flowgpu is to reach."""

import statistics
from dataclasses import dataclass

from arms import OURS_CPU, OURS_GPU
from cases import CHUNK, SAMPLE_1, SAMPLE_64, TRAIN, Case
from measure import Results

START_BAR_MS = 50.0


@dataclass(frozen=True)
class Bar:
    """How many times faster than the best of a peer's arms, those whose names begin with `peer`."""

    case: Case
    peer: str
    ours: str
    ratio: float
    minimum: float | None = None  # what has to be reached on the way


BARS = (
    Bar(TRAIN, "PyTorch, cpu", OURS_CPU, 2.0, minimum=1.3),
    Bar(SAMPLE_1, "PyTorch, cpu", OURS_CPU, 10.0),
    Bar(SAMPLE_64, "PyTorch, cpu", OURS_CPU, 2.5),
    Bar(CHUNK, "PyTorch, cpu", OURS_CPU, 1.0),
    Bar(TRAIN, "Burn, flex", OURS_CPU, 3.0),
    Bar(SAMPLE_1, "Burn, flex", OURS_CPU, 2.0),
    Bar(SAMPLE_64, "Burn, flex", OURS_CPU, 3.0),
    Bar(TRAIN, "Burn, wgpu", OURS_GPU, 4.0),
    Bar(SAMPLE_1, "Burn, wgpu", OURS_GPU, 50.0),
    Bar(SAMPLE_1, "meganeura, vulkan", OURS_GPU, 15.0),
)


def measured(bar: Bar, results: Results) -> float | None:
    ours = results.median(bar.ours, bar.case)
    names = [subject.arm.name for subject in results.subjects if subject.arm.name.startswith(bar.peer)]
    medians = [median for name in names if (median := results.median(name, bar.case)) is not None]
    return min(medians) / ours if ours is not None and medians else None


def verdict(bar: Bar, ratio: float | None) -> str:
    if ratio is None:
        return "not measured"
    if ratio >= bar.ratio:
        return "met"
    return "minimum met" if bar.minimum is not None and ratio >= bar.minimum else "**not met**"


def rows(results: Results) -> list[tuple[str, str, str, str]]:
    """Case, bar, what was measured, and whether that meets it."""
    rows = []
    for bar in BARS:
        ratio = measured(bar, results)
        whom = "PyTorch's best" if bar.peer.startswith("PyTorch") else bar.peer
        minimum = f" (at least {bar.minimum:g})" if bar.minimum is not None else ""
        figure = f"{ratio:.2f}" if ratio is not None else "-"
        rows.append((f"{bar.case.name}, {bar.ours.split(', ')[1]}", f"{bar.ratio:g} x {whom}{minimum}", figure,
                     verdict(bar, ratio)))
    if results.start_ms:
        start = statistics.median(results.start_ms)
        met = "met" if start <= START_BAR_MS else "**not met**"
        rows.append(("process start to first action", f"at most {START_BAR_MS:g} ms", f"{start:.1f} ms", met))
    return rows
