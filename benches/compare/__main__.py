"""flowgpu's speed beside its peers', on the same machine, in turns.

    python benches/compare [--rounds 5] [--groups seed full lavapipe] [--only NAME] [--minutes 9]
                             [--gpu-through COMMAND] [--build] [--write]

Builds flowgpu, looks for its peers (--build builds those in Rust), asks each for the golden file's sample, times those
that have it right, and prints tables. --write puts them into benches/RESULTS.md and benches/results.json. How to set it
up, and how to read it: benches/README.md.
"""

import argparse
import shlex
import time

import build
from arms import all_arms
from cases import GROUPS
from machine import machine
from measure import Results, check, measure, start_to_first_action
from report import Run, markdown, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="compare", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=GROUPS, metavar="GROUP",
                        help="seed, full: the small and the full-size policy; lavapipe: all on software adapters")
    parser.add_argument("--only", default="", help="peers with this in their name; flowgpu is always there")
    parser.add_argument("--minutes", type=float, default=9, help="when to stop, the first round finished")
    parser.add_argument("--gpu-through", type=shlex.split, default=[], metavar="COMMAND",
                        help="starts the programs that use a GPU: a container with another driver, say")
    parser.add_argument("--build", action="store_true", help="build the peers in Rust first")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()

    programs = build.flowgpu()
    arms = [arm for arm in all_arms(programs["speed"], options.build, options.gpu_through)
            if arm.name.startswith("flowgpu") or options.only.lower() in arm.name.lower()]
    until = time.monotonic() + 60 * options.minutes
    run = Run(machine(), options.rounds, Results())
    try:
        start_to_first_action([str(programs["flowgpu"]), "sample", "--device", "cpu"], run.results)
        check(arms, run.results)
        measure(run.results, options.rounds, options.groups, until)
    finally:
        run.results.close()
    print(markdown(run))
    if options.write:
        write(run, build.BENCHES)


if __name__ == "__main__":
    main()
