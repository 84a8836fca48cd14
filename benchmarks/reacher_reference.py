"""How good is the reacher's demonstrator? Its return beside that of plans optimised scene by scene.

Each plan is 50 commands found by gradient descent through the arm's equations (links next to weightless), from two
beginnings, one per posture that reaches the target; the better one counts. Both are then run in MuJoCo.

usage: python benchmarks/reacher_reference.py
"""

import numpy as np
import torch

from watchtrylearn.suites.reacher import GEAR, HORIZON, SUBSTEPS, TIMESTEP, Reacher, ReacherWorlds
from watchtrylearn.suites.two_link import DAMPING, INERTIA, LINKS, postures

SCENES, STEPS = 24, 2500
RUN_UP = 8  # control steps of full acceleration, then as many of braking, in the first guess


def main() -> None:
    suite = Reacher()
    task = suite.tasks("val")[0]
    worlds = suite.worlds([task] * SCENES, range(SCENES))
    expert = np.array([demo.reward.sum(dtype=np.float64) for demo in suite.demonstrations(worlds.tasks, worlds.seeds)])
    plans = [optimised(worlds, posture) for posture in range(2)]
    best = np.max([returns(worlds, plan) for plan in plans], axis=0)
    idle = returns(worlds, np.zeros((SCENES, HORIZON, 2)))
    print(
        f"mean return in {SCENES} scenes: doing nothing {idle.mean():.3f}, demonstrator {expert.mean():.3f}, ", end=""
    )
    print(f"plans {best.mean():.3f}; the demonstrator is at most {np.max(best - expert):.3f} below a plan")


def optimised(worlds: ReacherWorlds, posture: int) -> np.ndarray:
    """(world, time, act): a locally optimal plan per world that begins with a swing to the posture."""
    right = worlds.targets[np.arange(SCENES), worlds.right]
    way = postures(right)[:, posture] - worlds.joints
    swing = np.repeat([1.0, -1.0, 0.0], [RUN_UP, RUN_UP, HORIZON - 2 * RUN_UP])
    guess = way[:, None] * swing[:, None] / (GEAR * (RUN_UP * SUBSTEPS * TIMESTEP) ** 2)
    plan = torch.tensor(np.clip(guess, -0.95, 0.95), requires_grad=True)
    optimizer = torch.optim.Adam([plan], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        cost(plan, torch.tensor(worlds.joints), torch.tensor(right)).sum().backward()
        optimizer.step()
        schedule.step()
    return plan.detach().numpy()


def cost(plan: torch.Tensor, joints: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Minus the return of a plan, (world,)."""
    velocity, total = torch.zeros_like(joints), torch.zeros(len(joints), dtype=joints.dtype)
    for action in plan.clamp(-1, 1).unbind(1):
        for _ in range(SUBSTEPS):
            velocity = (velocity + TIMESTEP * GEAR * action / INERTIA) / (1 + TIMESTEP * DAMPING / INERTIA)
            joints = joints + TIMESTEP * velocity
        angles = joints.cumsum(-1)
        lengths = torch.tensor(LINKS, dtype=joints.dtype)
        tip = torch.stack([(lengths * angles.cos()).sum(-1), (lengths * angles.sin()).sum(-1)], -1)
        total = total + ((tip - target).square().sum(-1) + 1e-10).sqrt() + action.square().sum(-1)
    return total


def returns(worlds: ReacherWorlds, plan: np.ndarray) -> np.ndarray:
    """What the plans earn in MuJoCo, (world,)."""
    worlds.reset()
    earned = np.zeros(len(plan))
    for t in range(HORIZON):
        earned += worlds.step(plan[:, t] * worlds.sign)[1]
    return earned


if __name__ == "__main__":
    main()
