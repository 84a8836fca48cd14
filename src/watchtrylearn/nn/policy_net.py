"""A policy from images and numbers to an action, made to be adapted by gradient steps (MIL, section 5).

    images  -> strided convolutions, each with layer normalisation and ReLU -> where each filter is active
    numbers ------------------------------------------------------------------> joined
    a vector of parameters (the bias transformation) -------------------------> joined -> hidden layers -> action

It is an ordinary module and is called as a function of its parameters (``torch.func.functional_call``), which is how
every task has weights of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from watchtrylearn.system.config import require_within
from watchtrylearn.types import ImageChannel, Spec, WtlError

MOST_LAYERS = 100
Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class EyeConfig:
    """How cameras are looked at; the defaults are those of the paper's pushing domain.

    Attributes:
        filters: of each convolution.
        kernel: pixels along a side of each filter; odd.
        strides: of each convolution.
        points: what becomes of the last convolution: True: the mean place of each filter's activity (spatial
            soft-argmax), False: all of it, in a row.
        image_bias: a bias transformation of the size of the image, which joins its channels.
        precision: of the convolutions; parameters and everything after them are float32. "auto": whichever of the two
            is faster where it runs, measured once per process; the same training elsewhere may then be another one.
    """

    filters: tuple[int, ...] = (16, 16, 16, 16)
    kernel: int = 5
    strides: tuple[int, ...] = (2, 2, 2, 2)
    points: bool = True
    image_bias: bool = False
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require_within("eye.", self, filters=(1, 4096), kernel=(1, 99), strides=(1, 64))
        if len(self.strides) != len(self.filters):
            raise WtlError(
                f"eye.strides has one number for each of eye.filters, got {len(self.strides)} for {len(self.filters)}"
            )
        if not 1 <= len(self.filters) <= MOST_LAYERS or self.kernel % 2 == 0:
            raise WtlError(f"eye.filters has 1 to {MOST_LAYERS} layers, and eye.kernel must be odd")


@dataclass(frozen=True)
class PolicyNetConfig:
    """Sizes of the network; the defaults are those of the paper's pushing domain.

    Attributes:
        eye: the convolutions. Where there are no cameras there are none.
        hidden: widths of the fully connected layers before the output.
        bias_transformation: length of the vector of parameters that joins the input of the first fully connected
            layer; 0: none.
        heads: 2: before a gradient step the output layer is another one. It is what the step descends, a loss that is
            learned, and the layer that acts is not moved by it.
    """

    eye: EyeConfig = field(default_factory=lambda: EyeConfig(image_bias=True))
    hidden: tuple[int, ...] = (200, 200)
    bias_transformation: int = 20
    heads: int = 2

    def __post_init__(self) -> None:
        require_within("net.", self, hidden=(1, 16384), bias_transformation=(0, 16384), heads=(1, 2))
        if not 1 <= len(self.hidden) <= MOST_LAYERS:
            raise WtlError(f"net.hidden has 1 to {MOST_LAYERS} layers, got {len(self.hidden)}")


class Output(NamedTuple):
    """``action`` in network units; ``target``: where the episode is expected to end, from its first frame."""

    action: Float[Tensor, "frame act"]
    target: Float[Tensor, "dim"] | None


class PolicyNet(nn.Module):
    """See the module's text. ``target``: how many numbers to predict of where an episode ends; 0: none."""

    def __init__(self, config: PolicyNetConfig, spec: Spec, target: int = 0) -> None:
        super().__init__()
        eyes = [Eye(config.eye, camera) for camera in spec.images.values()]
        self.eyes = nn.ModuleList(eyes)
        numbers = spec.state_size + spec.environment_size
        features = sum(eye.size for eye in eyes) if eyes else numbers
        self.bias = nn.Parameter(torch.zeros(config.bias_transformation)) if config.bias_transformation else None
        self.target = nn.Linear(features, target) if target else None
        joined = numbers + features * bool(eyes) + target + config.bias_transformation
        sizes = (joined, *config.hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.head = nn.Linear(sizes[-1], spec.action.size)
        self.head_before = nn.Linear(sizes[-1], spec.action.size) if config.heads == 2 else None
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self,
        images: tuple[UInt8[Tensor, "frame _ _ 3"], ...],
        numbers: Float[Tensor, "frame size"],
        target: Float[Tensor, "dim"] | None = None,
        before: bool = False,
    ) -> Output:
        """Actions for the frames of one episode, the first frame first.

        Args:
            images: of each camera, in the order of the spec.
            numbers: in network units.
            target: what an earlier call has predicted for this episode, if this is not its beginning.
            before: with the head that is used before a gradient step.
        """
        seen = [eye(pictures) for eye, pictures in zip(self.eyes, images, strict=True)]
        features = torch.cat(seen, -1) if seen else numbers
        joined = [*seen, numbers]
        if self.target is not None:
            expected = self.target(features[0]) if target is None else target
            target = expected
            joined.append(expected.expand(len(numbers), -1))
        if self.bias is not None:
            joined.append(self.bias.expand(len(numbers), -1))
        x = torch.cat(joined, -1)
        for layer in self.hidden:
            x = layer(x).relu()
        head = self.head_before if before and self.head_before is not None else self.head
        return Output(head(x), target)


