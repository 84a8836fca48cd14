"""Find everything that is wrong with a dataset, rewrite what is derived, and summarise what it holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from watchtrylearn.data import index, layout
from watchtrylearn.data.adopt import adopt
from watchtrylearn.data.hub import find_dataset
from watchtrylearn.data.layout import (
    DATA_PATH,
    EPISODES_PATH,
    FINAL_PATH,
    Checksum,
    Checksums,
    Header,
    numbered,
    numbers_in,
)
from watchtrylearn.data.lerobot import read_dataset
from watchtrylearn.data.parts import parse_part
from watchtrylearn.data.records import Columns, Record, episode_of, read_records, records_of, rows_of
from watchtrylearn.data.soundness import problems
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.system.files import contained, read_bytes
from watchtrylearn.types import WtlError

TOLERANCE = 1e-4  # seconds, LeRobot's own for timestamps


@dataclass(frozen=True)
class Problem:
    """Something wrong, and where: the file in the dataset, and if known the episode and the field."""

    file: str
    text: str
    episode: int | None = None
    field: str = ""

    def __str__(self) -> str:
        where = [self.file]
        where += [f"episode {self.episode}"] if self.episode is not None else []
        where += [self.field] if self.field else []
        return ": ".join([*where, self.text])


def verify(path: str | Path) -> list[Problem]:
    """Everything that is wrong with the dataset at ``path``; empty if nothing is. Changes nothing."""
    root = Path(path)
    if not root.is_dir():
        raise WtlError(f"there is no dataset at {root}")
    try:
        header = Header.load(root)
    except WtlError as error:
        return [Problem(layout.HEADER, str(error))]
    try:
        return _problems(root, header)
    except WtlError as error:  # of the folders themselves
        return [Problem(".", str(error))]


def _problems(root: Path, header: Header) -> list[Problem]:
    found: list[Problem] = []
    records = _all_records(root, found)
    found += _gaps(root, records)
    if layout.is_being_adopted(root):
        found.append(Problem(layout.ADOPTING, "episodes of another program wait in it; --rebuild adopts them"))
    tasks = index.sentences(records)
    for file, group in groupby(records, key=lambda record: record.file):
        found += _data_problems(root, header, file, list(group), tasks)
    if not found:  # with records missing, the counters are bound to differ
        found += [_derived_problem(text) for text in index.stale(root, header, records)]
    if not found and not _close(index.read_statistics(root, header), index.statistics(root, header, records)):
        found.append(Problem(layout.STATS, "the numbers are not those of the episodes; --rebuild puts them right"))
    return found


def _close(one: index.Statistics, two: index.Statistics) -> bool:
    """Equal up to the order in which another processor adds."""
    return one.keys() == two.keys() and all(
        one[name].keys() == two[name].keys()
        and all(len(one[name][s]) == len(two[name][s]) and np.allclose(one[name][s], two[name][s]) for s in two[name])
        for name in two
    )


def _derived_problem(text: str) -> Problem:
    file, _, what = text.partition(": ")
    return Problem(file, what)


def rebuild_index(path: str | Path) -> int:
    """Rewrite the derived files from the episode files; returns the number of episodes.

    Episodes that another program added are adopted first, where they are sound (``adopt``).
    """
    adopt(Path(path))
    store = EpisodeStore.open(path)
    store.rebuild()
    return len(store)


# ---------------------------------------------------------------------------------------------- the episodes


def _all_records(root: Path, found: list[Problem]) -> list[Record]:
    records: list[Record] = []
    for file in numbers_in(root, EPISODES_PATH):
        name = numbered(EPISODES_PATH, file)
        try:
            records += read_records(_content(root, EPISODES_PATH, file, found), file, root / name)
        except WtlError as error:
            found.append(Problem(name, str(error)))
    return records


def _content(root: Path, template: str, file: int, found: list[Problem]) -> bytes:
    """The bytes of a Parquet file; that they are not those that were written is only the first problem."""
    name = numbered(template, file)
    content = read_bytes(contained(root, name))
    sums = numbered(layout.CHECKSUM_PATH, file)
    wanted = Checksums.load(root, file)[template] if os.path.lexists(contained(root, sums)) else None
    if wanted is None:
        text = "has no checksum, so another program wrote it; --rebuild adopts what is sound in it"
        found.append(Problem(name, text))
    elif Checksum.of(content) != wanted:
        found.append(Problem(name, f"does not match its checksum in {sums}"))
    return content


def _has_final(root: Path, file: int) -> bool:
    """Is there a file of final observations, or should there be one?"""
    with contextlib.suppress(WtlError):
        if Checksums.load(root, file).final:
            return True
    return os.path.lexists(contained(root, numbered(FINAL_PATH, file)))


def _gaps(root: Path, records: Sequence[Record]) -> Iterator[Problem]:
    expected = (0, 0)
    for record in records:
        if (record.index, record.begin) != expected:
            name = numbered(EPISODES_PATH, record.file)
            text = f"expected episode {expected[0]} from row {expected[1]}; the episodes before are missing"
            yield Problem(name, text, record.index)
        expected = record.index + 1, record.begin + record.length
    committed = numbers_in(root, EPISODES_PATH)
    for template in (DATA_PATH, FINAL_PATH):
        for file in sorted(set(numbers_in(root, template)) - set(committed)):
            yield Problem(numbered(template, file), f"no {numbered(EPISODES_PATH, file)} says what it holds")


# --------------------------------------------------------------------------------------------- their numbers


def _data_problems(
    root: Path, header: Header, file: int, records: Sequence[Record], tasks: Sequence[str]
) -> list[Problem]:
    name = numbered(DATA_PATH, file)
    found: list[Problem] = []
    try:
        templates = [DATA_PATH, *([FINAL_PATH] if _has_final(root, file) else [])]
        content = {template: _content(root, template, file, found) for template in templates}
        columns, final = parse_part(root, header, file, content)
    except WtlError as error:
        return [*found, Problem(name, f"{error} (episodes {records[0].index} to {records[-1].index})")]
    steps = sum(record.length for record in records)
    if len(columns["index"]) != steps:
        text = f"{len(columns['index'])} rows, its {len(records)} episodes have {steps} steps"
        return [*found, Problem(name, text)]
    for record in records:
        try:
            last, first = final.get(record.index), records[0].begin
            found += _episode_problems(record, header, columns, last, first, root / name, tasks)
        except WtlError as error:
            found.append(Problem(name, str(error), record.index))
    return found


def _episode_problems(
    record: Record,
    header: Header,
    columns: Columns,
    final: Columns | None,
    first: int,
    path: Path,
    tasks: Sequence[str],
) -> Iterator[Problem]:
    name = numbered(DATA_PATH, record.file)
    rows = {column: values[:, 0] for column, values in rows_of(record, columns, first, path).items()}
    frame = np.arange(record.length)
    for field, right in [("frame_index", frame), ("index", record.begin + frame)]:
        if (rows[field] != right).any():
            yield Problem(name, "does not count as it should", record.index, field)
            return
    if not np.abs(rows["timestamp"] - frame / header.spec.fps).max() <= TOLERANCE:
        yield Problem(name, f"not frame_index / {header.spec.fps}", record.index, "timestamp")
    task = np.unique(rows["task_index"])
    if len(task) > 1 or not 0 <= task[0] < len(tasks) or tasks[int(task[0])] != record.task.sentence:
        yield Problem(name, f"{task[:3].tolist()} is not the task of the episode", record.index, "task_index")
    for text in problems(episode_of(record, header, columns, first, path, final), header):
        field, _, what = text.rpartition(": ") if ": " in text else ("", "", text)
        file = numbered(FINAL_PATH, record.file) if field.startswith("final.") else name
        yield Problem(file, what, record.index, field)


# --------------------------------------------------------------------------------------------------- summary


@dataclass(frozen=True)
class Group:
    """Episodes of one kind, family and split."""

    kind: str
    family: str
    split: str
    episodes: int
    successes: int
    diverged: int
    tasks: int
    shortest: int
    longest: int
    steps: int

    @property
    def success_rate(self) -> float:
        """Diverged episodes count as failures."""
        return self.successes / self.episodes

    @property
    def mean_length(self) -> float:
        return self.steps / self.episodes


@dataclass(frozen=True)
class Summary:
    """What a dataset holds; ``size`` is bytes on disk, ``notes`` a sentence for everything that was left out.

    Groups are by ``"family"``, or by ``"task"`` (then ``family`` is its sentence) where there are no families.
    """

    path: Path
    header: Header
    groups: tuple[Group, ...]
    episodes: int
    steps: int
    size: int
    notes: tuple[str, ...]
    by: str


def inspect(path: str | Path) -> Summary:
    """A summary of the dataset at ``path`` (or the one of that Hub name in the local caches), without the episodes of
    broken files."""
    root = find_dataset(path)
    if (root / layout.HEADER).exists() or not (root / layout.INFO).exists():
        store = EpisodeStore.open(root, skip_bad=True)
        header, records, skipped = store.header, store.records, tuple(f"left out: {text}" for text in store.skipped)
        by, key = "family", _group_of
    else:
        found = read_dataset(root, skip_bad=True)
        header, records, skipped = Header("lerobot", found.spec), records_of(found.episodes, 0, (0, 0)), found.notes
        by, key = "task", _task_of
    records = sorted(records, key=key)
    return Summary(
        path=root,
        header=header,
        groups=tuple(_group(names, list(members)) for names, members in groupby(records, key=key)),
        episodes=len(records),
        steps=sum(record.length for record in records),
        size=_size(root),
        notes=skipped,
        by=by,
    )


def _task_of(record: Record) -> tuple[str, str, str]:
    return record.kind, record.task.sentence, record.task.split


def _size(root: Path) -> int:
    """Bytes of the files in a folder; links are not followed."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    return sum(os.lstat(file).st_size for file in files if os.path.lexists(file))


def _group_of(record: Record) -> tuple[str, str, str]:
    return record.kind, record.task.family, record.task.split


def _group(key: tuple[str, str, str], records: Sequence[Record]) -> Group:
    lengths = [record.length for record in records]
    return Group(
        *key,
        episodes=len(records),
        successes=sum(record.success and not record.diverged for record in records),
        diverged=sum(record.diverged for record in records),
        tasks=len({record.task.name for record in records}),
        shortest=min(lengths),
        longest=max(lengths),
        steps=sum(lengths),
    )
