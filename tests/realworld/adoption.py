"""The two-line change to transformers' `test_bc_torch_dtype`, made in a copy of its tests.

The sdist of transformers on PyPI holds the modules at the top of its `tests` folder, with
`ModelTesterMixin`, and none of the folders below: tests of models, of generation and of exporters.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tarfile
from pathlib import Path

HERE = Path(__file__).parent

# A folder with `transformers-*.tar.gz`; `tox run -e realworld` fetches it.
SDIST = "TRANSFORMERS_SDIST"

COMMON = "test_modeling_common.py"
MODELS = "test_models_in_dtypes.py"
TEST = "test_bc_torch_dtype"

_DTYPES = '["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]'
LOOP = f"                for dtype in {_DTYPES}:\n"
SAMPLED_LOOP = f"                for dtype in random_dtypes(k=3, dtypes={_DTYPES}):\n"
IMPORT = "from dtype_sampler import random_dtypes\n"
AFTER = "from parameterized import parameterized\n"

# What the mixin imports and the sdist lacks: mixins whose own tests are then missing here.
_LACKING = {
    "exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin: pass\n",
}


def find_sdist() -> Path | None:
    """The sdist of transformers; None if nobody has said where it is."""
    folder = os.environ.get(SDIST)
    found = sorted(Path(folder).glob("transformers-*.tar.gz")) if folder else []
    return found[-1] if found else None


def unpack(sdist: Path, folder: Path) -> Path:
    """Make a pytest project of the sdist's tests, unchanged, and the models to run them with.

    Returns the module with `ModelTesterMixin`.
    """
    tests = folder / "tests"
    tests.mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if parts[1:2] == ("tests",) and len(parts) == 3 and member.isfile():
                source = archive.extractfile(member)
                assert source is not None
                (tests / parts[2]).write_bytes(source.read())
    for name, text in _LACKING.items():
        path = tests / name
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text, encoding="utf-8")
    (tests / "__init__.py").touch()
    shutil.copy(HERE / "adopted_models.py", tests / MODELS)
    shutil.copy(HERE / "configs.py", tests)
    (folder / "pytest.ini").write_text(f"[pytest]\npython_files = {MODELS}\n", encoding="utf-8")
    return tests / COMMON


def adopted(source: str) -> str:
    """The module's source with the two-line change. Raises ValueError if it has other lines."""
    for line in (LOOP, AFTER):
        if source.count(line) != 1:
            raise ValueError(f"{COMMON} has {source.count(line)} lines {line.strip()!r}, not one")
    return source.replace(LOOP, SAMPLED_LOOP).replace(AFTER, IMPORT + AFTER)


def changed_lines(before: str, after: str) -> list[str]:
    """The lines that are new in *after*, and those that were changed, as a diff shows them."""
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in diff if line.startswith("+") and not line.startswith("+++")]


def adopt(sdist: Path, folder: Path) -> None:
    """A pytest project of the sdist's tests with the change in it."""
    module = unpack(sdist, folder)
    source = module.read_text(encoding="utf-8")
    module.write_text(adopted(source), encoding="utf-8")
