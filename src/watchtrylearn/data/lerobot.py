"""Any LeRobot v3.0 dataset as episodes: another robot, recorded with other tools.

Cameras are left out unless they are asked for. LeRobot has no families or splits, so all tasks are of one family, for
training, and told apart by their sentence; where a dataset does not say in which scene an episode was recorded, each is
its own.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from watchtrylearn.data import layout
from watchtrylearn.data.cameras import Reader, chosen_cameras, columns_of_videos, require_cameras
from watchtrylearn.data.hub import file_in, find_dataset
from watchtrylearn.data.lerobot_info import Info, read_info, vectors
from watchtrylearn.data.parquet import decode, matrix, plain_values, texts, whole_numbers
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.errors import suggestion
from watchtrylearn.system.files import read_bytes
from watchtrylearn.types import STATE, Channel, Episode, ImageChannel, Spec, Task, WtlError

MEMORY_LIMIT = 4 * 2**30  # bytes of numbers in memory
SHOWN = 5  # episodes named in one note

_log = logging.getLogger(__name__)
_META = ("episode_index", "length", "data/chunk_index", "data/file_index")
_YES = {"yes", "true", "success", "succeeded", "trial"}
_NO = {"no", "false", "failure", "failed", "demo"}


@dataclass(frozen=True)
class Columns:
    """Where a LeRobot dataset says what it has no columns of its own for.

    Each is the name of a column of the steps (``data/``) or of the episodes (``meta/episodes``). Where a name is
    empty, the first of the names below that the dataset has is taken, and if it has none of them (or the name is
    "none"), every episode counts as a successful demonstration in a scene of its own.

    Attributes:
        success: the yes or no, as true or false, 1 or 0, "success" or "failure" (``next.success``, ``success``).
            Of a column of the steps, an episode is a success if any of its steps is.
        kind: "demo", or "trial" for the robot's own attempts; also true for a trial (``kind``).
        scene: a number or text that is equal for episodes with the same things in the same places (``scene_seed``).
    """

    success: str = ""
    kind: str = ""
    scene: str = ""


_NONE = "none"
_KNOWN = {"success": ("next.success", "success"), "kind": ("kind",), "scene": ("scene_seed",)}


@dataclass(frozen=True)
class Dataset:
    """A dataset as it was read; ``notes`` has a sentence for everything that was left out or decided.

    ``scenes``: it says in which scene each episode was recorded.
    """

    path: Path
    spec: Spec
    episodes: list[Episode]
    scenes: bool
    notes: tuple[str, ...]


def read_dataset(
    name: str | Path,
    columns: Columns = Columns(),
    suite: str = "lerobot",
    skip_bad: bool = False,
    images: Sequence[str] = (),
) -> Dataset:
    """The dataset ``name`` (a folder, or a Hub name in the local caches): one that this library wrote, with kind,
    scene, outcome and split of every episode; or any other of LeRobot's v3.0.

    With ``skip_bad`` the episodes of broken files are left out, with a note; so is every camera but ``images``. Raises
    ``WtlError`` as ``read_lerobot``.
    """
    root = find_dataset(name)
    if not (root / layout.HEADER).exists():
        return _foreign(root, columns, suite, skip_bad, images)
    store = EpisodeStore.open(root, skip_bad=skip_bad)
    known = [f"observation.{camera}" for camera in store.spec.images]
    require_cameras(images, known, root)
    chosen = [each.removeprefix("observation.") for each in images]
    episodes = store.read(images=chosen)
    notes = [f"left out: {sentence}" for sentence in store.skipped]
    notes += [f"left out {each}: images" for each in known if each not in images]
    return Dataset(root, store.header.without_images(but=chosen).spec, episodes, True, tuple(notes))


def read_lerobot(
    path: str | Path,
    suite: str = "lerobot",
    columns: Columns = Columns(),
    like: Spec | None = None,
    images: Sequence[str] = (),
) -> tuple[Spec, list[Episode]]:
    """The episodes of a LeRobot v3.0 dataset, and the spec that describes them.

    ``observation.<name>`` becomes the channel ``<name>``. ``columns`` tells where success, kind and scene are; by
    default episodes are successful demonstrations, each in a scene of its own. An episode whose task changes is
    split there, and its parts have the outcome of the whole. Without ``next.reward`` the reward is zero. The bounds of
    the spec are the recorded range, widened by its own width on both sides; the action is the desired state
    (``commands_state``) if its numbers have the names of the first numbers of the state. What is left out or decided
    is logged. Raises ``WtlError`` naming what is missing or broken.

    Of the cameras those named in ``images`` ("observation.images.front") are read, as they are called without
    "observation.": images of RGB, PNG or JPEG, or videos, for which the extra ``sim`` is needed.

    With ``like`` (``learner.spec``) the episodes are such as that learner can be shown: of a recording at a whole
    multiple of its rate every so many steps are kept; another rate, or other numbers, are refused.
    """
    found = _foreign(find_dataset(path), columns, suite, skip_bad=False, images=images)
    for note in found.notes:
        _log.warning(note)
    return (found.spec, found.episodes) if like is None else _fitted(found, like)


def _fitted(found: Dataset, like: Spec) -> tuple[Spec, list[Episode]]:
    """The episodes at the rate of ``like``; refused if there is none, or if they lack its numbers."""
    every, rest = divmod(found.spec.fps, like.fps)
    if rest:
        raise WtlError(
            f"{found.path} has {found.spec.fps} steps a second, which is no whole multiple of the {like.fps} wanted; "
            f"record at {like.fps} or a multiple of it"
        )
    have, wanted = (
        {"action": spec.action.names} | {f"observation.{name}": c.names for name, c in spec.numbers.items()}
        for spec in (found.spec, like)
    )
    for name, names in wanted.items():
        if have.get(name) != names:
            raise WtlError(f"{found.path}: {name} has the numbers {list(have.get(name, ()))}, not {list(names)}")
    episodes = [part(episode, slice(None, None, every)) for episode in found.episodes]
    return replace(found.spec, fps=like.fps, horizon=max(map(len, episodes))), episodes


def _foreign(root: Path, columns: Columns, suite: str, skip_bad: bool, images: Sequence[str]) -> Dataset:
    source = _describe(root, columns, suite, images)
    notes = list(source.notes)
    episodes: list[Episode] = []
    numbers: list[int] = []  # of the recorded episode that each one is, or is a part of
    for place, rows in groupby(source.rows, key=lambda row: row.place):
        relative = layout.fill(source.info.data_path, *place)
        try:
            for row, steps in _in_file(source, list(rows), relative):
                parts = _episodes(source, row, steps, root / relative)
                episodes += parts
                numbers += [row.number] * len(parts)
        except WtlError as error:
            if not skip_bad:
                raise
            notes.append(f"left out: {error}")
    if not episodes:
        raise WtlError("; ".join([f"{root} holds no episodes", *(notes[-1:] if skip_bad else [])]))
    divided = [str(number) for number, parts in Counter(numbers).items() if parts > 1]
    if divided:
        shown = ", ".join(divided[:SHOWN]) + (", ..." if len(divided) > SHOWN else "")
        notes.append(f"several tasks in episode {shown}: split where the task changes, with the outcome of the whole")
    spec = _spec(source, episodes)
    for number, episode in zip(numbers, episodes, strict=True):
        found = episode.problems(spec)
        if found:
            raise WtlError(f"{root}: episode {number}: {found[0]}")
    return Dataset(root, spec, episodes, "scene" in source.told, tuple(notes))


# --------------------------------------------------------------------------------------------------- contents


@dataclass(frozen=True)
class _EpisodeRow:
    """What ``meta/episodes`` says of an episode; ``told`` are its values in the columns that were asked for."""

    number: int
    length: int
    place: tuple[int, int]  # chunk and file of its steps
    told: Mapping[str, Any]


@dataclass(frozen=True)
class _Source:
    """A dataset before its steps are read; ``told``: role (success, kind, scene) -> the column that tells it."""

    root: Path
    info: Info
    channels: Mapping[str, tuple[str, ...]]
    cameras: Reader
    tasks: Mapping[int, Task]
    rows: Sequence[_EpisodeRow]
    told: Mapping[str, str]
    notes: Sequence[str]


def _describe(root: Path, columns: Columns, suite: str, images: Sequence[str]) -> _Source:
    info = read_info(root)
    cameras = chosen_cameras(info.features, images, root / layout.INFO)
    channels, notes = vectors(info.features, root / layout.INFO, cameras)
    given = {f.name: str(getattr(columns, f.name)) for f in fields(columns)}
    wanted = {role: (name,) if name else _KNOWN[role] for role, name in given.items() if name != _NONE}
    asked = {name for names in wanted.values() for name in names} | columns_of_videos(info.features, cameras)
    rows, of_episodes = _episode_rows(root, asked)
    known = [*info.features, *of_episodes]
    told: dict[str, str] = {}
    for role, names in wanted.items():
        found = [name for name in names if name in known]
        if given[role] and not found:
            raise WtlError(f"{root} has no column {given[role]!r} for columns.{role}; {suggestion(given[role], known)}")
        told |= {role: found[0]} if found else {}
    steps = sum(row.length for row in rows)
    size = steps * (4 * (1 + sum(map(len, channels.values()))) + sum(camera.size for camera in cameras.values()))
    if size > MEMORY_LIMIT:
        limit = MEMORY_LIMIT / 1e9
        raise WtlError(f"{root}: {steps} steps would take {size / 1e9:.1f} GB of memory, more than {limit:.1f} GB")
    return _Source(root, info, channels, Reader(root, info, cameras), _tasks(root, suite), rows, told, notes)


def _table(root: Path, relative: str, columns: Collection[str] | None = None) -> pa.Table:
    content = read_bytes(file_in(root, relative))
    return decode(content, root / relative, None if columns is None else list(columns))


def _episode_rows(root: Path, wanted: Collection[str]) -> tuple[list[_EpisodeRow], set[str]]:
    """Every episode in order, and which of the ``wanted`` columns all their files have."""
    rows: list[_EpisodeRow] = []
    have = set(wanted)
    for path in sorted((root / "meta/episodes").glob("*/*.parquet")):
        table = _table(root, str(path.relative_to(root)), {*_META, *wanted})
        numbers, lengths, chunks, files = (whole_numbers(table, name, path) for name in _META)
        have &= set(table.column_names)
        told = {name: plain_values(table, name, path) for name in sorted(have)}
        for i, number in enumerate(numbers):
            of_row = {name: values[i] for name, values in told.items()}
            rows.append(_EpisodeRow(number, max(0, lengths[i]), (chunks[i], files[i]), of_row))
    rows.sort(key=lambda row: row.number)
    for row, following in pairwise(rows):
        if row.number == following.number:
            raise WtlError(f"{root}/meta/episodes lists episode {row.number} twice")
    return rows, have


def _tasks(root: Path, suite: str) -> dict[int, Task]:
    """LeRobot's tasks by number. pandas keeps the sentence as the index, named "task" or not at all."""
    path = root / layout.TASKS
    if not path.exists():
        return {0: _task("", suite)}
    table = _table(root, layout.TASKS)
    names = [name for name in ("task", "__index_level_0__") if name in table.column_names]
    if not names:
        raise WtlError(f"{path} has no column 'task'")
    pairs = zip(whole_numbers(table, "task_index", path), texts(table, names[0], path), strict=True)
    return {number: _task(sentence, suite) for number, sentence in pairs}


