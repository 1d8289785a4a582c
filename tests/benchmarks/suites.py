"""The test suites that are measured, written into a folder."""

from __future__ import annotations

from pathlib import Path

MIXED = [
    '"float16"',
    '"bfloat16"',
    '"float32"',
    '"auto"',
    "torch.float16",
    "torch.bfloat16",
    "torch.float32",
]
SEVEN = ["float16", "bfloat16", "float32", "float64", "int32", "int64", "bool"]


def functions(folder: Path, files: int = 100, each: int = 100) -> int:
    """Plain test functions, none of which has a parameter. Returns how many items they are."""
    body = "".join(f"def test_{i}():\n    assert {i} + 1 == {i + 1}\n\n\n" for i in range(each))
    _write(folder, dict.fromkeys(range(files), body))
    return files * each


def parametrized(folder: Path, files: int = 100) -> int:
    """Each file has two functions of 50 items, by two `parametrize` each. Returns the items."""
    head = "import pytest\n\n\n"
    two = "".join(
        f'@pytest.mark.parametrize("size", range(10))\n'
        f'@pytest.mark.parametrize("mode", ["a", "b", "c", "d", "e"])\n'
        f"def test_{i}(mode, size):\n    assert mode * size is not None\n\n\n"
        for i in range(2)
    )
    _write(folder, dict.fromkeys(range(files), head + two))
    return files * 2 * 50


def with_dtypes(folder: Path, *, strings: bool, files: int = 50) -> int:
    """Each file has four functions with 8 x 9 other parameters and 7 dtypes. Returns the items.

    strings: whether the dtypes are strings; else they are `torch.dtype` objects.
    """
    dtypes = ", ".join(f'"{name}"' if strings else f"torch.{name}" for name in SEVEN)
    head = f"import pytest\n{'' if strings else 'import torch'}\n\nDTYPES = [{dtypes}]\n\n\n"
    four = "".join(
        f'@pytest.mark.parametrize("dtype", DTYPES)\n'
        f'@pytest.mark.parametrize("size", range(9))\n'
        f'@pytest.mark.parametrize("mode", ["a", "b", "c", "d", "e", "f", "g", "h"])\n'
        f"def test_{i}(mode, size, dtype):\n    assert dtype is not None\n\n\n"
        for i in range(4)
    )
    _write(folder, dict.fromkeys(range(files), head + four))
    return files * 4 * 8 * 9 * len(SEVEN)


def _write(folder: Path, files: dict[int, str]) -> None:
    folder.mkdir(parents=True)
    # Its own root, so that no configuration of the repository acts.
    (folder / "pytest.ini").write_text("[pytest]\n")
    for number, text in files.items():
        (folder / f"test_{number:03}.py").write_text(text)
