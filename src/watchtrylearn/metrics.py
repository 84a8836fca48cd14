"""The training log: one JSON object per line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from watchtrylearn.files import parse_typed, read_bytes, write_atomic
from watchtrylearn.types import WtlError

FILE = "metrics.jsonl"
LIMIT = 2**27  # bytes; ``train.MOST_ROWS`` rows have room

MetricRow = dict[str, int | float]


class MetricLog:
    """Appends rows to ``metrics.jsonl`` and to ``tensorboard/`` in ``directory``.

    Opened at ``step``, it first drops every later row: those steps are about to be done again, so the log
    of an interrupted and resumed run has each step once. Raises ``WtlError`` naming the file if the disk is
    full.
    """

    def __init__(self, directory: str | Path, step: int) -> None:
        # imported here: a second of start-up that only training needs
        from torch.utils.tensorboard import SummaryWriter

        self.path = Path(directory) / FILE
        kept = [row for row in read_metrics(directory) if row["step"] <= step]
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = open(self.path, "a")  # noqa: SIM115 (closed by __exit__)
        self._board = SummaryWriter(Path(directory) / "tensorboard", purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add the row of ``step``; the values are finite numbers."""
        try:
            self._file.write(json.dumps({"step": step, **values}, allow_nan=False) + "\n")
            self._file.flush()
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:
            raise WtlError(f"cannot write {self.path}: {error.strerror or error}") from error

    def sync(self) -> None:
        """Put every row on the disk; called before a checkpoint, so that none of its past can be missing."""
        try:
            os.fsync(self._file.fileno())
            self._board.flush()
        except OSError as error:
            raise WtlError(f"cannot write {self.path}: {error.strerror or error}") from error

    def __enter__(self) -> MetricLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def read_metrics(directory: str | Path) -> list[MetricRow]:
    """The rows of ``metrics.jsonl``, in order, each with its ``step``; none if there is no log.

    A last line cut short by a crash is left out. Raises ``WtlError`` naming file and line of what is not a row.
    """
    path = Path(directory) / FILE
    lines = read_bytes(path, LIMIT).splitlines() if path.exists() else []
    rows: list[MetricRow] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(parse_typed(line, dict[str, int | float], f"{path}, line {number}"))
        except WtlError:
            if number < len(lines) or line.endswith(b"}"):
                raise
    steps = [row.get("step", math.nan) for row in rows]
    if not all(isinstance(step, int) for step in steps) or steps != sorted(set(steps)):
        raise WtlError(f"{path} is not a training log: the steps of its rows are not in order")
    return rows
