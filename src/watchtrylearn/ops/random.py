"""Explicit randomness: a generator is a function of what it is for, never of the order things run in."""

import hashlib

import numpy as np


def generator(*keys: str | int) -> np.random.Generator:
    """The random generator that belongs to ``keys``: the same keys give the same stream on every machine.

    Example: ``generator("scene", task.name, seed)``.
    """
    text = "\x1f".join(f"{type(key).__name__}:{key}" for key in keys)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
