"""Golden pictures and trajectories of the pursuit task.

    python pursuit_frames.py        # needs numpy and pygame 2.6.1; writes beside itself

pursuit_frames.png   the frames below one another, each 256 x 256, as pygame draws them
pursuit_frames.json  "frames": the centres in each frame, ball before effector;
                     "episodes": states (ball x, y, velocity x, y, effector x, y) and expert actions,
                     simulated here with numpy, from numpy.random.default_rng(seed)
"""

import json
import os
import pathlib

os.environ["SDL_VIDEODRIVER"] = "dummy"
import numpy as np  # noqa: E402
import pygame  # noqa: E402

HERE = pathlib.Path(__file__).parent
SIZE = 256


def episode(seed, steps, stop=True):
    """An expert episode: states before each action and after the last, and the actions."""
    rng = np.random.default_rng(seed)
    ball = rng.random(2) * 200 + 28
    angle = rng.random() * 2 * np.pi
    speed = rng.random() * 3 + 1
    velocity = np.array([np.cos(angle), np.sin(angle)]) * speed
    effector = rng.random(2) * 200 + 28
    states, actions = [np.concatenate([ball, velocity, effector])], []
    for _ in range(steps):
        action = np.clip(ball + velocity - effector, -5, 5)
        actions.append(action)
        ball = ball + velocity
        velocity = np.where((ball < 0) | (ball > SIZE), -velocity, velocity)
        effector = np.clip(effector + action, 0, SIZE)
        states.append(np.concatenate([ball, velocity, effector]))
        if stop and np.linalg.norm(effector - ball) < 15:
            break
    return {"seed": seed, "states": np.array(states).tolist(), "actions": np.array(actions).tolist()}


def frame(ball, effector):
    surface = pygame.Surface((SIZE, SIZE))
    surface.fill((255, 255, 255))
    pygame.draw.circle(surface, (255, 0, 0), np.array(ball).astype(int), 10)
    pygame.draw.circle(surface, (0, 0, 255), np.array(effector).astype(int), 8)
    return surface


def main():
    episodes = [episode(seed, 100) for seed in (0, 42, 43, 99, 341)]
    # One goes on after the capture, long enough for bounces off every border.
    episodes.append(episode(2**40 + 40, 160, stop=False))
    centres = [[s[:2], s[4:]] for e in episodes for s in (e["states"][0], e["states"][-1])]
    # The ball up to 4 px outside each border and corner; the effector on the borders and in the corners.
    centres += [
        [[-3.9, 100.2], [0.0, 128.5]], [[-0.99, -3.2], [12.0, 7.9]], [[128.7, -3.99], [128.0, 0.0]],
        [[259.9, 60.0], [256.0, 70.9]], [[258.4, 259.9], [256.0, 256.0]], [[77.7, 259.2], [90.1, 256.0]],
        [[-2.5, 258.3], [0.0, 256.0]], [[259.5, -1.5], [256.0, 0.0]], [[0.4, 0.9], [0.0, 0.0]],
        [[9.0, 10.0], [8.0, 247.0]], [[246.0, 245.0], [248.0, 8.0]], [[255.9, 128.0], [1.0, 1.0]],
    ]
    # Overlapping: blue lies on top, at even and odd distances.
    centres += [
        [[128.0, 128.0], [128.0, 128.0]], [[127.0, 128.0], [130.9, 131.1]], [[60.5, 61.5], [50.0, 61.0]],
        [[60.5, 61.5], [61.0, 79.0]], [[201.0, 13.0], [188.0, 6.0]], [[33.0, 220.0], [40.99, 213.01]],
    ]
    sheet = pygame.Surface((SIZE, SIZE * len(centres)))
    for i, (ball, effector) in enumerate(centres):
        sheet.blit(frame(ball, effector), (0, SIZE * i))
    pygame.image.save(sheet, HERE / "pursuit_frames.png")
    made_by = f"numpy {np.__version__}, pygame {pygame.version.ver}"
    text = json.dumps({"made_by": made_by, "frames": centres, "episodes": episodes}, separators=(",", ":"))
    (HERE / "pursuit_frames.json").write_text(text.replace('{"seed"', '\n{"seed"') + "\n")


if __name__ == "__main__":
    main()
