"""A policy in another language: flowgpu eval --env pendulum --policy "exec:python3 examples/exec_policy.py"."""
import json
import math
import sys

def torque(theta, speed):
    if abs(theta) < 0.5:
        wanted = -(10 * theta + 2 * speed)
    else:
        wanted = 2 * (5 - speed**2 / 6 - 5 * math.cos(theta)) * (1 if speed >= 0 else -1)
    return max(-2.0, min(2.0, wanted))

def chunk(cos, sin, speed, length=8):
    theta, torques = math.atan2(sin, cos), []
    for _ in range(length):
        u = torque(theta, speed)
        torques.append([u])
        speed = max(-8.0, min(8.0, speed + (15 * math.sin(theta) + 3 * u) * 0.05))
        theta = math.remainder(theta + speed * 0.05, math.tau)
    return torques

for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "hello":
        answer = {"chunk_size": 8, "n_action_steps": 4}
    else:
        answer = {"chunk": chunk(*message["observation"]["observation.state"])}
    print(json.dumps(answer), flush=True)
