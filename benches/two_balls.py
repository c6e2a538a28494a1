"""Which objectives keep both answers: chunks of policies for `pursuit-two`, sampled again and again from one picture.

    python benches/two_balls.py FLOWGPU POLICY... [--resets 40] [--noises 12]

FLOWGPU is the program; a POLICY is a folder that `flowgpu train --preset pursuit-two` left. At each reset the two balls
are where `numpy.random.default_rng(seed)` puts them (src/sim/pursuit_two.rs); resets whose balls lie in nearly one
direction are left out. A chunk goes for a ball if its whole displacement points there within 30 degrees. Needs numpy.
"""

import argparse
import json
import subprocess

import numpy as np

WITHIN = np.cos(np.deg2rad(30))
APART = np.cos(np.deg2rad(75))
FIRST_SEED = 5000


def directions(seed: int) -> np.ndarray | None:
    """Unit vectors [2, 2] from the effector to where each ball is going to be; None if they are too much alike."""
    rng = np.random.default_rng(seed)

    def arena() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ball = rng.random(2) * 200 + 28
        angle, speed = rng.random() * 2 * np.pi, rng.random() * 3 + 1
        return ball, np.array([np.cos(angle), np.sin(angle)]) * speed, rng.random(2) * 200 + 28

    (first, first_speed, effector), (second, second_speed, _) = arena(), arena()
    away = np.stack([first + first_speed - effector, second + second_speed - effector])
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    return away if away[0] @ away[1] < APART else None


def displacement(flowgpu: str, policy: str, seed: int, noise: int) -> np.ndarray:
    """Where a chunk leads [2], as a unit vector."""
    command = [flowgpu, "sample", "--policy", policy, "--env", "pursuit-two", "--env-seed", str(seed)]
    command += ["--seed", str(noise), "--device", "cpu", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    total = np.array(json.loads(done.stdout)["actions"][0]).sum(axis=0)
    return total / max(np.linalg.norm(total), 1e-9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flowgpu")
    parser.add_argument("policies", nargs="+")
    parser.add_argument("--resets", type=int, default=40)
    parser.add_argument("--noises", type=int, default=12)
    args = parser.parse_args()
    apart = ((seed, directions(seed)) for seed in range(FIRST_SEED, FIRST_SEED + 100 * args.resets))
    resets = [(seed, away) for seed, away in apart if away is not None][: args.resets]
    print("| policy | chunks for a ball | for neither | resets at which both balls are gone for |\n|---|---|---|---|")
    for policy in args.policies:
        hits, both = 0, 0
        for seed, away in resets:
            chunks = np.stack([displacement(args.flowgpu, policy, seed, noise) for noise in range(args.noises)])
            near = chunks @ away.T > WITHIN
            hits += near.any(axis=1).sum()
            both += near.any(axis=0).all()
        share = hits / (len(resets) * args.noises)
        print(f"| {policy} | {share:.2f} | {1 - share:.2f} | {both} of {len(resets)} |", flush=True)


if __name__ == "__main__":
    main()
