"""What is measured."""

from dataclasses import dataclass

GROUPS = ("seed", "full", "lavapipe")


@dataclass(frozen=True)
class Case:
    """A request to every arm. `repeat` runs make one figure: about a second of work on two cores.

    A shared host slows a core down for seconds at a time, which a short case meets as a whole or not at all: it has several
    `turns` a round.
    """

    request: str
    name: str
    group: str
    repeat: int
    work: float  # of one run, in `unit`s
    unit: str
    most_rounds: int = 99
    turns: int = 1


TRAIN = Case("train 64", "training step, batch 64", "seed", 10, 64, "samples", turns=3)
SAMPLE_1 = Case("sample 1", "20-step sample, batch 1", "seed", 40, 1, "samples", turns=5)
SAMPLE_64 = Case("sample 64", "20-step sample, batch 64", "seed", 10, 64, "samples", turns=3)
CHUNK = Case("chunk 1", "full-size chunk, batch 1", "full", 3, 1, "chunks", most_rounds=3)
TRAIN_FULL = Case("train-full 8", "full-size training step, batch 8", "full", 5, 8, "samples", most_rounds=3)
PRODUCT = Case("product 4096", "product of two 4096 x 4096 matrices", "full", 2, 2 * 4096**3 / 1e9, "GFLOP",
               most_rounds=3)

CASES = (TRAIN, SAMPLE_1, SAMPLE_64, CHUNK, TRAIN_FULL, PRODUCT)
SEED = (TRAIN, SAMPLE_1, SAMPLE_64)
# What a CPU does in seconds.
ON_CPU = (*SEED, CHUNK, PRODUCT)

# A software adapter takes up to a second a step, and its peers more: a few runs must do.
SOFTWARE_ADAPTERS = ("llvmpipe", "lavapipe", "swiftshader", "basic render")
SOFTWARE_ROUNDS, SOFTWARE_REPEAT = 3, 3
