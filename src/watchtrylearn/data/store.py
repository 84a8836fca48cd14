"""Episodes on disk: appended in batches, durable when ``append`` returns, read back exactly."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from watchtrylearn.data import index, layout
from watchtrylearn.data.layout import CHECKSUM_PATH, DATA_PATH, EPISODES_PATH, Header, numbered, numbers_in
from watchtrylearn.data.parquet import FILE_LIMIT, decode, encode
from watchtrylearn.data.records import (
    Record,
    data_columns,
    data_table,
    episode_of,
    episodes_table,
    read_records,
    records_of,
)
from watchtrylearn.files import (
    contained,
    directory_lock,
    leftovers,
    read_bytes,
    read_json,
    remove_leftovers,
    write_atomic,
    write_json,
)
from watchtrylearn.types import Channel, Episode, Spec, WtlError

PATIENCE = 30.0  # seconds to wait for another process that is appending


class EpisodeStore:
    """A dataset of episodes in a directory (see ``layout``).

    ::

        with EpisodeStore.create(path, suite.spec, suite=suite.name) as store:
            store.append(episodes)      # on the disk when it returns, whatever happens next
        episodes = EpisodeStore.open(path).read()

    Attributes:
        header: suite and spec.
        records: what is known of each episode without reading its steps, by its number.
        skipped: with ``skip_bad``, a sentence for each broken file that was left out.
    """

    def __init__(self, path: Path, header: Header, records: list[Record], skipped: list[str]) -> None:
        self.path = path
        self.header = header
        self.records = records
        self.skipped = skipped
        self.skip_bad = False

    # ------------------------------------------------------------------------------------ create and open

    @staticmethod
    def create(path: str | Path, spec: Spec, suite: str = "", executed: bool = False) -> EpisodeStore:
        """A new, empty dataset. ``executed``: its episodes may record the actions that reached the robot."""
        path = Path(path)
        with directory_lock(path, PATIENCE):
            if (path / layout.HEADER).exists():
                raise WtlError(f"there is already a dataset at {path}")
            header = Header(suite, spec, executed)
            header.save(path)
            index.write_index(path, header, [])
        return EpisodeStore(path, header, [], [])

    @staticmethod
    def open(path: str | Path, spec: Spec | None = None, skip_bad: bool = False) -> EpisodeStore:
        """The dataset at ``path``, after putting right what an interrupted writer left behind.

        Raises ``WtlError`` if it is of another schema version, if it differs from ``spec`` (every difference
        is listed), or if the files that say what it holds are broken. With ``skip_bad`` all files are checked
        and the episodes of broken ones left out; ``skipped`` names them.
        """
        path = Path(path)
        header = Header.load(path)
        if spec is not None:
            _require_same(path, header.spec, spec)
        store = EpisodeStore(path, header, [], [])
        store.skip_bad = skip_bad
        store._load(skip_bad)
        if not store.skipped and store._needs_repair():
            with contextlib.suppress(WtlError), directory_lock(path):  # if busy or read-only, another time
                store._recover()
                index.write_index(path, header, store.records)
        return store

    @staticmethod
    def open_or_create(path: str | Path, spec: Spec, suite: str = "", executed: bool = False) -> EpisodeStore:
        """Continue the dataset at ``path`` if there is one of this spec, else begin it."""
        if (Path(path) / layout.HEADER).exists():
            return EpisodeStore.open(path, spec)
        return EpisodeStore.create(path, spec, suite, executed)

    @property
    def spec(self) -> Spec:
        return self.header.spec

    def __len__(self) -> int:
        return len(self.records)

    # ------------------------------------------------------------------------------------------- reading

    def read(self, ids: Iterable[int] | None = None) -> list[Episode]:
        """The episodes with the given numbers, in that order; by default all of them.

        Every number is checked: ``WtlError`` names file, episode, field and step of the first that is not
        sound; with ``skip_bad`` such an episode is left out and named in ``skipped``.
        """
        if ids is None:
            return list(self)
        wanted = [int(i) for i in ids]
        found = dict(self._read(self._known(sorted(set(wanted)))))
        return [found[i] for i in wanted if i in found]

    def __iter__(self) -> Iterator[Episode]:
        return (episode for _, episode in self._read(self.records))

    def episodes(self, ids: Iterable[int]) -> Iterator[Episode]:
        """The episodes with the given numbers, one data file in memory at a time."""
        return (episode for _, episode in self._read(self._known(ids)))

    def _known(self, ids: Iterable[int]) -> list[Record]:
        known = {record.index: record for record in self.records}
        ids = list(ids)
        missing = [i for i in ids if i not in known]
        if missing:
            raise WtlError(f"{self.path} has no episode {missing[0]}; it has {len(self)}")
        return [known[i] for i in ids]

    def _read(self, records: Sequence[Record]) -> Iterator[tuple[int, Episode]]:
        first = self._first_rows()
        for file, group in groupby(records, key=lambda record: record.file):
            path = self._path(DATA_PATH, file)
            table = self._table(DATA_PATH, file)
            for record in group:
                episode = episode_of(record, self.header, table, first[file], path)
                found = problems(episode, self.header)
                if not found:
                    yield record.index, episode
                elif not self.skip_bad:
                    raise WtlError(f"{path}: episode {record.index} ({record.task.name}): {found[0]}")
                else:
                    self.skipped.append(f"{path}: episode {record.index}: {found[0]}")

    def _first_rows(self) -> dict[int, int]:
        return {record.file: record.begin for record in reversed(self.records)}

    def _path(self, template: str, file: int) -> Path:
        return contained(self.path, numbered(template, file))

    def _table(self, template: str, file: int, columns: Sequence[str] | None = None) -> pa.Table:
        path = self._path(template, file)
        content = read_bytes(path, FILE_LIMIT)
        if not matches_checksum(self.path, template, file, content):
            raise WtlError(f"{path} is damaged: it does not match its checksum")
        return decode(content, path, columns)

    # ------------------------------------------------------------------------------------------- writing

    def append(self, episodes: Sequence[Episode]) -> list[int]:
        """Store ``episodes`` as one batch and return their numbers; they are durable when this returns.

        Nothing is written if any of them is not sound: then a ``WtlError`` names episode, field and step.
        Waits for another process that is appending. Batches of a few hundred are fastest.
        """
        if not episodes:
            return []
        self._refuse_bad(episodes)
        if self.skipped:
            raise WtlError(f"nothing can be added to a dataset with broken files: {self.skipped[0]}")
        with directory_lock(self.path, PATIENCE):
            self._load(skip_bad=False)  # another process may have appended
            self._recover()
            new = self._write(episodes)
        self.records += new
        return [record.index for record in new]

    def finalize(self) -> None:
        """Bring the derived files (``info.json``, tasks, statistics) up to date, for other readers.

        Files that are up to date are left alone, and so is a dataset with broken files (``skipped``).
        """
        if not self.skipped and self._needs_repair():
            self.rebuild()

    def rebuild(self) -> None:
        """Write the derived files anew from the episodes, whatever they say."""
        with directory_lock(self.path, PATIENCE):
            self._load(skip_bad=False)
            self._recover()
            index.write_index(self.path, self.header, self.records)

    def __enter__(self) -> EpisodeStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finalize()
        else:  # what is stored is safe already; do not hide the error behind another
            with contextlib.suppress(WtlError):
                self.finalize()

    def _write(self, episodes: Sequence[Episode]) -> list[Record]:
        last = self.records[-1] if self.records else None
        file, first = last.file + 1 if last else 0, _next(last)
        records = records_of(episodes, file, first)
        number = {text: i for i, text in enumerate(index.sentences([*self.records, *records]))}
        columns = data_columns(episodes, self.header, first, [number[e.task.sentence] for e in episodes])
        content = {
            template: encode(table)
            for template, table in [
                (DATA_PATH, data_table(columns)),
                (EPISODES_PATH, episodes_table(records, columns)),
            ]
        }
        write_atomic(self._path(DATA_PATH, file), content[DATA_PATH])
        checksums = {_role(template): _checksum(value) for template, value in content.items()}
        write_json(self._path(CHECKSUM_PATH, file), checksums)
        write_atomic(self._path(EPISODES_PATH, file), content[EPISODES_PATH])  # the commit
        return records

    def _refuse_bad(self, episodes: Sequence[Episode]) -> None:
        for number, episode in enumerate(episodes):
            found = problems(episode, self.header)
            if found:
                raise WtlError(f"episode {number} of the batch ({episode.task.name}) is refused: {found[0]}")

    # ------------------------------------------------------------------------------------------ recovery

    def _load(self, skip_bad: bool) -> None:
        """Read the records of the files not yet known."""
        known = {record.file for record in self.records}
        files = numbers_in(self.path, EPISODES_PATH)
        if skip_bad:
            gone = sorted(set(range(max(files, default=0))) - set(files))
            self.skipped += [f"there is no file {self._path(EPISODES_PATH, file)}" for file in gone]
        for file in files:
            if file in known:
                continue
            try:
                self.records += self._read_records(file, skip_bad)
            except WtlError as error:
                if not skip_bad:
                    raise
                self.skipped.append(str(error))

    def _read_records(self, file: int, skip_bad: bool) -> list[Record]:
        path = self._path(EPISODES_PATH, file)
        records = read_records(self._table(EPISODES_PATH, file), file, path)
        if skip_bad:
            self._table(DATA_PATH, file)  # only to see that it can be read
        else:
            _require_contiguous(self.records[-1] if self.records else None, records, path)
        return records

    def _needs_repair(self) -> bool:
        half_written = any(leftovers(folder) for folder in self._folders())
        return half_written or bool(self.orphans() or index.stale(self.path, self.header, self.records))

    def _folders(self) -> list[Path]:
        found = [self.path / "meta", *self.path.glob("data/*"), *self.path.glob("meta/*/*")]
        return [folder for folder in found if folder.is_dir()]

    def orphans(self) -> list[Path]:
        """Data files of batches that were never committed: those numbered after the last committed one."""
        last = max(numbers_in(self.path, EPISODES_PATH), default=-1)
        return [self._path(DATA_PATH, n) for n in numbers_in(self.path, DATA_PATH) if n > last]

    def _recover(self) -> None:
        """Put aside what an interrupted writer left: nobody was told that it was saved. Needs the lock."""
        try:
            for path in self.orphans():
                aside = self.path / layout.QUARANTINE / f"{path.parent.name}-{path.name}.{time.time_ns()}"
                aside.parent.mkdir(exist_ok=True)
                os.replace(path, aside)
            for folder in self._folders():
                remove_leftovers(folder)
        except OSError as error:
            raise WtlError(f"cannot clean up {self.path}: {error}") from error


def _role(template: str) -> str:
    return "episodes" if template == EPISODES_PATH else "data"


def _checksum(content: bytes) -> dict[str, str | int]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def matches_checksum(root: Path, template: str, file: int, content: bytes) -> bool:
    """Is ``content`` what was written as that file? A missing or broken checksum file is a ``WtlError``."""
    path = contained(root, numbered(CHECKSUM_PATH, file))
    checksums = read_json(path)
    if not isinstance(checksums, dict):
        raise WtlError(f"{path} is damaged: it holds no checksums")
    return bool(checksums.get(_role(template)) == _checksum(content))


def _require_same(path: Path, stored: Spec, wanted: Spec) -> None:
    found = stored.differences(wanted)
    if found:
        raise WtlError(f"the dataset {path} does not fit: " + "; ".join(found))


def _next(last: Record | None) -> tuple[int, int]:
    """Number and first row of the episode after ``last``."""
    return (last.index + 1, last.begin + last.length) if last else (0, 0)


def _require_contiguous(last: Record | None, records: Sequence[Record], path: Path) -> None:
    for record in records:
        if (record.index, record.begin) != _next(last):
            raise WtlError(
                f"{path}: expected episode {_next(last)[0]}, found {record.index}; an earlier file is missing"
            )
        last = record


# ------------------------------------------------------------------------------------------------ soundness


def problems(episode: Episode, header: Header) -> list[str]:
    """Why an episode cannot be stored, each naming field and step.

    The numbers of a diverged trial mean nothing and may be anything, but their shapes must fit.
    """
    found = _diverged_problems(episode, header.spec) if episode.diverged else episode.problems(header.spec)
    if not 0 <= abs(episode.seed) < 2**63:
        found.append(f"seed: {episode.seed} does not fit 64 bits")
    if episode.initial_state.ndim != 1:
        found.append(f"initial_state: shape {episode.initial_state.shape}, expected one dimension")
    elif not episode.diverged and not np.isfinite(episode.initial_state).all():
        found.append("initial_state: not finite")
    if episode.executed is not None:
        found += _executed_problems(episode, header)
    return found


def _executed_problems(episode: Episode, header: Header) -> list[str]:
    executed = episode.executed
    assert executed is not None
    if not header.executed:
        return ["executed: this dataset was created without executed actions (executed=True stores them)"]
    if executed.shape != episode.action.shape:
        return [f"executed: shape {executed.shape}, expected {episode.action.shape}"]
    if not episode.diverged and not np.isfinite(executed).all():
        return [f"executed: not a finite number at step {np.argwhere(~np.isfinite(executed))[0][0]}"]
    return []


def _diverged_problems(episode: Episode, spec: Spec) -> list[str]:
    """The problems of shape alone: those that remain with harmless numbers and no bounds."""
    if episode.kind == "demo":
        return ["a diverged episode cannot be a demonstration"]

    def free(channel: Channel) -> Channel:
        size = channel.size
        return Channel(channel.names, (-np.inf,) * size, (np.inf,) * size)

    unbounded = replace(
        spec,
        observation={name: free(channel) for name, channel in spec.observation.items()},
        action=free(spec.action),
    )
    harmless = replace(
        episode,
        observation={name: np.zeros_like(values) for name, values in episode.observation.items()},
        action=np.zeros_like(episode.action),
        reward=np.zeros_like(episode.reward),
    )
    return harmless.problems(unbounded)
