"""Does the wheel work where nothing else is installed? Run by ``make smoke``.

Builds the wheel, installs it without the extra ``sim`` into a clean virtual environment, and lets the
installed ``wtl`` list what there is, load the weights that came along and run the whole job on the physics-free
suite, from outside the source.
"""

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and return what it printed; stop everything if it fails."""
    print("+", *command, flush=True)
    started = time.monotonic()
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{done.stderr}\nfailed with exit status {done.returncode}: {command}")
    print(f"  {time.monotonic() - started:.1f} s", flush=True)
    return done.stdout


def smoke(folder: Path) -> None:
    """Build, install, list, load, run."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("watchtrylearn-*.whl")
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / "bin"
    python = binaries / "python"
    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    unwanted = ("mujoco", "av", "pytest", "trackio", "wandb")
    find = f"import importlib.util as u; print([m for m in {unwanted} if u.find_spec(m)])"
    assert run(python, "-c", find, cwd=folder).strip() == "[]", "the environment is not clean"
    about = run(python, "-c", "import importlib.metadata as m; print(m.metadata('watchtrylearn'))", cwd=folder)
    assert "](docs/" not in about, "the page on the package index has links to files that are not there"
    assert "Show a robot" in about, "the page on the package index does not hold the README"
    print("  " + run(binaries / "wtl", "--version", cwd=folder).strip())
    listed = run(binaries / "wtl", "list", cwd=folder)
    for name in ("toy", "watch_try_learn", "debug"):
        assert name in listed, f"wtl list does not name {name}:\n{listed}"
    for model in sorted((ROOT / "src" / "watchtrylearn" / "pretrained").glob("*/*/model.json")):
        load = f"wtl.load(wtl.pretrained('{model.parent.parent.name}') / '{model.parent.name}')"
        run(python, "-c", f"import watchtrylearn as wtl; print({load}.name)", cwd=folder)
    run(binaries / "wtl", "demo", "--preset", "debug", "--out", folder / "run", cwd=folder)
    for name in ("results.json", "report.html"):
        assert (folder / "run" / name).stat().st_size > 0, f"the debug run wrote no {name}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="wtl-smoke-") as name:
        smoke(Path(name))
    print("smoke: the wheel works in a clean environment without MuJoCo")
