"""What produced a result: the commit, the machine and the versions. Nothing here names a person or a host."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("watchtrylearn", "torch", "numpy", "mujoco", "mujoco-warp")


def commit() -> str:
    """The commit of the checkout this package runs from, with ``+dirty`` if its code was changed since; where
    there is no checkout, the version of the package."""
    package = Path(__file__).parent.parent
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")  # not a virtualenv inside another project
    head = _git(package, "rev-parse", "HEAD") if tracked else None
    if not head:
        return f"version {version('watchtrylearn')}"
    return head + ("+dirty" if _git(package, "status", "--porcelain", "--", ".") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints, or None where it cannot tell."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def machine() -> dict[str, str | int | float]:
    """Processor, usable cores and memory (GiB): what wall times depend on. Nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _processor(), "cores": cores, "memory_gib": round(memory, 1), "system": platform.system()}


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text().splitlines() if listing.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and the installed packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # the simulator is optional
    return found
