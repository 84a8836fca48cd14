"""Episodes that another program added to a dataset: taken over, where they are sound.

LeRobot can continue a dataset of ours. What it appends are files without checksums, whose episodes have neither kind
nor scene. Until they are taken over, the dataset is refused, since nothing vouches for them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from watchtrylearn.data import layout
from watchtrylearn.data.images import EPISODE_LIMIT
from watchtrylearn.data.layout import (
    ADOPTING,
    CHECKSUM_PATH,
    DATA_PATH,
    EPISODES_PATH,
    FINAL_PATH,
    JOURNAL,
    Checksums,
    Header,
    numbered,
    numbers_in,
)
from watchtrylearn.data.parquet import files, matrix, read_table, scalars, texts
from watchtrylearn.data.parts import parse_part
from watchtrylearn.data.records import Columns, observation_of, read_records
from watchtrylearn.data.soundness import Refused
from watchtrylearn.data.store import PATIENCE, EpisodeStore
from watchtrylearn.system.files import (
    contained,
    directory_lock,
    make_folder,
    read_bytes,
    read_typed,
    sync_directory,
    write_json,
)
from watchtrylearn.types import Episode, Task, WtlError

BATCH = 256  # episodes stored at once, fewer where their images would take more than a GiB of memory
_PLACE = ("episode_index", "length", "data/chunk_index", "data/file_index")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Journal:
    """An adoption under way: which files are LeRobot's, and what its tasks are called.

    ``after`` is the last file that is not LeRobot's (-1: none): what is numbered higher has been adopted already.
    """

    after: int
    data: list[int]
    episodes: list[int]
    sentences: dict[int, str]


def adopt(root: Path) -> None:
    """Takes over what another program added to the dataset at ``root``; logs what was, and what was not and why.

    A file that is ours and has only lost its checksum gets a new one. Of LeRobot's, the episodes are stored again as
    ours: demonstrations, each in a scene of its own (with a negative seed, which no suite uses). The original files
    are put into the quarantine. Raises ``WtlError`` if they cannot be read; then nothing is changed. An adoption that
    was interrupted, or for which there was no room, goes on where it ended.
    """
    header = Header.load(root)
    with directory_lock(root, PATIENCE):
        if layout.is_being_adopted(root):
            _finish(root, header, read_typed(contained(root, JOURNAL), _Journal))
        journal = _begin(root, header)
        if journal:
            _finish(root, header, journal)


def _begin(root: Path, header: Header) -> _Journal | None:
    """Notes what there is to adopt, after a look at all of it; None if that is nothing."""
    unknown = [file for file in numbers_in(root, EPISODES_PATH) if layout.without_checksum(root, file)]
    foreign = [file for file in unknown if not _vouched_for(root, header, file)]
    if not foreign:
        return None
    after = max((file for file in numbers_in(root, EPISODES_PATH) if file not in foreign), default=-1)
    if foreign[0] < after:
        raise WtlError(
            f"{root / numbered(EPISODES_PATH, foreign[0])} has no checksum and is not the last: nothing is adopted"
        )
    path = contained(root, layout.TASKS)
    table = read_table(path)
    numbers = scalars(table, "task_index", path).tolist()
    sentences = {int(n): text for n, text in zip(numbers, texts(table, "task", path), strict=True)}
    journal = _Journal(after, [n for n in numbers_in(root, DATA_PATH) if n > after], foreign, sentences)
    for _ in _episodes(root, header, journal):
        pass
    write_json(contained(root, JOURNAL), asdict(journal))
    return journal


def _finish(root: Path, header: Header, journal: _Journal) -> None:
    """Puts LeRobot's files aside and stores their episodes; what is done already is not done again."""
    for file in journal.data:
        _put_aside(root, numbered(DATA_PATH, file))
    for file in journal.episodes:
        _put_aside(root, numbered(EPISODES_PATH, file))
    store = EpisodeStore(root, header, [], [])
    store.load()
    tasks = {record.task.sentence: record.task for record in store.records}
    known = {record.seed for record in store.records if record.file > journal.after}
    episodes = (episode for episode in _episodes(root, header, journal) if episode.seed not in known)
    size = header.spec.horizon * sum(channel.size for channel in header.spec.images.values())
    count = BATCH if not size else max(1, min(BATCH, EPISODE_LIMIT // size))
    while batch := [_with_task(episode, tasks) for episode in islice(episodes, count)]:
        try:
            stored = store.append(batch, locked=True)
        except Refused as error:
            stored = error.stored
            for reason in error.reasons:
                _log.warning("not adopted: %s", reason)
        _log.warning("adopted %d episodes that another program added to %s", len(stored), root)
    layout.put_aside(root, contained(root, ADOPTING))


def _put_aside(root: Path, name: str) -> None:
    """Moves a file of LeRobot's to where the adoption keeps it, unless it is there."""
    aside = contained(root, f"{ADOPTING}/{name}")
    if os.path.lexists(aside):
        return
    try:
        make_folder(aside.parent)
        os.replace(contained(root, name), aside)
        sync_directory(aside.parent)
    except OSError as error:
        raise WtlError(f"cannot put {root / name} aside: {error.strerror or error}") from error


def _place(root: Path, name: str) -> Path:
    """Where a file of LeRobot's is."""
    aside = contained(root, f"{ADOPTING}/{name}")
    return aside if os.path.lexists(aside) else contained(root, name)


def _vouched_for(root: Path, header: Header, file: int) -> bool:
    """Writes the checksums of a batch that is ours, as far as can be seen; False if it is not.

    Raises ``WtlError`` if it is ours, but its final observations are broken.
    """
    paths = {template: contained(root, numbered(template, file)) for template in (DATA_PATH, EPISODES_PATH, FINAL_PATH)}
    try:
        content = {template: read_bytes(paths[template]) for template in (DATA_PATH, EPISODES_PATH)}
        records = read_records(content[EPISODES_PATH], file, paths[EPISODES_PATH])
        columns, _ = parse_part(root, header, file, content)
    except WtlError:
        return False
    owner = np.repeat([record.index for record in records], [record.length for record in records])
    if not np.array_equal(owner, columns["episode_index"][:, 0]):
        return False
    if os.path.lexists(paths[FINAL_PATH]):
        content[FINAL_PATH] = read_bytes(paths[FINAL_PATH])
        parse_part(root, header, file, content)
    write_json(contained(root, numbered(CHECKSUM_PATH, file)), Checksums.of(content).to_json())
    _log.warning("%s had no checksum; it has one now", paths[EPISODES_PATH])
    return True


def _episodes(root: Path, header: Header, journal: _Journal) -> Iterator[Episode]:
    """LeRobot's episodes; their tasks have no more than a sentence yet."""
    rows: list[tuple[int, ...]] = []
    for file in journal.episodes:
        path = _place(root, numbered(EPISODES_PATH, file))
        table = read_table(path, _PLACE)
        rows += zip(*(scalars(table, name, path).astype(np.int64).tolist() for name in _PLACE), strict=True)
    for (chunk, number), group in groupby(sorted(rows, key=lambda row: row[0]), key=lambda row: row[2:]):
        path = _place(root, layout.fill(DATA_PATH, chunk, number))
        table = read_table(path, list(layout.features(header)))
        pictures = {f"observation.{name}" for name in header.spec.images}
        columns = {n: (files if n in pictures else matrix)(table, n, path) for n in layout.features(header)}
        for index, length, *_ in group:
            steps = np.flatnonzero(columns["episode_index"][:, 0] == index)
            if len(steps) != length or not length:
                raise WtlError(f"{path}: episode {index} has {len(steps)} steps, {length} are announced")
            steps = steps[np.argsort(columns["frame_index"][steps, 0], kind="stable")]
            sentence = journal.sentences.get(int(columns["task_index"][steps[0], 0]), "")
            where = f"{path}: episode {index}"
            yield _episode(header, index, {name: values[steps] for name, values in columns.items()}, sentence, where)


def _episode(header: Header, index: int, rows: Columns, sentence: str, where: str) -> Episode:
    observed = observation_of(rows, header, where)
    slug = re.sub(r"\W+", "-", sentence.lower()).strip("-")[:60] or "task"
    name = f"{slug}-{hashlib.sha256(sentence.encode()).hexdigest()[:6]}"
    return Episode(
        task=Task(header.suite, header.suite or "lerobot", name, "train", sentence),
        kind="demo",
        seed=-1 - index,
        observation={n: v.astype(header.spec.observation[n].dtype, copy=False) for n, v in observed.items()},
        action=rows["action"].astype(np.float32),
        reward=rows["next.reward"][:, 0].astype(np.float32),
        success=bool(rows["next.success"].any()),
        executed=rows[header.executed_column].astype(np.float32) if header.executed else None,
    )


def _with_task(episode: Episode, tasks: Mapping[str, Task]) -> Episode:
    """The same with the task of the dataset that has its sentence, if there is one."""
    return replace(episode, task=tasks.get(episode.task.sentence, episode.task))
