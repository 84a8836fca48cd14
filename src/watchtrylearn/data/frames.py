"""Camera images of datasets as training wants them: unpacked once, then read frame by frame in any order.

Images that fit are unpacked into memory whenever they are needed. Of more than that, a dataset gets a cache, for each
camera two files:

    DATASET/cache/CAMERA-DIGEST.frames   uint8, (frame, height, width, 3), nothing else: length + 1 frames an episode
    DATASET/cache/CAMERA-DIGEST.json     whose frames they are, and their checksum; its appearance commits them

The digest is the dataset's, so other data have other files, and those of the data before are deleted. Frames are read
by position rather than mapped into memory: as fast, but the process then holds no more than the batch it asked for
(the system keeps what it has room for), and a file that was cut off under a running training is an error, not the end
of the process.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import weakref
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Int, UInt8

from watchtrylearn.data.memory import NOTHING, EpisodeMemory
from watchtrylearn.data.store import EpisodeStore
from watchtrylearn.system.files import (
    contained,
    directory_lock,
    open_regular,
    read_typed,
    write_json,
    writing,
)
from watchtrylearn.types import ImageChannel, Spec, WtlError

CACHE = "cache"  # in the dataset's folder
IMAGES_IN_MEMORY = 2**30  # bytes
PATIENCE = 3600.0  # seconds to wait for another process that unpacks the same images
_AT_ONCE = 64  # episodes
_CHUNK = 2**24  # bytes read at once where all are read
_ADVISE = getattr(os, "posix_fadvise", None)

log = logging.getLogger(__name__)


def load_memory(
    stores: Sequence[EpisodeStore],
    spec: Spec,
    images_in_memory: int = IMAGES_IN_MEMORY,
    cache: str | Path | None = None,
) -> EpisodeMemory:
    """The episodes of all ``stores``, one after the other, to draw training batches from.

    ``spec`` says which channels are wanted; one without the stores' cameras leaves their images packed.
    Images of up to ``images_in_memory`` bytes (of all cameras and datasets together) are held in memory, more than that
    are read from a file as they are needed (see the module's text). The files are made if they are not there yet, and
    made anew if they are damaged; they are in each dataset's folder "cache" or, where that cannot be written, below
    the folder ``cache`` that is given. They may be deleted whenever nobody trains.
    """
    frames = sum(sum(_frame_counts(store).values()) for store in stores)
    if frames * sum(camera.size for camera in spec.images.values()) <= images_in_memory:
        memory = EpisodeMemory(spec)
        memory.reserve(frames)
        every = (episode for store in stores for episode in store.episodes(_frame_counts(store), bool(spec.images)))
        while some := list(islice(every, _AT_ONCE)):
            memory.append(some)
        return memory
    files = {name: [_frame_file(store, name, cache) for store in stores] for name in spec.images}
    kept = [
        sorted(set.intersection(*(set(files[name][i].episodes) for name in files))) for i in range(len(stores))
    ]  # all of them, or where damage is to be skipped, those of which every camera is whole
    episodes = [
        episode for store, numbers in zip(stores, kept, strict=True) for episode in store.read(numbers, images=False)
    ]
    return EpisodeMemory(spec, episodes, images={name: FramesOnDisk(files[name], kept) for name in files})


class FrameFile:
    """The unpacked images of one camera of one dataset, in a file.

    ``episodes`` tells the number of frames of every episode by its number in the dataset, in the order of the frames.
    """

    def __init__(self, path: Path, channel: ImageChannel, episodes: dict[int, int]) -> None:
        self.path, self.channel, self.episodes = path, channel, episodes
        self._handle = open_regular(path)
        weakref.finalize(self, os.close, self._handle)

    def __len__(self) -> int:
        return sum(self.episodes.values())

    def checksum(self) -> int:
        """CRC-32 of all frames; raises ``WtlError`` if there are more or fewer than there should be."""
        size = os.fstat(self._handle).st_size
        if size != len(self) * self.channel.size:
            raise WtlError(f"{self.path} is damaged: it has {size} bytes instead of {len(self) * self.channel.size}")
        found, part = 0, memoryview(bytearray(_CHUNK))
        for at in range(0, len(self) * self.channel.size, _CHUNK):
            found = zlib.crc32(part[: _read_at(self._handle, part, at)], found)
        return found

    def read(self, frames: Int[np.ndarray, "frame"], into: Sequence[memoryview]) -> None:
        """Reads each of ``frames`` into the place beside it. The system is told of all before the first is read, so
        that a disk can bring them in the order it likes."""
        size = self.channel.size
        offsets = (frames * size).tolist()
        if _ADVISE is not None:
            for offset in offsets:
                _ADVISE(self._handle, offset, size, os.POSIX_FADV_WILLNEED)
        for offset, place in zip(offsets, into, strict=True):
            if _read_at(self._handle, place, offset) != size:
                raise WtlError(
                    f"{self.path} is damaged: it ends before frame {offset // size}; delete it and try again"
                )


def _read_at(handle: int, into: memoryview, offset: int) -> int:
    """Fills ``into`` from there on; how many bytes there were."""
    if hasattr(os, "preadv"):
        return os.preadv(handle, [into], offset)
    os.lseek(handle, offset, os.SEEK_SET)
    found = os.read(handle, len(into))
    into[: len(found)] = found
    return len(found)


class FramesOnDisk:
    """Frames of one camera in the files of several datasets, of the episodes ``kept`` of each."""

    def __init__(self, files: Sequence[FrameFile], kept: Sequence[Sequence[int]]) -> None:
        self._files = files
        self._first = np.cumsum([0, *map(len, files)])  # frame of all files at which each begins
        self._at = np.concatenate([np.zeros(0, int), *map(_frames_of_episodes, files, self._first.tolist(), kept)])

    def take(self, places: Int[np.ndarray, "*batch"]) -> UInt8[np.ndarray, "*batch height width 3"]:
        shape = self._files[0].channel.shape
        images = np.empty((places.size, *shape), np.uint8)
        flat = places.ravel()
        images[flat == NOTHING] = 0
        wanted = np.flatnonzero(flat != NOTHING)
        frames = self._at[flat[wanted]]
        file = np.searchsorted(self._first, frames, side="right") - 1
        views = [image.data.cast("B") for image in images]
        for number in np.unique(file).tolist():
            mine = file == number
            into = [views[i] for i in wanted[mine].tolist()]
            self._files[number].read(frames[mine] - self._first[number], into)
        return images.reshape(*places.shape, *shape)

    @property
    def nbytes(self) -> int:
        """Of memory: a number for each frame. The frames themselves are in none."""
        return self._at.nbytes


def _frames_of_episodes(file: FrameFile, first: int, kept: Sequence[int]) -> Int[np.ndarray, "frame"]:
    """Where the frames of the episodes ``kept`` are, if the file's own begin at ``first``."""
    begins = dict(zip(file.episodes, np.cumsum([first, *file.episodes.values()]).tolist(), strict=False))
    return np.concatenate([np.zeros(0, int), *(begins[n] + np.arange(file.episodes[n]) for n in kept)])


# ---------------------------------------------------------------------------------------------------- making


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON beside a file of the frames of all episodes of a dataset."""

    camera: str
    dataset: str  # its digest
    height: int
    width: int
    crc32: int


def _frame_file(store: EpisodeStore, name: str, cache: str | Path | None) -> FrameFile:
    """The file of the camera ``name`` in ``store``, made if it is missing, damaged or of other data."""
    root, folder = (store.path, CACHE) if cache is None else (Path(cache), _name_of(store.path))
    key = hashlib.sha256(f"{store.digest()} {name}".encode()).hexdigest()[:16]
    stem = re.sub(r"[^\w-]", "_", name)[:60]
    path = contained(root, f"{folder}/{stem}-{key}.frames")
    found = _whole(path, store, name)
    if found is None:
        with directory_lock(path.parent, PATIENCE):
            # another process may have made it meanwhile
            found = _whole(path, store, name) or _make(path, store, name)
    return found


def _name_of(dataset: Path) -> str:
    """Of a dataset's own folder among those of others."""
    return f"{dataset.name}-{hashlib.sha256(os.fsencode(dataset.resolve())).hexdigest()[:8]}"


def _whole(path: Path, store: EpisodeStore, name: str) -> FrameFile | None:
    """The file at ``path``, if it holds what it should: every frame is read once and compared with the checksum, which
    takes a second for some gigabytes and spares the disk later."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return None
    try:
        file = FrameFile(path, store.spec.images[name], _frame_counts(store))
        if read_typed(beside, _Note) != _note(store, name, file.checksum()):
            raise WtlError(f"{path} is damaged, or of other images")
        return file
    except WtlError as error:
        log.warning("%s; it is made anew", error)
        return None


def _make(path: Path, store: EpisodeStore, name: str) -> FrameFile:
    """Unpacks the images of a camera into ``path``. Needs the lock of the folder.

    Where damaged episodes are skipped, what is made serves this once: without its note it is made anew the next time.
    """
    for other in path.parent.glob("*.frames"):
        if _is_obsolete(other, name):
            other.with_suffix(".json").unlink(missing_ok=True)
            other.unlink(missing_ok=True)
    camera, counts, crc = store.spec.images[name], _frame_counts(store), 0
    size = sum(counts.values()) * camera.size
    log.info("unpacking the images of camera %r of %s, once: %.1f GB into %s", name, store.path, size / 1e9, path)
    found = {}
    with writing(path) as file:
        for number, images in store.images(name, final=True):
            frames = images if len(images) == counts[number] else np.concatenate([images, images[-1:]])
            file.write(frames.data)
            crc = zlib.crc32(frames.data, crc)
            found[number] = counts[number]
    if found == counts:
        write_json(path.with_suffix(".json"), msgspec.to_builtins(_note(store, name, crc)))
    return FrameFile(path, camera, found)


def _frame_counts(store: EpisodeStore) -> dict[int, int]:
    """How many frames each episode has, by its number."""
    return {record.index: record.length + 1 for record in store.records}


def _note(store: EpisodeStore, name: str, crc32: int) -> _Note:
    camera = store.spec.images[name]
    return _Note(name, store.digest(), camera.height, camera.width, crc32)


def _is_obsolete(path: Path, name: str) -> bool:
    """Is it of other data of this camera, or of nobody, since whoever made it was interrupted?"""
    try:
        return read_typed(path.with_suffix(".json"), _Note).camera == name
    except WtlError:
        return True
