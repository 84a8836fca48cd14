"""A LeRobot v3.0 dataset of an SO-101 arm, laid out as LeRobot does it: what a person brings.

Nothing of this library writes it. Every task is a pose to move to: the demonstration tells which, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NAMES = [f"{motor}.pos" for motor in MOTORS]
CAMERA = "observation.images.front"
FPS = 30
PLACES = [(0, 0), (0, 1), (1, 0)]  # chunk and file of a third of the episodes each


def sentence(task: int) -> str:
    return f"Put the lid on pot number {task}."


def write_arm(
    root: Path, tasks: int = 4, episodes: int = 4, steps: int = 40, seed: int = 0, **of_episodes: list[Any]
) -> Path:
    """``episodes`` recordings of each task, in turn; ``of_episodes`` are further columns of meta/episodes."""
    rng = np.random.default_rng(seed)
    goals = np.random.default_rng(1).uniform(-60, 60, (tasks, len(MOTORS)))
    number = np.arange(tasks * episodes)
    lengths = rng.integers(steps - 5, steps + 6, len(number))
    recorded = [_recording(rng, goals[i % tasks], lengths[i]) for i in number]
    begin = np.cumsum(lengths) - lengths
    place = number * len(PLACES) // len(number)
    for which, (chunk, file) in enumerate(PLACES):
        chosen = number[place == which]
        path = root / f"data/chunk-{chunk:03d}/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_steps(recorded, chosen, begin, tasks), path)
    _write_episodes(root, lengths, begin, place, recorded, tasks, of_episodes)
    _write_tasks(root, [sentence(task) for task in range(tasks)])
    _write_info(root, lengths, tasks)
    return root


def _recording(rng: np.random.Generator, goal: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions in degrees, and the leader arm's, which are a little ahead."""
    start = rng.normal(0, 5, len(goal))
    share = np.clip(np.arange(steps + 4) / (0.8 * steps), 0, 1)[:, None]
    path = start + (goal - start) * (3 * share**2 - 2 * share**3)
    state = path[:steps] + rng.normal(0, 0.2, (steps, len(goal)))
    return state.astype(np.float32), path[4:].astype(np.float32)


def _steps(recorded: list[Any], chosen: np.ndarray, begin: np.ndarray, tasks: int) -> pa.Table:
    lengths = [len(recorded[i][0]) for i in chosen]
    frame = np.concatenate([np.arange(n) for n in lengths])
    vectors = [np.concatenate([recorded[i][which] for i in chosen]) for which in (1, 0)]
    return pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            for name, values in zip(("action", "observation.state"), vectors, strict=True)
        }
        | {
            "timestamp": pa.array(frame / FPS, pa.float32()),
            "frame_index": frame,
            "episode_index": np.repeat(chosen, lengths),
            "index": np.concatenate([begin[i] + np.arange(n) for i, n in zip(chosen, lengths, strict=True)]),
            "task_index": np.repeat(chosen % tasks, lengths),
        }
    )


def _write_episodes(
    root: Path,
    lengths: np.ndarray,
    begin: np.ndarray,
    place: np.ndarray,
    recorded: list[Any],
    tasks: int,
    more: dict[str, list[Any]],
) -> None:
    count = len(lengths)
    seconds = lengths / FPS
    rows: dict[str, Any] = {
        "episode_index": np.arange(count),
        "tasks": [[sentence(i % tasks)] for i in range(count)],
        "length": lengths,
        "data/chunk_index": [PLACES[p][0] for p in place],
        "data/file_index": [PLACES[p][1] for p in place],
        "dataset_from_index": begin,
        "dataset_to_index": begin + lengths,
        f"videos/{CAMERA}/chunk_index": [0] * count,
        f"videos/{CAMERA}/file_index": [0] * count,
        f"videos/{CAMERA}/from_timestamp": np.cumsum(seconds) - seconds,
        f"videos/{CAMERA}/to_timestamp": np.cumsum(seconds),
        "meta/episodes/chunk_index": [0] * count,
        "meta/episodes/file_index": [0] * count,
        **more,
    }
    for name, which in (("action", 1), ("observation.state", 0)):
        rows |= {f"stats/{name}/{key}": [value.tolist() for value in values] for key, values in _stats(recorded, which)}
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)


def _stats(recorded: list[Any], which: int) -> list[tuple[str, list[np.ndarray]]]:
    found = [(key, [getattr(np, key)(r[which], axis=0) for r in recorded]) for key in ("min", "max", "mean", "std")]
    return [*found, ("count", [np.array([len(r[which])]) for r in recorded])]


def _write_tasks(root: Path, sentences: list[str]) -> None:
    """What pandas writes of a frame whose index is the sentence, without a name (LeRobot 0.4)."""
    index = "__index_level_0__"
    table = pa.table({"task_index": pa.array(range(len(sentences)), pa.int64()), index: sentences})
    column = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    pandas = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, **column, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **column, "pandas_type": "int64", "numpy_type": "int64"},
            {"name": None, "field_name": index, **column},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.3",
    }
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), root / "meta/tasks.parquet")


def _write_info(root: Path, lengths: np.ndarray, tasks: int) -> None:
    vector = {"dtype": "float32", "shape": [len(NAMES)], "names": NAMES}
    video = {
        "dtype": "video",
        "shape": [480, 640, 3],
        "names": ["height", "width", "channels"],
        "info": {"video.height": 480, "video.width": 640, "video.codec": "av1", "video.fps": FPS, "has_audio": False},
    }
    automatic = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}
    features = {"action": vector, "observation.state": vector, CAMERA: video}
    features |= {
        name: {"dtype": dtype, "shape": [1], "names": None}
        for name, dtype in (automatic | {"task_index": "int64"}).items()
    }
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101_follower",
        "total_episodes": len(lengths),
        "total_frames": int(lengths.sum()),
        "total_tasks": tasks,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    (root / "meta/stats.json").write_text("{}")