def _task(sentence: str, suite: str) -> Task:
    """The task of a sentence: the same one in every dataset that has the sentence."""
    slug = re.sub(r"\W+", "-", sentence.lower()).strip("-")[:60] or "task"
    return Task(suite, suite, f"{slug}-{hashlib.sha256(sentence.encode()).hexdigest()[:6]}", "train", sentence)


def _in_file(source: _Source, rows: Sequence[_EpisodeRow], relative: str) -> Iterator[tuple[_EpisodeRow, pa.Table]]:
    """The steps of each of ``rows``, in order; a file may hold many episodes."""
    columns = {
        *source.channels,
        *source.cameras.cameras,
        "next.reward",
        "episode_index",
        "frame_index",
        "task_index",
        *source.told.values(),
    }
    path = source.root / relative
    table = _table(source.root, relative, columns)
    owner, frame = (np.array(whole_numbers(table, name, path), int) for name in ("episode_index", "frame_index"))
    order = np.lexsort((frame, owner))
    owner, frame = owner[order], frame[order]
    for row in rows:
        begin, end = (int(np.searchsorted(owner, row.number, side)) for side in ("left", "right"))
        if end - begin != row.length or row.length == 0:
            raise WtlError(f"{path}: episode {row.number} has {end - begin} rows, expected {row.length}")
        if (np.diff(frame[begin:end]) != 1).any():
            raise WtlError(f"{path}: frame_index does not count the rows of episode {row.number}")
        yield row, table.take(pa.array(order[begin:end]))


