"""What a dataset must be as a whole before it is read or written to: ours, without gaps, of a size that fits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from watchtrylearn.data import layout
from watchtrylearn.data.images import MEMORY_LIMIT
from watchtrylearn.data.layout import EPISODES_PATH, Checksums, Header, numbered
from watchtrylearn.data.parquet import FREE, UNFOLDING
from watchtrylearn.data.records import Record
from watchtrylearn.types import WtlError


def through_link(root: Path, folder: Path) -> bool:
    """Is ``folder``, or one above it below ``root``, a symbolic link?"""
    return any(at.is_symlink() for at in (folder, *folder.parents) if at != root and at.is_relative_to(root))


def require_vacant(path: Path) -> None:
    """Refuses a folder that holds someone's data, though no header of ours. Empty folders, which a ``create`` that
    was interrupted leaves, and hidden files do no harm."""
    for top in ("meta", "data", "videos"):
        for folder, _, names in os.walk(path / top):
            for name in sorted(names):
                if not name.startswith("."):
                    there = Path(folder, name).relative_to(path)
                    raise WtlError(
                        f"{path} holds {there} but no {layout.HEADER}: it is another program's dataset, or damaged"
                    )


def gaps(root: Path, files: Sequence[int]) -> list[str]:
    """The stretches of missing episode files, a sentence each."""
    return [
        f"there is no file {root / numbered(EPISODES_PATH, before + 1)}"
        + (f", nor the {after - before - 2} after it" if after > before + 2 else "")
        for before, after in pairwise([-1, *files])
        if after > before + 1
    ]


def require_plausible(root: Path, header: Header, records: Sequence[Record], sums: Mapping[int, Checksums]) -> None:
    """Refuses a dataset of which reading everything would take much more memory than disk: more than its files may
    take one by one (see ``parquet``), so that what ``append`` could read back is never refused here."""
    memory = 4 * layout.numbers_per_step(header) * sum(record.length for record in records)
    disk = sum(each.data.bytes for each in sums.values())
    if memory > FREE * len(sums) + UNFOLDING * disk:
        raise WtlError(f"refusing to read {root}: {disk} bytes of data claim to hold {memory}")


def require_memory(root: Path, header: Header, records: Sequence[Record]) -> None:
    """Refuses to hold more images at once than ``MEMORY_LIMIT``."""
    size = sum(channel.size for channel in header.spec.images.values()) * sum(record.length for record in records)
    if size > MEMORY_LIMIT:
        raise WtlError(
            f"{root}: the images of {len(records)} episodes would take {size / 1e9:.1f} GB of memory, more than "
            f"{MEMORY_LIMIT / 1e9:.1f} GB; read fewer, or one after the other (`for episode in store`)"
        )
