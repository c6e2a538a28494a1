"""The figures as Markdown and as JSON."""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

import bars
from cases import CASES, SOFTWARE_REPEAT, SOFTWARE_ROUNDS, Case
from measure import START_RUNS, START_WARM_UP, Results, Subject

BEGIN, END = "<!-- compare.py -->", "<!-- end -->"
PROTOCOL = (
    "Every round asks each arm in turn, one process working at a time, about a short case several times; a figure is the "
    f"median of the turns' medians, the spread their smallest and largest; a software adapter has {SOFTWARE_ROUNDS} rounds of {SOFTWARE_REPEAT} runs; "
    "ratio: this arm's time by flowgpu's on the same device."
)


@dataclass(frozen=True)
class Run:
    machine: str
    rounds: int
    results: Results


def markdown(run: Run) -> str:
    results = run.results
    parts = [f"{run.machine}; {run.rounds} rounds. {PROTOCOL}", arms_table(results)]
    parts += [case_table(case, results) for case in CASES if any(case in s.rounds for s in results.subjects)]
    if results.start_ms:
        parts.append(start_line(results.start_ms))
    parts.append(table(("case", "bar", "measured", ""), bars.rows(results)))
    if results.left_out:
        parts.append("Left out:\n\n" + "\n".join(f"- {line}" for line in results.left_out))
    return "\n\n".join(parts) + "\n"


def arms_table(results: Results) -> str:
    """The driver is named where the arm names it: flowgpu does, and its Mesa is its peers'."""
    rows = []
    for subject in results.subjects:
        check = subject.check
        device = ", ".join(check[key] for key in ("device", "driver") if check.get(key))
        rows.append((subject.arm.name, check.get("version", "-"), device, f"{check['nmse']:.1e}"))
    return table(("arm", "version", "device", "NMSE of the golden sample"), rows)


def case_table(case: Case, results: Results) -> str:
    rows, notes = [], []
    for subject in results.subjects:
        if (median := subject.median(case)) is None:
            continue
        medians, rate = subject.medians(case), case.work / median * 1e3
        spread = f"{milliseconds(min(medians))} to {milliseconds(max(medians))}"
        rows.append((subject.arm.name, milliseconds(median), spread, f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}",
                     ratio(subject, case, results)))
        if note := subject.rounds[case][0].get("note"):
            notes.append(f"\n\n{subject.arm.name}: {note}.")
    header = ("arm", "median, ms", "spread, ms", f"{case.unit}/s", "ratio")
    return f"### {case.name[0].upper()}{case.name[1:]}\n\n{table(header, rows)}{''.join(notes)}"


def ratio(subject: Subject, case: Case, results: Results) -> str:
    ours = results.median(subject.arm.beside, case) if subject.arm.beside else None
    return f"{subject.median(case) / ours:.2f}" if ours else "-"


def start_line(times: list[float]) -> str:
    return (f"### Process start to first action\n\n`flowgpu sample --device cpu`, the whole process: median "
            f"{statistics.median(times):.1f} ms, {times[0]:.1f} to {times[-1]:.1f} ms, {START_RUNS} runs after "
            f"{START_WARM_UP}.")


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ("---",) * len(header), *rows))


def write(run: Run, folder: Path) -> None:
    """RESULTS.md between the markers, and every round in results.json."""
    path = folder / "RESULTS.md"
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{path.name} wants one `{BEGIN}` and, behind it, one `{END}`")
    before, rest = text.split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{markdown(run)}{END}{rest.split(END)[1]}", encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(as_json(run), indent=1) + "\n", encoding="utf-8")


def as_json(run: Run) -> dict:
    subjects, wanted = run.results.subjects, ("median_ms", "q1_ms", "q3_ms")
    rounds = {
        case.name: {s.arm.name: [{key: answer.get(key) for key in wanted} for answer in s.rounds[case]]
                    for s in subjects if case in s.rounds}
        for case in CASES
    }
    return {
        "machine": run.machine,
        "arms": {s.arm.name: {key: value for key, value in s.check.items() if key != "what"} for s in subjects},
        "rounds": {name: arms for name, arms in rounds.items() if arms},
        "start_to_first_action_ms": [round(time, 3) for time in run.results.start_ms],
        "left_out": run.results.left_out,
    }
