"""Every test runs with the shapes and types in the signatures of the whole package checked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; threads would only get in each other's way

from signatures import check_signatures

check_signatures("watchtrylearn")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("quick", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("quick")

LONGEST = ("test_main_job", "test_wtl_state", "test_reproduce", "test_evaluation", "test_reacher", "test_wtl_curves")
SIM_MODULES = ("mujoco", "mujoco_warp", "av")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``sim`` are skipped, by name, where the simulator is not installed. The longest files come first, so
    that no processor is left alone with one in the end (with pytest-xdist's ``--no-loadscope-reorder``)."""
    import importlib.util

    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))

    missing = [name for name in SIM_MODULES if importlib.util.find_spec(name) is None]
    for item in items:
        if missing and item.get_closest_marker("sim"):
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(missing)} not installed (extra 'sim')"))
