"""What the pages of a Parquet file claim to hold, before any is unpacked.

The metadata at the end of a file say how much each column holds, and a reader judges by them whether it has the memory
for it. The pages say so again, for themselves, and pyarrow believes the pages. So both must agree.
"""

from __future__ import annotations

from typing import Any

from watchtrylearn.types import WtlError

_DEPTH = 4  # structures within structures: page headers have three
_STOP, _TRUTHS, _BYTE, _INTEGERS, _DOUBLE, _BYTES, _STRUCT = 0, (1, 2), 3, (4, 5, 6), 7, 8, 12  # Thrift, compact
_UNPACKED, _PACKED = (2,), (3,)  # sizes in a page header
_VALUES = ((5, 1), (8, 1))  # how many values a data page has, in its two versions


def require_honest(content: bytes, chunk: Any, where: str) -> None:
    """Refuses a column chunk whose pages hold more values or bytes than its metadata (``chunk``) say.

    Raises ``WtlError``, also for headers that are not in Parquet's format.
    """
    offsets = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
    at = min(offset for offset in offsets if offset > 0 or offset == offsets[0])
    end, values, size = at + chunk.total_compressed_size, chunk.num_values, chunk.total_uncompressed_size
    if not chunk.num_values:  # then no page is read
        return
    if not 0 < at <= end <= len(content):
        raise WtlError(f"{where}: its pages are not in the file")
    while at < end:
        try:
            header, begin = _integers(content, at)
            claimed = sum(header.get(place, 0) for place in _VALUES)
            unpacked, packed = header[_UNPACKED], header[_PACKED]
        except (IndexError, KeyError, ValueError) as error:
            raise WtlError(f"{where}: a page has no readable header") from error
        values, size, at = values - claimed, size - unpacked, begin + packed
        if min(claimed, unpacked, packed, values, size) < 0:
            raise WtlError(f"{where}: its pages claim to hold more than the file says")


def _integers(content: bytes, at: int) -> tuple[dict[tuple[int, ...], int], int]:
    """The integers in the structure that begins at ``at``, by the numbers of the fields they are in; and its end."""
    found: dict[tuple[int, ...], int] = {}
    place = [0]  # the field at hand, of every structure that is open
    while place:
        step, kind = divmod(content[at], 16)
        at += 1
        if kind == _STOP:
            place.pop()
            continue
        if not step:
            raise ValueError("page headers have no numbers of fields that need more room")
        place[-1] += step
        if kind in _INTEGERS or kind == _BYTES:
            value = shift = 0
            more = True
            while more:
                value |= (content[at] & 127) << shift
                more, at, shift = content[at] > 127, at + 1, shift + 7
                if shift > 70:
                    raise ValueError("no integer is that long")
            if kind == _BYTES:
                at += value
            else:
                found[tuple(place)] = (value >> 1) ^ -(value & 1)
        elif kind == _STRUCT and len(place) < _DEPTH:
            place.append(0)
        elif kind in (_BYTE, _DOUBLE):
            at += 1 if kind == _BYTE else 8
        elif kind not in _TRUTHS:
            raise ValueError("page headers have nothing of that type")
    return found, at