def _episodes(source: _Source, row: _EpisodeRow, steps: pa.Table, path: Path) -> list[Episode]:
    """The episode of ``row``; or if its task changes, an episode for every stretch of one task."""
    values = {name: _vector(steps, name, len(names), path) for name, names in source.channels.items()}
    seen = {name: source.cameras.read(name, steps, row.told, row.number, path) for name in source.cameras.cameras}
    reward = np.zeros(row.length, np.float32)
    if "next.reward" in steps.column_names:
        reward = _vector(steps, "next.reward", 1, path)[:, 0]
    told = {role: _told(row, steps, column, path) for role, column in source.told.items()}
    where = f"{source.root}: episode {row.number}"
    success = [_yes(value, f"{where}: its success") for value in told.get("success", [True])]
    kind = [_yes(value, f"{where}: its kind") for value in told.get("kind", [False])[:1]]
    whole = Episode(
        task=_task("", ""),  # replaced below
        kind="trial" if kind[0] else "demo",
        seed=_scene(told["scene"][0]) if "scene" in told else row.number,
        observation={n.removeprefix("observation."): v for n, v in {**values, **seen}.items() if n != "action"},
        action=values["action"],
        reward=reward,
        success=any(success),
    )
    number = np.zeros(row.length, int)
    if "task_index" in steps.column_names:
        number = np.array(whole_numbers(steps, "task_index", path), int)
    unknown = set(number.tolist()) - source.tasks.keys()
    if unknown:
        raise WtlError(f"{path}: task_index {min(unknown)} is not in {layout.TASKS}")
    ends = [*(np.flatnonzero(np.diff(number)) + 1).tolist(), row.length]
    return [replace(part(whole, slice(b, e)), task=source.tasks[int(number[b])]) for b, e in pairwise([0, *ends])]


