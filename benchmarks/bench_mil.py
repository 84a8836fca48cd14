"""A meta-step of MIL against a plain loop in float32, side by side: the paper's pushing network, second order.

100 frames of 125 x 125, four convolutions of 16 filters 5 x 5 with stride 2, spatial soft-argmax, two hidden layers of
200, both bias transformations, two heads. The plain loop is what one would write first: the image-sized bias joins
every frame as channels, and ``torch.autograd.grad(..., create_graph=True)`` takes the step. Seconds are processor time
of one thread, so that programs beside it disturb little.

usage: python benchmarks/bench_mil.py [FRAMES]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from watchtrylearn.data.sampling import Sampling
from watchtrylearn.learners.mil import MIL, MILConfig
from watchtrylearn.nn.policy_net import EyeConfig, PolicyNetConfig, Precision
from watchtrylearn.types import STATE, Batch, Channel, ContextBatch, EpisodeBatch, ImageChannel, Spec

CAMERA, ROUNDS = "camera", 3


def channel(size: int) -> Channel:
    return Channel(tuple(map(str, range(size))), (-9.0,) * size, (9.0,) * size)


def batch(spec: Spec, frames: int) -> Batch:
    """One task, of noise."""
    rng = torch.Generator().manual_seed(0)

    def episode(*lead: int, images: int) -> EpisodeBatch:
        shown = torch.randint(0, 256, (*lead, images, 125, 125, 3), dtype=torch.uint8, generator=rng)
        seen, done = (torch.randn(*lead, frames, size, generator=rng) for size in (20, 7))
        length, nothing = torch.full(lead, frames), torch.zeros(lead)
        steps = torch.arange(images).expand(*lead, images)
        still = torch.zeros(*lead, frames)
        return EpisodeBatch({STATE: seen}, done, still, nothing, length, nothing.bool(), {CAMERA: shown}, steps)

    demos = episode(1, 1, images=frames)
    return Batch(ContextBatch(demos, demos[:, :0]), episode(1, images=frames + 1), torch.arange(frames)[None])


def plain(learner: MIL, given: Batch) -> None:
    """The same meta-step, written first."""
    parameters, grid = dict(learner.net.named_parameters()), learner.net.eyes[0].get_buffer("grid")
    demo, query = given.context.demos[0, 0], given.query[0]

    def act(weights: Mapping[str, Tensor], images: Tensor, state: Tensor, head: str) -> Tensor:
        x = images.permute(0, 3, 1, 2).float().contiguous() / 255
        x = torch.cat([x, weights["eyes.0.image_bias"].expand(len(x), -1, -1, -1)], 1)
        for layer in range(4):
            name = f"eyes.0.convolutions.{layer}"
            x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], 2, 2)
            x = F.relu(F.layer_norm(x, x.shape[1:]) + weights[f"eyes.0.offsets.{layer}"][:, None, None])
        points = (x.flatten(2).softmax(-1) @ grid).flatten(1)
        x = torch.cat([points, state, weights["bias"].expand(len(state), -1)], -1)
        for layer in range(2):
            x = F.relu(F.linear(x, weights[f"hidden.{layer}.weight"], weights[f"hidden.{layer}.bias"]))
        return F.linear(x, weights[f"{head}.weight"], weights[f"{head}.bias"])

    error = F.mse_loss(act(parameters, demo.images[CAMERA], demo.observation[STATE], "head_before"), demo.action)
    names = [name for name in learner.moving if not name.startswith("head.")]
    slopes = torch.autograd.grad(error, [parameters[name] for name in names], create_graph=True)
    moved = {name: parameters[name] - 0.1 * slope for name, slope in zip(names, slopes, strict=True)}
    found = act({**parameters, **moved}, query.images[CAMERA][1:], query.observation[STATE], "head")
    F.mse_loss(found, query.action).backward()


def main(frames: int) -> None:
    torch.set_num_threads(1)
    spec = Spec(20, frames, {STATE: channel(20), CAMERA: ImageChannel(125, 125)}, channel(7))
    eye, sampling = EyeConfig(image_bias=True), Sampling(demos=(0, 1), frames=frames)
    config = MILConfig(
        PolicyNetConfig(eye), inner_rate=0.1, clip="none", learn_rates=False, image_frames=frames, sampling=sampling
    )
    kinds: tuple[Precision, ...] = ("float32", "auto", "bfloat16")
    torch.manual_seed(0)
    start = MIL(config, spec).state_dict()
    learners = {kind: MIL(replace(config, net=PolicyNetConfig(replace(eye, precision=kind))), spec) for kind in kinds}
    for each in learners.values():
        each.load_state_dict(start)
    given = batch(spec, frames)
    runs: dict[str, Callable[[], None]] = {"plain loop": lambda: plain(learners["float32"], given)}
    for kind, learner in learners.items():
        runs[f"mil, {kind}"] = lambda learner=learner: learner.loss(given)[0].backward()  # type: ignore[misc]
    best: dict[str, float] = {}
    gradients: dict[str, Tensor] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            for each in learners.values():
                each.zero_grad()
            begin = time.process_time()
            run()
            best[name] = min(best.get(name, float("inf")), time.process_time() - begin)
            found = next((learners[kind] for kind in kinds if name.endswith(kind)), learners["float32"])
            gradients[name] = torch.cat([p.grad.flatten() for p in found.net.parameters() if p.grad is not None])
    for name, seconds in best.items():
        alike = torch.cosine_similarity(gradients[name], gradients["plain loop"], dim=0)
        print(
            f"{name:14} {seconds:6.3f} s per task of 2 x {frames} frames, {best['plain loop'] / seconds:5.2f} x the "
            f"plain loop's speed; cosine of the gradients {alike:.5f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"peak memory {peak:.1f} GiB; of more tasks, which are computed one after another, there are more images alone"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
