"""Parquet to and from bytes and NumPy, bounded: a crafted or broken file is refused, by name.

What a file claims to hold is compared with what it should hold, and with its size on the disk, before any column is
decoded.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from watchtrylearn.data.pages import require_honest
from watchtrylearn.system.files import FILE_LIMIT, read_bytes
from watchtrylearn.types import WtlError

# A repeated value costs next to nothing on the disk. Honest episodes shrink to a tenth; what claims to unfold to more
# than this is no recording.
FREE = 128 * 2**20  # bytes in memory, however small the file
UNFOLDING = 64  # bytes in memory per byte on the disk, beyond that
_CODECS = {"UNCOMPRESSED", "SNAPPY"}  # what this library writes, and what cannot unfold a lot
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
_THRIFT_LIMIT = 100 * 2**20
FILES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # image files, as LeRobot keeps them


def encode(table: pa.Table) -> bytes:
    """The complete Parquet file of ``table``, to be written atomically."""
    packed = [field.name for field in table.schema if field.type == FILES]  # and will not shrink again
    repeating: bool | list[str] = [name for name in table.column_names if name not in packed] if packed else True
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy", use_dictionary=repeating)
    return buffer.getvalue()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file of any origin; whatever is wrong with it is a ``WtlError`` that names it."""
    return decode(read_bytes(path), path, columns)


def decode(content: bytes, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file of any origin that came from ``path``; absent columns are left out."""
    return _decode(content, path, columns, None)


def decode_as(content: bytes, path: Path, schema: pa.Schema, later: Sequence[str] = ()) -> pa.Table:
    """The columns of ``schema`` in the bytes of one of this library's Parquet files, which came from ``path``.

    Those named in ``later`` came to the format later: an older file lacks them, and then so does the table.

    Texts come as dictionaries, which take no more memory than they do on the disk. Raises ``WtlError`` if the file
    is damaged, holds other columns or types, or unfolds to more than its size allows.
    """
    return _decode(content, path, schema.names, schema, later)


def _decode(
    content: bytes, path: Path, columns: Sequence[str] | None, schema: pa.Schema | None, later: Sequence[str] = ()
) -> pa.Table:
    texts = [] if schema is None else [field.name for field in schema if field.type == pa.string()]
    try:
        with pq.ParquetFile(
            pa.BufferReader(content),
            read_dictionary=texts,
            thrift_string_size_limit=_THRIFT_LIMIT,
            thrift_container_size_limit=_THRIFT_LIMIT,
        ) as file:
            _require_columns(file.schema_arrow, schema, later, path)
            _bound_groups(file.metadata, len(content), path)
            _probe(file)
            _bound(file.metadata, len(content), path, None if schema is None else _CODECS)
            if columns is not None:
                columns = [name for name in file.schema_arrow.names if name in set(columns)]
            _require_honest_pages(content, file.metadata, columns, path)
            table = file.read(columns=columns)
            table.validate(full=True)
            return table
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WtlError(f"{path} is not a readable Parquet file: {cause[:200]}") from error


def _require_columns(found: pa.Schema, wanted: pa.Schema | None, later: Sequence[str], path: Path) -> None:
    twice = [name for name, count in Counter(found.names).items() if count > 1]
    if twice:
        raise WtlError(f"{path} has the column {twice[0]!r} twice")
    for field in wanted or ():
        if field.name not in found.names:
            if field.name in later:
                continue
            raise WtlError(f"{path} has no column {field.name!r}")
        kind = found.field(field.name).type
        if not _same_type(kind, field.type):
            raise WtlError(f"{path}: {field.name} holds {str(kind)[:100]}, expected {field.type}")


def _same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal, whatever the elements of a list are called; a text may come as a dictionary."""
    if pa.types.is_dictionary(found):
        return bool(found.value_type == wanted)
    if pa.types.is_fixed_size_list(wanted) or pa.types.is_list(wanted):
        size = getattr(wanted, "list_size", None)
        lists = found.id == wanted.id and getattr(found, "list_size", None) == size
        return bool(lists and found.value_type == wanted.value_type)
    return bool(found == wanted)


def _bound_groups(metadata: Any, size: int, path: Path) -> None:
    """The part of ``_bound`` that needs no description of any column, and so comes before ``_probe``."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    _require_room(sum(group.total_byte_size for group in groups), size, path)
    _require_room(metadata.num_columns * max(metadata.num_rows, sum(group.num_rows for group in groups)), size, path)


def _require_room(memory: int, size: int, path: Path) -> None:
    if memory > min(FREE + UNFOLDING * size, 4 * FILE_LIMIT):
        raise WtlError(
            f"refusing to read {path}: its {size} bytes claim to hold {memory}; "
            "if it is honest, store fewer episodes at once"
        )


def _probe(file: pq.ParquetFile) -> None:
    """Reads a row of every row group. Of some damage to what a file says of its columns (their level histograms),
    pyarrow raises nothing when it is asked for the description, as ``_bound`` does, but ends the process."""
    for group in range(file.metadata.num_row_groups):
        next(file.iter_batches(batch_size=1, row_groups=[group]), None)


def _bound(metadata: Any, size: int, path: Path, codecs: set[str] | None) -> None:
    """Refuses a file that would take much more memory than disk, judging by what it says of itself."""
    memory = unfolded = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for place in range(metadata.num_columns):
            chunk = group.column(place)
            if codecs is not None and chunk.compression not in codecs:
                raise WtlError(f"refusing to read {path}: it is compressed with {chunk.compression}")
            if min(chunk.num_values, group.num_rows, chunk.total_uncompressed_size) < 0:
                raise WtlError(f"refusing to read {path}: it claims a negative size")
            memory += max(chunk.num_values, group.num_rows) * _WIDTHS.get(chunk.physical_type, 64)
            unfolded += chunk.total_uncompressed_size
    _require_room(max(memory, unfolded), size, path)


def _require_honest_pages(content: bytes, metadata: Any, columns: Sequence[str] | None, path: Path) -> None:
    wanted = None if columns is None else tuple(f"{name}." for name in columns)
    for number in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            chunk = metadata.row_group(number).column(place)
            if wanted is None or f"{chunk.path_in_schema}.".startswith(wanted):  # of a list, NAME.list.element
                require_honest(content, chunk, f"refusing to read {path}: {chunk.path_in_schema}")


# ------------------------------------------------------------------------------------------------- columns


def vectors(values: Shaped[np.ndarray, "row size"]) -> pa.Array:
    """Rows of numbers as a column: a fixed-size list each, or plain numbers if there is one per row."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def matrix(table: pa.Table, name: str, path: Path) -> Shaped[np.ndarray, "row size"]:
    """A column as rows of numbers, however it is stored: scalars, fixed-size lists or lists of one length."""
    if name not in table.column_names:
        raise WtlError(f"{path} has no column {name!r}")
    column = table.column(name).combine_chunks()
    rows = len(column)
    while not pa.types.is_primitive(column.type):
        if column.null_count:
            raise WtlError(f"{path}: {name} has no value in {column.null_count} rows")
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type):
            _require_equal_lengths(column, name, path)
            column = column.flatten()
        else:
            raise WtlError(f"{path}: {name} holds {column.type}, not numbers")
    if column.null_count:
        raise WtlError(f"{path}: {name} has {column.null_count} missing numbers")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise WtlError(f"{path}: {name} holds {column.type}, not numbers")
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    if rows and (len(values) == 0 or len(values) % rows):
        raise WtlError(f"{path}: {name} holds {len(values)} numbers in {rows} rows")
    return values.reshape(rows, -1) if rows else values.reshape(0, 1)