def part(episode: Episode, steps: slice) -> Episode:
    """The episode at ``steps`` alone."""
    ends = steps.stop in (None, len(episode))
    return replace(
        episode,
        final=episode.final if ends else {},
        observation={name: values[steps] for name, values in episode.observation.items()},
        action=episode.action[steps],
        reward=episode.reward[steps],
        executed=None if episode.executed is None else episode.executed[steps],
    )


def _spec(source: _Source, episodes: Sequence[Episode]) -> Spec:
    names, cameras = source.channels, source.cameras.cameras
    state, action = names[f"observation.{STATE}"], names["action"]
    observation: dict[str, Channel | ImageChannel] = {}
    for name in episodes[0].observation:
        column = f"observation.{name}"
        seen = [episode.observation[name] for episode in episodes]
        observation[name] = cameras[column] if column in cameras else _bounded(names[column], seen)
    return Spec(
        fps=int(source.info.fps),
        horizon=max(map(len, episodes)),
        observation=observation,
        action=_bounded(action, [episode.action for episode in episodes]),
        commands_state=action == state[: len(action)],
    )


def _bounded(names: tuple[str, ...], parts: Sequence[Float[np.ndarray, "_ size"]]) -> Channel:
    values = np.concatenate(parts).astype(np.float64)
    values = np.where(np.isfinite(values), values, 0.0)  # reported later, by episode and step
    low, high = values.min(axis=0), values.max(axis=0)
    width = np.maximum(high - low, 1e-3)
    return Channel(names, tuple((low - width).tolist()), tuple((high + width).tolist()))


# ----------------------------------------------------------------------------------------------------- values


def _vector(table: pa.Table, name: str, size: int, path: Path) -> Float[np.ndarray, "step size"]:
    values = matrix(table, name, path)
    if values.shape[1] != size:
        raise WtlError(f"{path}: {name} has {values.shape[1]} numbers, info.json says {size}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused later, by episode and step
        return values.astype(np.float32)


def _told(row: _EpisodeRow, steps: pa.Table, column: str, path: Path) -> list[Any]:
    """What a column says of an episode: its own value, or one for each step."""
    return [row.told[column]] if column in row.told else plain_values(steps, column, path)


def _yes(value: Any, where: str) -> bool:
    word = str(value).lower()
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    if word not in _YES | _NO:
        raise WtlError(f"{where} is {value!r}, neither a yes nor a no ({', '.join(sorted(_YES | _NO))}, 0 or 1)")
    return word in _YES


def _scene(value: Any) -> int:
    """The number of a scene; other values than whole numbers get one of their own."""
    if isinstance(value, int | float) and value == int(value) and abs(value) < 2**63:
        return int(value)
    return int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:7])