class Eye(nn.Module):
    """What one camera shows, as ``size`` numbers: the paper's convolutions."""

    def __init__(self, config: EyeConfig, camera: ImageChannel) -> None:
        super().__init__()
        self.points, self.precision, padding = config.points, config.precision, config.kernel // 2
        channels = (6 if config.image_bias else 3, *config.filters)
        layers = [
            nn.Conv2d(inputs, outputs, config.kernel, stride, padding)
            for (inputs, outputs), stride in zip(itertools.pairwise(channels), config.strides, strict=True)
        ]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.convolutions = nn.ModuleList(layers)
        self.offsets = nn.ParameterList(torch.zeros(count) for count in config.filters)
        height, width = camera.height, camera.width
        self.image_bias = nn.Parameter(torch.zeros(3, height, width)) if config.image_bias else None
        for stride in config.strides:
            height, width = -(-height // stride), -(-width // stride)
        self.register_buffer("grid", _grid(height, width), persistent=False)
        self.size = config.filters[-1] * (2 if config.points else height * width)

    grid: Tensor

    def forward(self, images: UInt8[Tensor, "frame height width 3"]) -> Float[Tensor, "frame size"]:
        """Here, and nowhere before, images become float.

        Channel by channel in memory: with the channels last, as images come, a meta-gradient took 1.3 times as long on
        a CPU, because of the normalisation in between.
        """
        low = self.precision == "bfloat16" or (self.precision == "auto" and bfloat16_is_faster(images.device))
        kind = torch.bfloat16 if low else self.grid.dtype
        x = images.permute(0, 3, 1, 2).to(kind, memory_format=torch.contiguous_format) / 255
        for number, (layer, offset) in enumerate(zip(self.convolutions, self.offsets, strict=True)):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weight, bias = layer.weight.to(kind), layer.bias.to(kind)
            place = partial(nn.functional.conv2d, stride=layer.stride, padding=layer.padding)
            x = self._first(place, x, weight, bias) if number == 0 else place(x, weight, bias)
            x = (nn.functional.layer_norm(x, x.shape[1:]) + offset.to(kind)[:, None, None]).relu()
        x = x.to(self.grid.dtype)
        return spatial_soft_argmax(x, self.grid) if self.points else x.flatten(1)

    def _first(self, convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The first convolution. The image-sized bias is the same beside every frame, so what the filters make of it is
        computed once, and added: convolutions are linear. Nothing asks for a gradient of the images themselves."""
        seen = convolve(x, weight[:, :3], bias)
        if self.image_bias is None:
            return seen
        return seen + convolve(self.image_bias[None].to(x.dtype), weight[:, 3:])


@cache
def bfloat16_is_faster(device: torch.device) -> bool:
    """Whether convolutions take clearly less time in bfloat16. (Where it is not native, up to 80 times as long.)"""

    def seconds(kind: torch.dtype) -> float:
        x = torch.ones(32, 16, 63, 63, dtype=kind, device=device)
        weight = torch.ones(16, 16, 5, 5, dtype=kind, device=device)
        times = []
        for _ in range(6):  # the first is a warm-up
            begin = time.perf_counter()
            nn.functional.conv2d(x, weight, stride=2).sum().item()
            times.append(time.perf_counter() - begin)
        return min(times[1:])

    return seconds(torch.bfloat16) < 0.8 * seconds(torch.float32)


def spatial_soft_argmax(
    activity: Float[Tensor, "frame filter height width"], grid: Float[Tensor, "place 2"]
) -> Float[Tensor, "frame point"]:
    """The mean place (x, y) of each filter's activity, as a distribution over places (Levine et al. 2016)."""
    return (activity.flatten(2).softmax(-1) @ grid).flatten(1)


def _grid(height: int, width: int) -> Float[Tensor, "place 2"]:
    """(x, y) of every place of a picture, row by row, from -1 to 1."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)
