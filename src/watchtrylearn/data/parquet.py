"""Parquet to and from bytes and NumPy, bounded: a crafted or broken file is refused, by name."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from watchtrylearn.files import read_bytes
from watchtrylearn.types import WtlError

FILE_LIMIT = 2 * 2**30  # bytes on disk
VALUE_LIMIT = 2**29  # values in memory (4 GiB as doubles): a tiny file can claim any number of them
_THRIFT_LIMIT = 100 * 2**20


def encode(table: pa.Table) -> bytes:
    """The complete Parquet file of ``table``, to be written atomically."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="snappy")
    return buffer.getvalue()


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file; whatever is wrong with it is a ``WtlError`` that names it."""
    return decode(read_bytes(path, FILE_LIMIT), path, columns)


def decode(content: bytes, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file that came from ``path``; absent columns are left out."""
    try:
        with pq.ParquetFile(
            pa.BufferReader(content),
            thrift_string_size_limit=_THRIFT_LIMIT,
            thrift_container_size_limit=_THRIFT_LIMIT,
        ) as file:
            if columns is not None:
                columns = [name for name in file.schema_arrow.names if name in set(columns)]
            _bound(file.metadata, path)
            table = file.read(columns=columns)
            table.validate(full=True)
            return table
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WtlError(f"{path} is not a readable Parquet file: {cause}") from error


def _bound(metadata: Any, path: Path) -> None:
    values = size = 0
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            values += max(chunk.num_values, metadata.row_group(group).num_rows)
            size += chunk.total_uncompressed_size
    if values > VALUE_LIMIT or size > FILE_LIMIT * 2:
        raise WtlError(f"refusing to read {path}: it claims {values} values in {size} bytes")


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
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return values.reshape(rows, -1) if rows else values.reshape(0, 1)


def _require_equal_lengths(column: pa.Array, name: str, path: Path) -> None:
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) > 1:
        raise WtlError(f"{path}: {name} has rows of {lengths[0]} and of {lengths[-1]} numbers")


def scalars(table: pa.Table, name: str, path: Path) -> Shaped[np.ndarray, "row"]:
    """A column of one number per row."""
    values = matrix(table, name, path)
    if values.shape[1] != 1:
        raise WtlError(f"{path}: {name} has {values.shape[1]} numbers per row, expected 1")
    return values[:, 0]


def texts(table: pa.Table, name: str, path: Path) -> list[str]:
    """A column of strings."""
    if name not in table.column_names:
        raise WtlError(f"{path} has no column {name!r}")
    values: list[str] = table.column(name).to_pylist()
    if not all(isinstance(value, str) for value in values):
        raise WtlError(f"{path}: {name} must hold a text in every row")
    return values
