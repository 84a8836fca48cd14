"""Publish a finished run: copy its numbers to benchmarks/results and its table into the README.

usage: python benchmarks/publish.py runs/demo
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from watchtrylearn import results

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def block(document: Mapping[str, Any]) -> str:
    """What stands between the markers of the README."""
    seeds = ", ".join(map(str, document["seeds"]))
    commit = str(document["commit"])
    where = f"benchmarks/results/{document['experiment']}.json"
    how = f"`{document['command']}`, seed {seeds}, {float(document['wall_s']) / 60:.1f} minutes on {_machine(document)}"
    trained = "one training seed" if len(document["seeds"]) == 1 else f"{len(document['seeds'])} training seeds"
    caption = f"Success in %, with 95 % intervals over tasks, {trained}: {how}; commit {commit[:10]}."
    return f"{BEGIN}\n{results.markdown(document)}\n\n{caption} [All numbers]({where}).\n{END}"


def _machine(document: Mapping[str, Any]) -> str:
    return f"{document['machine']['cores']} cores"


def main(run: Path) -> None:
    document = json.loads((run / "results.json").read_text())
    target = ROOT / "benchmarks" / "results" / f"{document['experiment']}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(document, indent=1) + "\n")
    page = ROOT / "README.md"
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + block(document) + rest.partition(END)[2])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
