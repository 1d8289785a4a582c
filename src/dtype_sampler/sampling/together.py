"""The same dtypes for all tests of a run that declare the same candidates. Pure.

Where the first use of a dtype compiles kernels for minutes, a run is cheap if few dtypes are used
in it. Each test's own order decorrelates tests; here the candidates have one order for all tests.
"""

from __future__ import annotations

from functools import lru_cache

from dtype_sampler.sampling.rule import keyed_hash


# The tests of a suite declare the same few pools again and again.
@lru_cache(maxsize=1024)
def circle_of(labels: tuple[str, ...]) -> str:
    """What takes the test key's place in the order of these candidates, whoever declares them.

    It depends on the *set* of labels alone. No test key and no fixture's name looks like it.
    """
    return f"together:{keyed_hash('together', *sorted(labels)):016x}"
