"""A dataset folder in which anything may be anything: the right data, or one sentence and exit status 2."""

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from data_episodes import SPEC, make_episode, same
from watchtrylearn import cli
from watchtrylearn.data import layout
from watchtrylearn.data.layout import Checksum
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.types import WtlError

EPISODES = [make_episode(i) for i in range(4)]
DATA, ROWS, SUMS = (layout.numbered(t, 1) for t in (layout.DATA_PATH, layout.EPISODES_PATH, layout.CHECKSUM_PATH))
JSON = [layout.HEADER, layout.INFO, layout.STATS, SUMS]
PARQUET = [DATA, ROWS, layout.TASKS]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "sound"
    with EpisodeStore.create(path, SPEC, suite="test") as store:
        store.append(EPISODES[:2])
        store.append(EPISODES[2:])
    return path


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "dataset")
    return tmp_path / "dataset"


def vouch(path: Path) -> None:
    """Checksums that are right, as one who wants to be believed writes them."""
    sums = [vars(Checksum.of((path / name).read_bytes())) for name in (DATA, ROWS)]
    (path / SUMS).write_text(json.dumps(dict(zip(("data", "episodes"), sums, strict=True))))


def wtl(*arguments: str) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = cli.main(["data", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    return status, said.getvalue()


def look_at(path: Path, honest: bool) -> str:
    """Every way of reading the dataset ends in one of two ways; ``honest``: wrong data would be noticed."""
    ends = []
    for arguments in (["inspect"], ["verify"], ["verify", "--rebuild"]):
        status, said = wtl(arguments[0], str(path), *arguments[1:])
        assert status in (0, 2), arguments
        assert not said or (said.startswith("wtl: ") and said.count("\n") == 1), said
        ends.append(str(status))
        for skip_bad in (False, True):
            try:
                store = EpisodeStore.open(path, skip_bad=skip_bad)
                found = {record.index: store.read([record.index]) for record in store.records}
                store.digest()
            except WtlError as error:
                assert "\n" not in str(error)
                continue
            for number, episodes in found.items():
                assert not honest or all(same(episode, EPISODES[number]) for episode in episodes)
                assert not any(episode.problems(SPEC) for episode in episodes if not episode.diverged)
    return " ".join(ends)


# ------------------------------------------------------------------------------------------ any byte, value, type

numbers = [-1, 0, 1, 2, 7, 2**31, 2**63 - 1, -(2**63), 2**70, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")]
values = st.sampled_from(
    [*numbers, None, True, "", "x", "inf", "\ud800", "y" * 5000, [], [[]], {}, {"a": {}}, [1, "b"]]
)


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """The paths to everything in a JSON value."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        yield from places(entry, (*at, key))


def damage_json(draw: st.DrawFn, path: Path) -> None:
    value = [json.loads(path.read_text())]
    *way, last = (0, *draw(st.sampled_from(list(places(value[0])))))
    node: Any = value
    for key in way:
        node = node[key]
    kind = draw(st.sampled_from(["replace", "remove", "add"]))
    if kind == "remove" and way:
        del node[last]
    elif kind == "add" and isinstance(node[last], dict):
        node[last][draw(st.sampled_from(["x", "", "schema", "data"]))] = draw(values)
    else:
        node[last] = draw(values)
    text = json.dumps(value[0] if value else None)
    if draw(st.booleans()):
        text = text.replace('"', '"\\u0000', 1)
    path.write_text(text)


TYPES = [
    pa.int8(),
    pa.int32(),
    pa.uint64(),
    pa.float16(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
    pa.binary(),
    pa.null(),
]
TYPES += [pa.date32(), pa.decimal128(9, 2), pa.list_(pa.float32()), pa.list_(pa.list_(pa.int64())), pa.large_string()]
cells = [
    -1,
    0,
    1,
    3,
    2**31,
    2**62,
    2**63 - 1,
    -(2**63),
    0.5,
    1e30,
    float("nan"),
    float("inf"),
    None,
    True,
    "",
    "evil",
    "{}",
]
cells += [
    "[1]",
    '{"a": 1e999}',
    '{"a": "x"}',
    "[" * 5000,
    [],
    [0.0],
    [1.0, 2.0],
    [None, None],
    [float("nan")] * 3,
    b"\xff",
]


def damage_table(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    place = draw(st.integers(0, table.num_columns - 1))
    field, column = table.schema.field(place), table.column(place)
    kind = draw(st.sampled_from(["cell", "cast", "drop", "twice", "rows", "none", "rename", "all"]))
    if kind == "drop":
        return table.remove_column(place)
    if kind == "twice":
        return table.append_column(field, column)
    if kind == "rows":
        return table.take(pa.array(draw(st.lists(st.integers(0, table.num_rows - 1), max_size=8)), pa.int64()))
    if kind == "none":
        return table.slice(0, 0)
    if kind == "rename":
        return table.rename_columns([*table.column_names[:place], "x", *table.column_names[place + 1 :]])
    other = field.type
    if kind in ("cell", "all"):
        cell, changed = draw(st.sampled_from(cells)), column.to_pylist()
        for row in range(len(changed)) if kind == "all" else [draw(st.integers(0, len(changed) - 1))]:
            changed[row] = cell
        with contextlib.suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
            return table.set_column(place, field, pa.array(changed, other))
    with contextlib.suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
        other = draw(st.sampled_from(TYPES))
        return table.set_column(place, field.name, pa.array(column.to_pylist(), other))
    return table.set_column(place, field.name, pa.nulls(table.num_rows, other))


def damage_parquet(draw: st.DrawFn, path: Path) -> None:
    table = damage_table(draw, pq.read_table(path))
    compression = draw(st.sampled_from(["snappy", "none", "zstd"]))
    pq.write_table(table, path, compression=compression, store_schema=draw(st.booleans()))


def damage_bytes(draw: st.DrawFn, path: Path) -> None:
    content = bytearray(path.read_bytes())
    kind, at = draw(st.sampled_from(["flip", "cut", "insert", "zero", "byte"])), draw(st.integers(0, len(content) - 1))
    if draw(st.booleans()):  # in a Parquet file, that is where most can go wrong
        at = len(content) - 1 - at % min(len(content), 4000)
    if kind == "flip":
        content[at] ^= 1 << draw(st.integers(0, 7))
    elif kind == "byte":
        content[at] = draw(st.integers(0, 255))
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = draw(st.binary(min_size=1, max_size=20))
    else:
        content[at : at + 16] = bytes(16)
    path.write_bytes(content)


def damage_kind(draw: st.DrawFn, path: Path) -> None:
    """Something else of that name, or of the name of a folder above it."""
    for _ in range(draw(st.integers(0, 2))):
        path = path.parent
    kind = draw(st.sampled_from(["gone", "folder", "link", "dangling", "fifo", "loop", "file"]))
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    makers: dict[str, Callable[[], object]] = {
        "gone": lambda: None,
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(elsewhere),
        "dangling": lambda: path.symlink_to("nothing"),
        "fifo": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
        "file": lambda: path.write_bytes(b"a file"),
    }
    makers[kind]()


DAMAGES: dict[str, tuple[Callable[[st.DrawFn, Path], None], list[str]]] = {
    "json": (damage_json, JSON),
    "parquet": (damage_parquet, PARQUET),
    "bytes": (damage_bytes, [*JSON, *PARQUET]),
    "kind": (damage_kind, [*JSON, *PARQUET]),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("vouched", [False, True])
@settings(
    max_examples=int(os.environ.get("WTL_FUZZ", "12")), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_of_any_kind_ends_in_a_sentence(sound: Path, damage: str, vouched: bool, data: st.DataObject) -> None:
    spoil, names = DAMAGES[damage]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset"
        shutil.copytree(sound, path)
        name = data.draw(st.sampled_from(names))
        spoil(data.draw, path / name)
        if vouched:
            with contextlib.suppress(OSError):
                vouch(path)
        event(f"{name}: {look_at(path, honest=not vouched)}")