def _require_equal_lengths(column: pa.Array, name: str, path: Path) -> None:
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise WtlError(f"{path}: {name} has rows of {lengths[0]} and of {lengths[-1]} numbers")


def image_files(content: Sequence[bytes]) -> pa.Array:
    """Files as a column, one a row. Raises ``WtlError`` if together they are larger than a file may be."""
    size = sum(map(len, content))
    if size > FILE_LIMIT:
        raise WtlError(f"{size} bytes of images, more than {FILE_LIMIT} in one batch; store fewer episodes at once")
    return pa.StructArray.from_arrays(
        [pa.array(content, pa.binary()), pa.nulls(len(content), pa.string())], fields=list(FILES)
    )


def files(table: pa.Table, name: str, path: Path) -> Shaped[np.ndarray, "row 1"]:
    """The inverse of ``image_files``: the bytes of each file."""
    if name not in table.column_names:
        raise WtlError(f"{path} has no column {name!r}")
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
        raise WtlError(f"{path}: {name} holds {str(column.type)[:100]}, not image files")
    content = column.field("bytes")
    if not (pa.types.is_binary(content.type) or pa.types.is_large_binary(content.type)):
        raise WtlError(f"{path}: {name} holds {str(content.type)[:100]}, not the bytes of image files")
    if column.null_count or content.null_count:
        raise WtlError(f"{path}: {name} has no image in {column.null_count or content.null_count} rows")
    found: np.ndarray = content.to_numpy(zero_copy_only=False)
    return found[:, None]


def scalars(table: pa.Table, name: str, path: Path) -> Shaped[np.ndarray, "row"]:
    """A column of one number per row."""
    values = matrix(table, name, path)
    if values.shape[1] != 1:
        raise WtlError(f"{path}: {name} has {values.shape[1]} numbers per row, expected 1")
    return values[:, 0]


def whole_numbers(table: pa.Table, name: str, path: Path) -> list[int]:
    """A column of one whole number per row."""
    values = scalars(table, name, path)
    if values.dtype.kind not in "iu":
        raise WtlError(f"{path}: {name} holds {values.dtype}, not whole numbers")
    found: list[int] = values.tolist()
    return found


def texts(table: pa.Table, name: str, path: Path) -> list[str]:
    """A column of strings; equal ones are the same object."""
    if name not in table.column_names:
        raise WtlError(f"{path} has no column {name!r}")
    found: list[Any] = []
    try:
        for chunk in table.column(name).chunks:
            plain = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            known = [*plain.dictionary.to_pylist(), None]
            found += [known[-1 if i is None else i] for i in plain.indices.to_pylist()]
    except (pa.ArrowException, ValueError) as error:  # of a type that has no dictionary; bad UTF-8
        raise WtlError(f"{path}: {name} holds no texts: {error}") from error
    if not all(isinstance(value, str) for value in found):
        raise WtlError(f"{path}: {name} must hold a text in every row")
    return found


def plain_values(table: pa.Table, name: str, path: Path) -> list[Any]:
    """A column of plain values, one a row."""
    if pa.types.is_string(table.schema.field(name).type) or pa.types.is_large_string(table.schema.field(name).type):
        return list(texts(table, name, path))
    found: list[Any] = scalars(table, name, path).tolist()
    return found
