"""Episodes on disk: appended in batches, durable when ``append`` returns, read back exactly."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from watchtrylearn.data import index, layout
from watchtrylearn.data.bounds import gaps, require_memory, require_plausible, require_vacant, through_link
from watchtrylearn.data.layout import (
    CHECKSUM_PATH,
    DATA_PATH,
    EPISODES_PATH,
    FINAL_PATH,
    Checksums,
    Header,
    numbered,
    numbers_in,
    read_checked,
    without_checksum,
)
from watchtrylearn.data.parts import part_of, read_part
from watchtrylearn.data.records import Record, episode_of, read_records, records_of
from watchtrylearn.data.soundness import Refused, as_cut, problems
from watchtrylearn.system.files import (
    contained,
    directory_lock,
    leftovers,
    remove_leftovers,
    write_atomic,
    write_json,
)
from watchtrylearn.types import Episode, Spec, WtlError, canonical_json

_log = logging.getLogger(__name__)

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
        self._checksums: dict[int, Checksums] = {}  # of the files whose records are known

    # ------------------------------------------------------------------------------------ create and open

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Is there a dataset at ``path``? What an interrupted ``create`` left is none."""
        return Header.exists(Path(path))

    @staticmethod
    def create(path: str | Path, spec: Spec, suite: str = "", executed: bool = False) -> EpisodeStore:
        """A new, empty dataset. ``executed``: its episodes may record, beside the intended actions, those that reached
        the robot. Without, actions that were only cut to their bounds are stored as they were cut, and disturbed ones
        are refused."""
        store = EpisodeStore(Path(path), Header(suite, spec, executed), [], [])
        with directory_lock(path, PATIENCE):
            if EpisodeStore.exists(path):
                raise WtlError(f"there is already a dataset at {path}")
            require_vacant(store.path)
            for folder in store._folders():
                remove_leftovers(folder)
            store.header.save(store.path)
            index.write_index(store.path, store.header, [])
        return store

    @staticmethod
    def open(path: str | Path, spec: Spec | None = None, skip_bad: bool = False, suite: str = "") -> EpisodeStore:
        """The dataset at ``path``, after putting right what an interrupted writer left behind.

        Raises ``WtlError`` if there is none, if it is of another schema version, if it differs from ``spec`` or
        ``suite`` where those are given (every difference is listed), or if the files that say what it holds are
        broken. With ``skip_bad`` all files are checked and the episodes of broken ones left out; ``skipped`` names
        them.
        """
        path = Path(path)
        header = Header.load(path)
        found = header.differences(spec, suite)
        if found:
            raise WtlError(f"the dataset {path} does not fit: " + "; ".join(found))
        store = EpisodeStore(path, header, [], [])
        store.skip_bad = skip_bad
        store.load(skip_bad)
        if layout.is_being_adopted(path):
            text = (
                f"{path} is being adopted, or that was interrupted; `wtl data verify --rebuild {path}` goes on with it"
            )
            store._skip(WtlError(text))
        if not store.skipped and store._needs_repair():
            with contextlib.suppress(WtlError), directory_lock(path):  # if busy or read-only, another time
                store.load()  # another process may have appended
                store._recover()
                index.write_index(path, header, store.records)
        return store

    @staticmethod
    def open_or_create(path: str | Path, spec: Spec, suite: str = "", executed: bool = False) -> EpisodeStore:
        """Continue the dataset at ``path`` if there is one of this spec and suite, else begin it."""
        if not EpisodeStore.exists(path):
            return EpisodeStore.create(path, spec, suite, executed)
        store = EpisodeStore.open(path, spec, suite=suite)
        if executed and not store.header.executed:
            raise WtlError(f"the dataset {path} does not fit: it was created without executed actions")
        return store

    def digest(self) -> str:
        """SHA-256 of what the dataset holds: its header, and the checksums of the files it reads episodes from.

        Equal for equal content. Nothing is read for it.
        """
        files = [[file, *sums.to_json().values()] for file, sums in sorted(self._checksums.items())]
        return hashlib.sha256(canonical_json([self.header.to_json(), files]).encode()).hexdigest()

    @property
    def spec(self) -> Spec:
        return self.header.spec

    def __len__(self) -> int:
        return len(self.records)

    # ------------------------------------------------------------------------------------------- reading

    def read(self, ids: Iterable[int] | None = None, images: bool | Collection[str] = True) -> list[Episode]:
        """The episodes with the given numbers, in that order; by default all of them.

        ``images``: all, none, or those of the cameras of these names; others are not unpacked, and are absent. All that
        would take more than 4 GiB are refused. Every number is checked: ``WtlError`` names file, episode, field and
        step of the first that is not sound; with ``skip_bad`` such an episode is left out and named in ``skipped``.
        """
        wanted = [record.index for record in self.records] if ids is None else [int(i) for i in ids]
        records = self._known(sorted(set(wanted)))
        header = self._seen_by(images)
        require_memory(self.path, header, records)
        found = dict(self._read(records, header))
        return [found[i] for i in wanted if i in found]

    def __iter__(self) -> Iterator[Episode]:
        return (episode for _, episode in self._read(self.records, self.header))

    def episodes(self, ids: Iterable[int], images: bool | Collection[str] = True) -> Iterator[Episode]:
        """As ``read``, but one data file in memory at a time, and of its images one episode's."""
        return (episode for _, episode in self._read(self._known(ids), self._seen_by(images)))

    def numbered(self, images: bool | Collection[str] = True) -> Iterator[tuple[int, Episode]]:
        """Number and episode of all, in memory as ``episodes``: who left out images can ``read`` some of them again."""
        return self._read(self.records, self._seen_by(images))

    def _seen_by(self, images: bool | Collection[str]) -> Header:
        """The header with the cameras that are asked for."""
        return self.header if images is True else self.header.without_images(but=images or ())

    def images(self, name: str, final: bool = False) -> Iterator[tuple[int, UInt8[np.ndarray, "time height width 3"]]]:
        """Number and images of the camera ``name`` of every episode, in memory as ``episodes``.

        One image for each step; with ``final`` also the one after the last action, of episodes that have it.
        """
        if name not in self.spec.images:
            raise WtlError(f"{self.path} has no camera {name!r}; it has {', '.join(self.spec.images) or 'none'}")
        for number, episode in self._read(self.records, self._seen_by([name])):
            seen = episode.observation[name]
            yield number, np.concatenate([seen, episode.final[name][None]]) if final and episode.final else seen

    def _known(self, ids: Iterable[int]) -> list[Record]:
        known = {record.index: record for record in self.records}
        ids = list(ids)
        missing = [i for i in ids if i not in known]
        if missing:
            raise WtlError(f"{self.path} has no episode {missing[0]}; it has {len(self)}")
        return [known[i] for i in ids]

    def _read(self, records: Sequence[Record], header: Header) -> Iterator[tuple[int, Episode]]:
        """Number and episode of each of ``records``, with the channels of ``header``."""
        first = self._first_rows()
        for file, group in groupby(records, key=lambda record: record.file):
            path = self._path(DATA_PATH, file)
            try:
                columns, final = read_part(self.path, header, file, self._checksums[file])
            except WtlError as error:
                self._skip(error)
                continue
            for record in group:
                try:
                    last = final.get(record.index)
                    episode = episode_of(record, header, columns, first[file], path, last)
                    found = problems(episode, header)
                    if found:
                        raise WtlError(f"{path}: episode {record.index} ({record.task.name}): {found[0]}")
                except WtlError as error:
                    self._skip(error)
                    continue
                yield record.index, episode

    def _skip(self, error: WtlError) -> None:
        """Leaves out what ``error`` names, or raises it."""
        if not self.skip_bad:
            raise error
        if str(error) not in self.skipped:
            self.skipped.append(str(error))

    def _first_rows(self) -> dict[int, int]:
        return {record.file: record.begin for record in reversed(self.records)}

    def _path(self, template: str, file: int) -> Path:
        return contained(self.path, numbered(template, file))

    # ------------------------------------------------------------------------------------------- writing

    def append(self, episodes: Sequence[Episode], locked: bool = False) -> list[int]:
        """Store ``episodes`` as one batch and return their numbers; they are durable when this returns.

        Those that are not sound are not stored, all others are; then ``Refused`` (a ``WtlError``) names task, scene,
        field and step of each. Waits for another process that is appending, unless the caller has ``locked`` the
        dataset. Batches of a few hundred are fastest.
        """
        episodes = [as_cut(episode, self.header) for episode in episodes]
        found = [problems(episode, self.header) for episode in episodes]
        sound = [episode for episode, wrong in zip(episodes, found, strict=True) if not wrong]
        new: list[Record] = []
        if self.skipped:
            raise WtlError(f"nothing can be added to a dataset with broken files: {self.skipped[0]}")
        if sound:
            with contextlib.nullcontext() if locked else directory_lock(self.path, PATIENCE):
                self.load()  # another process may have appended
                self._recover()
                new = self._write(sound)
            self.records += new
        stored = [record.index for record in new]
        reasons = [
            f"episode {number} of the batch ({_name(episode)}) is refused: {wrong[0]}"
            for number, (episode, wrong) in enumerate(zip(episodes, found, strict=True))
            if wrong
        ]
        if reasons:
            raise Refused(self.path, stored, reasons)
        return stored

    def append_attempts(self, attempts: Sequence[Episode]) -> list[int]:
        """``append`` for a policy's attempts, of which none may be missing.

        One with a number that is not finite or outside the bounds of the spec is a failure, and stored as one that
        diverged; if that is only in the observation after its last action, it is stored without that. A logged warning
        names it. In a dataset that was created without executed actions (version 0.1 made those of attempts so), what
        reached the robot is stored as the action, as that version did.
        """
        return self.append([self._as_attempt(attempt) for attempt in attempts])

    def _as_attempt(self, attempt: Episode) -> Episode:
        if attempt.executed is not None and not self.header.executed:
            attempt = replace(attempt, action=attempt.executed, executed=None)
        found = problems(attempt, self.header)
        if not found or attempt.kind != "trial":
            return attempt
        if attempt.final and not problems(replace(attempt, final={}), self.header):
            _log.warning("%s: %s: left out: %s", self.path, _name(attempt), found[0])
            return replace(attempt, final={})
        if not attempt.diverged:
            _log.warning("%s: an attempt at %s is a failure: %s", self.path, _name(attempt), found[0])
            attempt = replace(attempt, diverged=True, success=False)
        return attempt

    def finalize(self) -> None:
        """Bring the derived files (``info.json``, tasks, statistics) up to date, for other readers.

        Files that are up to date are left alone, and so is a dataset with broken files (``skipped``).
        """
        if not self.skipped and self._needs_repair():
            self.rebuild()

    def rebuild(self) -> None:
        """Write the derived files anew from the episodes, whatever they say."""
        with directory_lock(self.path, PATIENCE):
            self.load()
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
        file, first = max(self._checksums, default=-1) + 1, _next(last)
        records = records_of(episodes, file, first)
        number = {text: i for i, text in enumerate(index.sentences([*self.records, *records]))}
        content = part_of(self.path, self.header, episodes, records, [number[e.task.sentence] for e in episodes])
        checksums = Checksums.of(content)
        rows = content.pop(EPISODES_PATH)
        for template, each in content.items():
            write_atomic(self._path(template, file), each)
        write_json(self._path(CHECKSUM_PATH, file), checksums.to_json())
        write_atomic(self._path(EPISODES_PATH, file), rows)  # the commit
        self._checksums[file] = checksums
        return records

    # ------------------------------------------------------------------------------------------ recovery

    def load(self, skip_bad: bool = False) -> None:
        """Read the records of the files not yet known."""
        files = numbers_in(self.path, EPISODES_PATH)
        if skip_bad:
            self.skipped += gaps(self.path, files)
        for file in files:
            if file in self._checksums:
                continue
            try:
                checksums = self._load_checksums(file)
                self.records += self._read_records(file, checksums, skip_bad)
                self._checksums[file] = checksums
            except WtlError as error:
                if not skip_bad:
                    raise
                self.skipped.append(str(error))
        require_plausible(self.path, self.header, self.records, self._checksums)

    def _load_checksums(self, file: int) -> Checksums:
        path = without_checksum(self.path, file)
        if path:
            raise WtlError(
                f"{path} has no checksum, so another program wrote it; "
                f"`wtl data verify --rebuild {self.path}` adopts what is sound in it"
            )
        return Checksums.load(self.path, file)

    def _read_records(self, file: int, checksums: Checksums, skip_bad: bool) -> list[Record]:
        path = self._path(EPISODES_PATH, file)
        records = read_records(read_checked(self.path, EPISODES_PATH, file, checksums), file, path)
        if skip_bad:  # only to see that they can be read
            read_part(self.path, self.header, file, checksums)
        elif (records[0].index, records[0].begin) != (expected := _next(self.records[-1] if self.records else None)):
            raise WtlError(
                f"{path}: expected episode {expected[0]}, found {records[0].index}; an earlier file is missing"
            )
        return records

    def _needs_repair(self) -> bool:
        half_written = any(leftovers(folder) for folder in self._folders())
        return half_written or bool(self.orphans() or index.stale(self.path, self.header, self.records))

    def _folders(self) -> list[Path]:
        found = [self.path / "meta", *self.path.glob("data/*"), *self.path.glob("meta/*/*")]
        return [folder for folder in found if folder.is_dir() and not through_link(self.path, folder)]

    def orphans(self) -> list[Path]:
        """Files of batches that were never committed: those numbered after the last committed one."""
        last = max(numbers_in(self.path, EPISODES_PATH), default=-1)
        return [self._path(t, n) for t in (DATA_PATH, FINAL_PATH) for n in numbers_in(self.path, t) if n > last]

    def _recover(self) -> None:
        """Put aside what an interrupted writer left: nobody was told that it was saved. Needs the lock."""
        for path in self.orphans():
            layout.put_aside(self.path, path)
        for folder in self._folders():
            remove_leftovers(folder)


def _name(episode: Episode) -> str:
    return f"{getattr(episode.task, 'name', episode.task)}, scene {episode.seed}"


def _next(last: Record | None) -> tuple[int, int]:
    """Number and first row of the episode after ``last``."""
    return (last.index + 1, last.begin + last.length) if last else (0, 0)
