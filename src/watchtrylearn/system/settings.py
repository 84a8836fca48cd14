"""What determines the result of a run, compared before work is continued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from watchtrylearn.system.config import shortened
from watchtrylearn.types import WtlError

SHOWN = 5  # differences named in one sentence


def refuse_changes(
    old: Mapping[str, Any], new: Mapping[str, Any], where: str | Path, harmless: Sequence[str] = ()
) -> None:
    """Raise ``WtlError`` naming every setting of ``new`` that differs from ``old`` (both JSON values).

    ``harmless`` are dotted names, such as ``"train.checkpoint_every"``, that may change between sessions.
    """
    changes = [
        f"{name} is {shortened(before)}, not {shortened(now)}"
        for name, before, now in differences(old, new)
        if name not in harmless
    ]
    if changes:
        more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        raise WtlError(
            f"{where} holds a run with other settings: {'; '.join(changes[:SHOWN])}{more}; "
            "choose another directory or go back to those settings"
        )


def differences(old: Any, new: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The leaves in which two JSON values differ: (dotted name, old, new); a missing one counts as None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield name, old, new
