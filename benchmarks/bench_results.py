"""What the published results cost: wall time per training seed and per phase, from benchmarks/results/*.json.

python benchmarks/bench_results.py [FILE ...]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchtrylearn.reporting.documents import read_document

RESULTS = Path(__file__).parent / "results"


def summary(document: Mapping[str, Any]) -> str:
    """One line for the whole, one per phase, in minutes per seed."""
    seeds = len(document["seeds"])
    head = f"{document['experiment']}: {document['wall_s'] / 60:.1f} min for {seeds} seed{'s' if seeds > 1 else ''}"
    head += f" on {document['machine']['cores']} cores, {document['wall_s'] / 60 / seeds:.1f} min per seed"
    phases = [f"  {name:<22} {spent / 60 / seeds:6.2f} min" for name, spent in document["phases_s"].items()]
    return "\n".join([head, *phases])


def main(files: list[Path]) -> None:
    for file in files:
        print(summary(read_document(file)))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(RESULTS.glob("*.json")))
