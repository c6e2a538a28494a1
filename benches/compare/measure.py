"""Rounds of figures: every arm in turn, one at a time."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from arms import OURS_GPU, Arm
from cases import CASES, SOFTWARE_ADAPTERS, SOFTWARE_REPEAT, SOFTWARE_ROUNDS, Case
from process import Failed, Process

CHECK_SECONDS = 120
CASE_SECONDS = 240  # torch.compile takes most of it
START_WARM_UP, START_RUNS = 3, 20


@dataclass
class Subject:
    """An arm that runs, and what it has shown so far."""

    arm: Arm
    process: Process
    check: dict
    software: bool = False
    rounds: dict[Case, list[dict]] = field(default_factory=dict)
    given_up: set[Case] = field(default_factory=set)

    def median(self, case: Case) -> float | None:
        medians = self.medians(case)
        return statistics.median(medians) if medians else None

    def medians(self, case: Case) -> list[float]:
        return [answer["median_ms"] for answer in self.rounds.get(case, [])]

    def is_due(self, case: Case, number: int, turn: int, groups: list[str]) -> bool:
        """Whether it has a figure to give in a turn of a round; software adapters have one turn."""
        if case in self.given_up or self.software and turn > 0:
            return False
        if self.software:
            return "lavapipe" in groups and case in self.arm.on_software and number < SOFTWARE_ROUNDS
        return case.group in groups and case in self.arm.cases and number < case.most_rounds


@dataclass
class Results:
    subjects: list[Subject] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)  # sorted

    def leave_out(self, line: str) -> None:
        say(f"left out: {line}")
        self.left_out.append(line)

    def median(self, name: str, case: Case) -> float | None:
        found = (subject for subject in self.subjects if subject.arm.name == name)
        return next((subject.median(case) for subject in found), None)

    def close(self) -> None:
        for subject in self.subjects:
            subject.process.close()


def check(arms: list[Arm], results: Results) -> None:
    """Starts every arm and keeps those that compute the golden file's sample."""
    for arm in arms:
        if arm.command is None:
            results.leave_out(f"{arm.name}: {arm.missing}")
            continue
        process = Process(arm.command)
        try:
            answer = process.ask("check", CHECK_SECONDS)
            nmse = answer.get("nmse")
            if nmse is None:
                raise Failed(answer.get("skipped", "no NMSE"))
            if not nmse <= arm.nmse_bound:
                raise Failed(f"WRONG, NMSE {nmse:.1e} is above {arm.nmse_bound:.0e}; not timed")
        except Failed as failure:
            results.leave_out(f"{arm.name}: {failure}")
            process.close()
            continue
        say(f"{arm.name}: NMSE {nmse:.1e}")
        results.subjects.append(Subject(arm, process, answer))
    mark_software(results)


def mark_software(results: Results) -> None:
    """Peers do not name their adapter; they are taken to have found flowgpu's."""
    ours = next((subject.check for subject in results.subjects if subject.arm.name == OURS_GPU), {})
    adapter = ours.get("device", "").lower()
    for subject in results.subjects:
        if subject.arm.on_software is not None:
            subject.software = any(name in adapter for name in SOFTWARE_ADAPTERS)


def measure(results: Results, rounds: int, groups: list[str], until: float) -> None:
    """Asks until `until`, by time.monotonic(); the first round is always finished."""
    for number in range(rounds):
        for case, turn, subject in turns(results.subjects):
            if number > 0 and time.monotonic() > until:
                results.leave_out(f"what was left of round {number + 1} on: time was up (--minutes)")
                return
            if subject.is_due(case, number, turn, groups):
                ask(subject, case, number, results)


def turns(subjects: list[Subject]) -> Iterator[tuple[Case, int, Subject]]:
    """A round: every case, as often as it has turns, by every arm."""
    return ((case, turn, subject) for case in CASES for turn in range(case.turns) for subject in subjects)


def ask(subject: Subject, case: Case, number: int, results: Results) -> None:
    """One figure. What failed once is not asked for again."""
    name, repeat = subject.arm.name, SOFTWARE_REPEAT if subject.software else case.repeat
    try:
        answer = subject.process.ask(f"{case.request} {repeat}", CASE_SECONDS)
    except Failed as failure:
        answer = {"skipped": str(failure)}
        restart(subject)
    if "median_ms" in answer:
        subject.rounds.setdefault(case, []).append(answer)
        say(f"{case.name}, round {number + 1}: {name} {answer['median_ms']:.2f} ms")
    else:
        subject.given_up.add(case)
        results.leave_out(f"{name}, {case.name}: {answer.get('skipped', 'no figure')}")


def restart(subject: Subject) -> None:
    """After a case that ended the process, or that is still running in it."""
    subject.process.close()
    subject.process = Process(subject.arm.command)


def start_to_first_action(command: list[str], results: Results) -> None:
    """Times a whole process, from its start to its end."""
    times = []
    for _ in range(START_WARM_UP + START_RUNS):
        start = time.perf_counter()
        run = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1e3)
        if run.returncode != 0:
            results.leave_out(f"process start to first action: `{' '.join(command[1:])}` ended with {run.returncode}")
            return
    results.start_ms = sorted(times[START_WARM_UP:])
    say(f"process start to first action: {statistics.median(results.start_ms):.1f} ms")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
