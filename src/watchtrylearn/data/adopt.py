"""Episodes that another program added to a dataset: taken over, where they are sound.

LeRobot can continue a dataset of ours. What it appends are files without checksums, whose episodes have neither kind
nor scene. Until they are taken over, the dataset is refused, since nothing vouches for them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np

from watchtrylearn.data import layout
from watchtrylearn.data.layout import CHECKSUM_PATH, DATA_PATH, EPISODES_PATH, Checksum, Header, numbered, numbers_in
from watchtrylearn.data.parquet import matrix, read_table, scalars, texts
from watchtrylearn.data.records import read_columns, read_records
from watchtrylearn.data.store import PATIENCE, EpisodeStore, Refused
from watchtrylearn.files import contained, directory_lock, read_bytes, write_json
from watchtrylearn.types import Episode, Task, WtlError

BATCH = 256
_PLACE = ("episode_index", "length", "data/chunk_index", "data/file_index")

_log = logging.getLogger(__name__)


def adopt(root: Path) -> None:
    """Takes over what another program added to the dataset at ``root``; logs what was, and what was not and why.

    A file that is ours and has only lost its checksum gets a new one. Of LeRobot's, the episodes are stored again as
    ours: demonstrations, each in a scene of its own (with a negative seed, which no suite uses). The original files
    are put into the quarantine. Raises ``WtlError`` if they cannot be read; then nothing is changed.
    """
    header = Header.load(root)
    with directory_lock(root, PATIENCE):
        foreign = [file for file in _without_checksum(root) if not _vouched_for(root, header, file)]
    if not foreign:
        return
    known = [file for file in numbers_in(root, EPISODES_PATH) if file not in foreign]
    if known and foreign[0] < known[-1]:
        raise WtlError(
            f"{root / numbered(EPISODES_PATH, foreign[0])} has no checksum and is not the last: nothing is adopted"
        )
    episodes = list(_episodes(root, header, foreign))
    with directory_lock(root, PATIENCE):
        for file in foreign:
            layout.put_aside(root, contained(root, numbered(EPISODES_PATH, file)))
    with EpisodeStore.open(root) as store:  # which puts their data aside, too
        tasks = {record.task.sentence: record.task for record in store.records}
        for at in range(0, len(episodes), BATCH):
            batch = [_with_task(episode, tasks) for episode in episodes[at : at + BATCH]]
            try:
                stored = store.append(batch)
            except Refused as error:
                stored = error.stored
                for reason in error.reasons:
                    _log.warning("not adopted: %s", reason)
            _log.warning("adopted %d episodes that another program added to %s", len(stored), root)


def _without_checksum(root: Path) -> list[int]:
    return [n for n in numbers_in(root, EPISODES_PATH) if not os.path.lexists(root / numbered(CHECKSUM_PATH, n))]


def _vouched_for(root: Path, header: Header, file: int) -> bool:
    """Writes the checksums of a batch that is ours, as far as can be seen; False if it is not."""
    paths = {role: contained(root, numbered(t, file)) for role, t in (("data", DATA_PATH), ("episodes", EPISODES_PATH))}
    try:
        content = {role: read_bytes(path) for role, path in paths.items()}
        records = read_records(content["episodes"], file, paths["episodes"])
        columns = read_columns(content["data"], header, paths["data"])
    except WtlError:
        return False
    owner = np.repeat([record.index for record in records], [record.length for record in records])
    if not np.array_equal(owner, columns["episode_index"][:, 0]):
        return False
    sums = {role: vars(Checksum.of(value)) for role, value in content.items()}
    write_json(contained(root, numbered(CHECKSUM_PATH, file)), sums)
    _log.warning("%s had no checksum; it has one now", paths["episodes"])
    return True


def _episodes(root: Path, header: Header, files: Sequence[int]) -> Iterator[Episode]:
    """LeRobot's episodes in those files; their tasks have no more than a sentence yet."""
    path = contained(root, layout.TASKS)
    table = read_table(path)
    sentences = dict(zip(scalars(table, "task_index", path).tolist(), texts(table, "task", path), strict=True))
    rows: list[tuple[int, ...]] = []
    for file in files:
        path = contained(root, numbered(EPISODES_PATH, file))
        table = read_table(path, _PLACE)
        rows += zip(*(scalars(table, name, path).astype(np.int64).tolist() for name in _PLACE), strict=True)
    for (chunk, number), group in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[2:]):
        path = contained(root, layout.fill(DATA_PATH, chunk, number))
        table = read_table(path, list(layout.features(header)))
        columns = {name: matrix(table, name, path) for name in layout.features(header)}
        for index, length, *_ in group:
            steps = np.flatnonzero(columns["episode_index"][:, 0] == index)
            if len(steps) != length or not length:
                raise WtlError(f"{path}: episode {index} has {len(steps)} steps, {length} are announced")
            steps = steps[np.argsort(columns["frame_index"][steps, 0], kind="stable")]
            sentence = sentences.get(int(columns["task_index"][steps[0], 0]), "")
            yield _episode(header, index, {name: values[steps] for name, values in columns.items()}, sentence)


def _episode(header: Header, index: int, rows: Mapping[str, np.ndarray], sentence: str) -> Episode:
    slug = re.sub(r"\W+", "-", sentence.lower()).strip("-")[:60] or "task"
    name = f"{slug}-{hashlib.sha256(sentence.encode()).hexdigest()[:6]}"
    return Episode(
        task=Task(header.suite, header.suite or "lerobot", name, "train", sentence),
        kind="demo",
        seed=-1 - index,
        observation={name: rows[f"observation.{name}"].astype(np.float32) for name in header.spec.observation},
        action=rows["action"].astype(np.float32),
        reward=rows["next.reward"][:, 0].astype(np.float32),
        success=bool(rows["next.success"].any()),
        executed=rows[header.executed_column].astype(np.float32) if header.executed else None,
    )


def _with_task(episode: Episode, tasks: Mapping[str, Task]) -> Episode:
    """The same with the task of the dataset that has its sentence, if there is one."""
    return replace(episode, task=tasks.get(episode.task.sentence, episode.task))
