"""A pytest plugin that writes down which file each module came from, where a process ends.

It stands alone: `dtype-sampler bisect` copies it to where the plugin itself may be another version.
"""

import json
import os
import sys


def pytest_unconfigure() -> None:
    """Write the modules of this process: a worker has others than its controller."""
    found = {}
    for name, module in list(sys.modules.items()):
        # Not by `getattr`: a module that loads lazily would load more.
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            found[name] = file
    folder = os.environ["DTYPE_SAMPLER_BISECT_WITNESS"]
    path = os.path.join(folder, f"{os.getpid()}.json")  # noqa: PTH118  # imports nothing that the tests may not
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123  # likewise
        json.dump(found, file)
