"""The checks that every other test runs under: are they there, and do they find what is wrong?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import Float

from signatures import checked
from watchtrylearn.ops.frames import spread_frames

Array = np.ndarray
check = checked(typechecker=beartype)


def plain(count: int, names: list[str]) -> str:
    return names[count] if names else None


def rows(x: Float[Array, "n 2"], y: Float[Array, "n"], cut: int = 0) -> Float[Array, "n 2"]:
    return (x + y[:, None])[cut:]


def nested(x: Float[Array, "n"], y: Float[Array, "n"]) -> Float[Array, "n"]:
    """Its own n stays what it is, whatever n is inside."""
    RIGHT(np.zeros((7, 2)), np.zeros(7))
    return x + y


def listed(parts: list[Float[Array, "n"]], whole: Float[Array, "n"] | None = None) -> tuple[Float[Array, "n"], int]:
    return (parts[0] if whole is None else whole), len(parts)


def stream(x: Float[Array, "n"]) -> Iterator[float]:
    yield from x


RIGHT = check(rows)


@check
@dataclass
class Pair:
    left: Float[Array, "n"]
    right: Float[Array, "n"]


def zeros(*shape: int) -> Array:
    return np.zeros(shape)


@pytest.mark.parametrize(("function", "arguments"), [
    (plain, (0, ["a"])),
    (rows, (zeros(3, 2), zeros(3))),
    (nested, (zeros(3), zeros(3))),
    (listed, ([zeros(3)], zeros(3))),
    (listed, ([zeros(3)],)),
    (Pair, (zeros(3), zeros(3))),
])  # fmt: skip
def test_what_fits_a_signature_passes(function, arguments):
    check(function)(*arguments)


@pytest.mark.parametrize(("function", "arguments"), [
    (plain, ("0", ["a"])),
    (plain, (0, [1])),
    (plain, (0, [])),  # returns None
    (rows, (zeros(3, 3), zeros(3))),
    (rows, (zeros(3, 2).astype(int), zeros(3))),
    (rows, (zeros(3, 2), zeros(1))),  # which would broadcast
    (rows, (zeros(3, 2), zeros(3), 1)),  # returns a row less
    (nested, (zeros(3), zeros(1))),
    (listed, ([zeros(3)], zeros(4))),
    (Pair, (zeros(3), zeros(4))),
    (Pair, (zeros(3), None)),
    (stream, (zeros(3, 3),)),
])  # fmt: skip
def test_what_breaks_a_signature_is_found(function, arguments):
    with pytest.raises(jaxtyping.TypeCheckError):
        check(function)(*arguments)


def test_the_package_is_checked():
    with pytest.raises(jaxtyping.TypeCheckError):
        spread_frames([3, 4], 2)
