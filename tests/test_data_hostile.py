"""A dataset folder in which anything may be anything: the right data, or one sentence and exit status 2."""

import contextlib
import io
import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from data_episodes import SEEN, SPEC, make_episode, same
from watchtrylearn import cli
from watchtrylearn.data import layout, parquet
from watchtrylearn.data.layout import Checksum
from watchtrylearn.data.lerobot_info import read_info, vectors
from watchtrylearn.data.pages import require_honest
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.data.verify import verify
from watchtrylearn.types import WtlError

EPISODES = [make_episode(i, spec=SEEN, final=True) for i in range(4)]
DATA, ROWS, LAST, SUMS = (
    layout.numbered(t, 1) for t in (layout.DATA_PATH, layout.EPISODES_PATH, layout.FINAL_PATH, layout.CHECKSUM_PATH)
)
JSON = [layout.HEADER, layout.INFO, layout.STATS, SUMS]
PARQUET = [DATA, ROWS, LAST, layout.TASKS]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "sound"
    with EpisodeStore.create(path, SEEN, suite="test") as store:
        store.append(EPISODES[:2])
        store.append(EPISODES[2:])
    return path


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "dataset")
    return tmp_path / "dataset"


def vouch(path: Path) -> None:
    """Checksums that are right, as one who wants to be believed writes them."""
    names = {"data": DATA, "episodes": ROWS, "final": LAST}
    sums = {key: vars(Checksum.of((path / name).read_bytes())) for key, name in names.items() if (path / name).exists()}
    (path / SUMS).write_text(json.dumps(sums))


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
    for skip_bad, *arguments in [
        (True, "verify"),
        (False, "inspect"),
        (False, "verify", "--rebuild"),
        (True, "inspect"),
    ]:
        try:
            store = EpisodeStore.open(path, skip_bad=skip_bad)
            found = {record.index: store.read([record.index]) for record in store.records}
            store.digest()
        except WtlError as error:
            assert "\n" not in str(error)
            found = {}
        for number, episodes in found.items():
            assert not honest or all(same(episode, EPISODES[number]) for episode in episodes)
            assert not any(episode.problems(SEEN) for episode in episodes if not episode.diverged)
        status, said = wtl(arguments[0], str(path), *arguments[1:])
        assert status in (0, 2), arguments
        assert not said or (said.startswith("wtl: ") and said.count("\n") == 1), said
        ends.append(str(status))
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
@settings(
    max_examples=int(os.environ.get("WTL_FUZZ", "8")), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_of_any_kind_ends_in_a_sentence(sound: Path, damage: str, data: st.DataObject) -> None:
    spoil, names = DAMAGES[damage]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset"
        shutil.copytree(sound, path)
        name = data.draw(st.sampled_from(names))
        spoil(data.draw, path / name)
        vouched = data.draw(st.booleans())
        if vouched:
            with contextlib.suppress(OSError):
                vouch(path)
        event(f"{name}: {look_at(path, honest=not vouched)}")


# ------------------------------------------------------------------------------------------------- named cases


@pytest.mark.parametrize(
    "name", ["meta", "data", "meta/episodes", "meta/checksums", "data/chunk-000", layout.HEADER, DATA]
)
@pytest.mark.parametrize("dangling", [False, True])
def test_links_are_not_followed(dataset: Path, tmp_path: Path, name: str, dangling: bool) -> None:
    outside = tmp_path / "outside"
    (dataset / name).rename(outside)
    before = {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()}
    (dataset / name).symlink_to("nowhere" if dangling else outside)
    assert wtl("verify", str(dataset))[0] == 2
    assert wtl("inspect", str(dataset))[0] in (0, 2)
    assert wtl("verify", str(dataset), "--rebuild")[0] == 2
    with contextlib.suppress(WtlError):
        EpisodeStore.open_or_create(dataset, SEEN).append([make_episode(9, spec=SEEN)])
    assert {file: file.read_bytes() for file in outside.rglob("*") if file.is_file()} == before
    assert not (dataset / "nowhere").exists()


def test_nothing_is_put_aside_through_a_link(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (dataset / layout.QUARANTINE).symlink_to(tmp_path / "outside")
    orphan = dataset / layout.numbered(layout.DATA_PATH, 2)
    orphan.write_bytes(b"half a file")
    with pytest.raises(WtlError, match="quarantine is a symbolic link"):
        EpisodeStore.open(dataset).append([make_episode(9, spec=SEEN)])
    assert orphan.exists()
    assert not list((tmp_path / "outside").iterdir())


def test_a_derived_file_that_is_a_link_is_not_written_through(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (dataset / layout.INFO).unlink()
    (dataset / layout.INFO).symlink_to(tmp_path / "precious")
    assert len(EpisodeStore.open(dataset).read()) == 4
    wtl("verify", str(dataset), "--rebuild")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def unfolding(rows: int, names: dict[str, pa.DataType], text: str = "") -> pa.Table:
    """A table of one row, again and again."""
    columns = {}
    for name, kind in names.items():
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else 1
        if kind == pa.string():
            columns[name] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
            continue
        flat = pa.array(np.zeros(rows * size), kind if size == 1 else kind.value_type)
        columns[name] = flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)
    return pa.table(columns)


def test_a_small_file_that_unfolds_to_gigabytes_is_refused(dataset: Path) -> None:
    names = {name: pa.float32() for name in ("next.reward", "timestamp")}
    pq.write_table(unfolding(2**25, names), dataset / DATA, row_group_size=2**25)
    assert (dataset / DATA).stat().st_size < 2**18
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(WtlError, match=r"has no column 'observation.state'"):
        parquet.decode_as(
            (dataset / DATA).read_bytes(), dataset / DATA, pa.schema([("observation.state", pa.float32())])
        )
    with pytest.raises(WtlError, match=rf"refusing to read .* claim to hold {2**28}"):
        parquet.decode_as((dataset / DATA).read_bytes(), dataset / DATA, pa.schema(list(names.items())))
    vouch(dataset)
    assert wtl("inspect", str(dataset))[0] == 0
    assert wtl("verify", str(dataset))[0] == 2
    assert pa.default_memory_pool().max_memory() == before


def test_a_text_that_is_repeated_takes_its_memory_once(tmp_path: Path) -> None:
    path, names = tmp_path / "texts.parquet", {"task_json": pa.string()}
    pq.write_table(unfolding(100_000, names, text="x" * 2**20), path)
    assert path.stat().st_size < 2**18
    before = pa.default_memory_pool().bytes_allocated()
    table = parquet.decode_as(path.read_bytes(), path, pa.schema(list(names.items())))
    assert pa.default_memory_pool().bytes_allocated() - before < 2**23
    assert len(set(map(id, parquet.texts(table, "task_json", path)))) == 1


def test_pages_that_claim_more_than_the_file_says_are_refused(dataset: Path) -> None:
    content = (dataset / ROWS).read_bytes()
    group = pq.read_metadata(dataset / ROWS).row_group(0)
    told = (
        "num_values",
        "total_uncompressed_size",
        "total_compressed_size",
        "data_page_offset",
        "dictionary_page_offset",
    )
    for place in range(group.num_columns):
        chunk = {name: getattr(group.column(place), name) for name in told}
        require_honest(content, SimpleNamespace(**chunk), "rows")
        for name, few in [("num_values", chunk["num_values"] - 1), ("total_uncompressed_size", 1)]:
            with pytest.raises(WtlError, match=r"^rows: its pages claim to hold more than the file says"):
                require_honest(content, SimpleNamespace(**{**chunk, name: few}), "rows")
        for wrong in ({"data_page_offset": -1}, {"total_compressed_size": 2**40}):
            with pytest.raises(WtlError, match="pages are not in the file"):
                require_honest(content, SimpleNamespace(**{**chunk, **wrong}), "rows")
        with contextlib.suppress(WtlError):
            require_honest(bytes(len(content)), SimpleNamespace(**chunk), "rows")
            raise AssertionError("zeros are no header")


@pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli"])
def test_other_compressions_are_refused(dataset: Path, compression: str) -> None:
    pq.write_table(pq.read_table(dataset / DATA), dataset / DATA, compression=compression)
    vouch(dataset)
    with pytest.raises(WtlError, match=f"compressed with {compression.upper()}"):
        EpisodeStore.open(dataset).read()


def test_numbers_of_files_are_no_ranges(dataset: Path) -> None:
    far = dataset / layout.numbered(layout.EPISODES_PATH, 999_999_999_999)
    far.parent.mkdir()
    shutil.copy(dataset / ROWS, far)
    (far.parent.with_name("chunk-0000")).mkdir()
    shutil.copy(dataset / ROWS, far.parent.with_name("chunk-0000") / "file-001.parquet")
    assert wtl("verify", str(dataset))[0] == 2
    store = EpisodeStore.open(dataset, skip_bad=True)
    assert "nor the 999999999996 after it" in store.skipped[0]
    assert len(store) == 4


def test_a_big_json_file_is_not_built(dataset: Path) -> None:
    (dataset / layout.INFO).write_bytes(b"[" + b"[]," * 2**23 + b"0]")
    (dataset / SUMS).write_bytes(b'{"data": [' + b"[]," * 2**23 + b"0]}")
    with pytest.raises(WtlError, match=rf"refusing to read .*: {(dataset / SUMS).stat().st_size} bytes, more than"):
        EpisodeStore.open(dataset)
    assert len(EpisodeStore.open(dataset, skip_bad=True)) == 2


def test_what_a_description_calls_names_is_bounded(dataset: Path) -> None:
    info = json.loads((dataset / layout.INFO).read_text())
    info["features"]["action"]["names"] = "PLACE"
    for names, fits in (("[" + "[]," * 2**20 + "0]", True), ("[" + "[]," * 2**21 + "0]", False)):
        (dataset / layout.INFO).write_text(json.dumps(info).replace('"PLACE"', names))
        tracemalloc.start()
        if fits:
            assert vectors(read_info(dataset).features, dataset)[0]["action"] == ("action_0", "action_1")
        else:
            with pytest.raises(WtlError, match=r"refusing to read .*info\.json: \d+ bytes, more than"):
                read_info(dataset)
        assert tracemalloc.get_traced_memory()[1] < 2**25
        tracemalloc.stop()


@pytest.mark.parametrize(("name", "wrong"), [("next.done", pa.int64()), ("action", pa.list_(pa.float32(), 3))])
def test_skip_bad_goes_on_after_a_wrong_type(dataset: Path, name: str, wrong: pa.DataType) -> None:
    table = pq.read_table(dataset / DATA)
    place = table.column_names.index(name)
    zeros = unfolding(table.num_rows, {name: wrong}).column(0)
    pq.write_table(table.set_column(place, name, zeros), dataset / DATA)
    vouch(dataset)
    with pytest.raises(WtlError, match=rf"file-001\.parquet: {name} holds .*, expected"):
        EpisodeStore.open(dataset).read()
    store = EpisodeStore.open(dataset, skip_bad=True)
    assert all(same(a, b) for a, b in zip(store.read(), EPISODES[:2], strict=True))
    assert len(store.skipped) == 1


def test_datasets_of_version_0_1_are_read(tmp_path: Path) -> None:
    """They have no column ``terminated``, another name for executed actions, and averaged quantiles."""
    dataset, episodes = tmp_path / "dataset", [make_episode(i) for i in range(4)]
    with EpisodeStore.create(dataset, SPEC, suite="test") as store:
        store.append(episodes[:2])
        store.append(episodes[2:])
    pq.write_table(pq.read_table(dataset / ROWS).drop_columns(["terminated"]), dataset / ROWS)
    vouch(dataset)
    header = json.loads((dataset / layout.HEADER).read_text())
    del header["executed_column"]
    (dataset / layout.HEADER).write_text(json.dumps(header))
    found = EpisodeStore.open(dataset, SPEC).read()
    assert all(same(replace(a, terminated=b.terminated), b) for a, b in zip(found, episodes, strict=True))
    stats = json.loads((dataset / layout.STATS).read_text())
    stats["action"]["q99"][0] -= 0.01
    (dataset / layout.STATS).write_text(json.dumps(stats))
    assert ["--rebuild puts them right" in str(problem) for problem in verify(dataset)] == [True]
    assert wtl("verify", str(dataset), "--rebuild") == (0, "")


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(dataset: Path) -> None:
    shutil.rmtree(dataset / "meta/episodes")
    (dataset / "meta/episodes").write_bytes(b"")
    with pytest.raises(WtlError, match=r"cannot read .*meta/episodes: Not a directory"):
        EpisodeStore.open(dataset)
