"""Golden traces of the pendulum task, from Gymnasium's own Pendulum-v1.

    python pendulum_traces.py        # needs gymnasium 1.x and numpy; writes beside itself

pendulum_traces.json  "traces": per seed and controller, 200 steps: "states" (theta, theta dot) before each action
                      and after the last, "actions" as handed to the environment, "rewards", and every 20th
                      "observations" (float32, before the action)

Controllers: "formula", torques up to 3 that leave the bounds of 2; "expert" and "expert-seed", which read the float32
observation. "expert-seed" is the rule as flow_matching_pendulum publishes it, "expert" the same with its energy put
right: E = theta dot^2 / 6 + 5 cos theta, 5 at rest upright.
"""

import json
import math
import pathlib

import gymnasium
import numpy as np

HERE = pathlib.Path(__file__).parent


def clip(torque):
    return min(2.0, max(-2.0, torque))


def formula(step, _):
    return 3.0 * math.sin(0.7 * step) + 0.5 * math.cos(0.11 * step)


def expert(_, observation):
    cos, sin, speed = (float(v) for v in observation)
    theta = math.atan2(sin, cos)
    if abs(theta) < 0.5:
        return clip(-(10 * theta + 2 * speed))
    if speed == 0:
        return 2.0
    return clip(2 * (5 - (speed * speed / 6 + 5 * math.cos(theta))) * np.sign(speed))


def expert_seed(_, observation):
    cos, sin, speed = (float(v) for v in observation)
    theta = math.atan2(sin, cos)
    if abs(theta) < 0.5:
        return clip(-(10 * theta + 2 * speed))
    energy = 0.5 * speed * speed + 10 * (1 - math.cos(theta))
    return clip(-2 * (energy - 10) * np.sign(speed * math.cos(theta)))


def trace(seed, controller, act):
    environment = gymnasium.make("Pendulum-v1", disable_env_checker=True)
    observation, _ = environment.reset(seed=seed)
    states, actions, rewards, observations = [environment.unwrapped.state.tolist()], [], [], []
    for step in range(200):
        if step % 20 == 0:
            observations.append([float(v) for v in observation])
        action = float(act(step, observation))
        observation, reward, terminated, truncated, _ = environment.step(np.array([action]))
        assert not terminated and truncated == (step == 199)
        states.append(environment.unwrapped.state.tolist())
        actions.append(action)
        rewards.append(float(reward))
    return {
        "seed": seed, "controller": controller, "states": states, "actions": actions, "rewards": rewards,
        "observations": observations,
    }


def main():
    chosen = [
        (0, "formula", formula), (0, "expert", expert), (42, "expert-seed", expert_seed),
        (42, "formula", formula), (200, "expert", expert), (200, "expert-seed", expert_seed),
    ]
    made_by = f"gymnasium {gymnasium.__version__}, numpy {np.__version__}"
    text = json.dumps({"made_by": made_by, "traces": [trace(*one) for one in chosen]}, separators=(",", ":"))
    (HERE / "pendulum_traces.json").write_text(text.replace('{"seed"', '\n{"seed"') + "\n")


if __name__ == "__main__":
    main()
