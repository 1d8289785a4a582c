"""New memory in huge pages and pinned, and files that are larger than the machine's memory."""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import load, load_weights, memory, pages

HUGE = pages.size_of_huge_pages(pages.SETTINGS)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="what Linux does")


def model(size, device="cpu", dtype=torch.float32):
    made = nn.Module()
    made.weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
    return made


@pytest.mark.parametrize(
    ("enabled", "size", "found"),
    [
        ("always [madvise] never\n", "2097152\n", 2097152),
        ("always [madvise] never\n", None, 0),
        ("always [madvise] never\n", "two\n", 0),
        ("[always] madvise never\n", "2097152\n", 0),
        ("always madvise [never]\n", "2097152\n", 0),
        (None, "2097152\n", 0),
    ],
)
def test_where_asking_is_of_use(tmp_path, enabled, size, found):
    for name, text in (("enabled", enabled), ("hpage_pmd_size", size)):
        if text is not None:
            (tmp_path / name).write_text(text, encoding="ascii")
    assert pages.size_of_huge_pages(tmp_path) == found


@LINUX
@pytest.mark.parametrize("elements", [0, 1, 1 << 10, 1 << 16, 3 << 18])
def test_what_is_asked_for_lies_within_the_tensor(monkeypatch, elements):
    asked = []
    monkeypatch.setattr(pages, "_advise", lambda: lambda *given: asked.append(given))
    tensor, size = torch.empty(elements, dtype=torch.float32), 1 << 16
    pages.ask_for_huge_pages(tensor, size)
    start, stop = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    whole = stop // size - -(-start // size)
    assert len(asked) == (whole > 0)
    for begin, length, advice in asked:
        assert advice == mmap.MADV_HUGEPAGE
        assert begin % size == length % size == 0
        assert start <= begin < begin + length <= stop
        assert length == whole * size


def flags_of(address):
    """What Linux says of the mapping that an address is in."""
    here = False
    with Path("/proc/self/smaps").open(encoding="utf-8") as lines:
        for line in lines:
            head = line.split(maxsplit=1)[0]
            if "-" in head and not head.endswith(":"):
                start, stop = (int(text, 16) for text in head.split("-"))
                here = start <= address < stop
            elif here and head == "VmFlags:":
                return line.split()[1:]
    return []


@pytest.mark.skipif(not HUGE, reason="this system has none to be asked for")
@pytest.mark.parametrize("kind", ["on meta", "another dtype"])
def test_the_system_is_asked(tmp_path, kind):
    size = HUGE  # elements, of four or two bytes: more than one page
    value = torch.arange(size, dtype=torch.float32).remainder(251)
    save_file({"weight": value}, tmp_path / "x.safetensors")
    made = model(size, "meta") if kind == "on meta" else model(size)
    dtype = None if kind == "on meta" else torch.float64
    report = load_weights(made, tmp_path / "x.safetensors", dtype=dtype, huge_pages=True)
    assert not report.notes
    assert torch.equal(made.weight, value.to(dtype or torch.float32))
    middle = made.weight.data_ptr() + made.weight.nbytes // 2
    assert "hg" in flags_of(middle)


@pytest.mark.parametrize("asked", [False, True])
def test_only_for_new_memory_and_only_if_asked(monkeypatch, asked):
    tensors = []
    monkeypatch.setattr(load, "size_of_huge_pages", lambda _: 1 << 12)
    monkeypatch.setattr(memory, "ask_for_huge_pages", lambda new, size: tensors.append((new, size)))
    source = {"weight": torch.ones(8, dtype=torch.float16)}
    load_weights(model(8), source, huge_pages=asked)
    assert not tensors
    made = model(8, "meta")
    load_weights(made, source, huge_pages=asked)
    assert [(one.data_ptr(), size) for one, size in tensors] == (
        [(made.weight.data_ptr(), 1 << 12)] if asked else []
    )


def test_where_there_are_none_it_is_told(monkeypatch):
    monkeypatch.setattr(load, "size_of_huge_pages", lambda _: 0)
    report = load_weights(model(2), {"weight": torch.ones(2)}, huge_pages=True)
    assert "huge_pages: there are none to be asked for here" in str(report.notes)


def test_what_is_no_answer():
    with pytest.raises(DtypeSamplerError, match="huge_pages='yes': give True or False"):
        load_weights(model(2), {"weight": torch.ones(2)}, huge_pages="yes")


@pytest.mark.parametrize("pinned", [False, True])
def test_pinned_memory_becomes_pinned_memory(monkeypatch, pinned):
    """Only with an accelerator is there such memory: here that it is asked for is looked at."""
    asked = []
    real = torch.empty_like

    def empty_like(*args, pin_memory, **options):
        asked.append(pin_memory)
        return real(*args, **options)

    monkeypatch.setattr(torch, "empty_like", empty_like)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda _: pinned)
    made = model(3)
    place = made.weight.data_ptr()
    load_weights(made, {"weight": torch.ones(3)})
    # In place, it is what it was.
    assert not asked
    assert made.weight.data_ptr() == place
    load_weights(made, {"weight": torch.ones(3)}, dtype="bfloat16")
    assert asked == [pinned]
    assert torch.equal(made.weight, torch.ones(3, dtype=torch.bfloat16))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator that pins memory")
def test_memory_that_is_pinned_stays_so():
    made = model(3)
    made.weight.data = made.weight.data.pin_memory()
    for dtype in (None, "bfloat16"):
        load_weights(made, {"weight": torch.ones(3)}, dtype=dtype)
        assert made.weight.is_pinned()
        assert made.weight.tolist() == [1, 1, 1]


def sparse(path, size):
    """A file of so many bytes that takes none of the disk, with two small tensors at its end."""
    tensors = {
        "large": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]},
        "weight": {"dtype": "F32", "shape": [2], "data_offsets": [size, size + 8]},
    }
    header = json.dumps(tensors).encode()
    header += b" " * (-len(header) % 8)
    try:
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.seek(size, 1)
            file.write(struct.pack("<2f", 1, 2))
    except OSError as error:
        pytest.skip(f"this disk has no such files: {error}")
    return path


@LINUX
@pytest.mark.parametrize("mmap", [None, True, False])
def test_a_file_that_is_larger_than_the_memory(tmp_path, mmap):
    if mmap and Path("/proc/sys/vm/overcommit_memory").read_text("ascii").strip() == "2":
        pytest.skip("this system maps no more than it has")
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text("ascii").splitlines())
    kilobytes = sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    file = sparse(tmp_path / "x.safetensors", 1536 * kilobytes)
    made = model(2)
    report = load_weights(made, file, ignore_unexpected=["large"], mmap=mmap)
    assert report.loaded == 1
    assert made.weight.tolist() == [1, 2]


WITHIN_A_LIMIT = """
import resource, sys
import torch
from dtype_sampler.weights import LoadError, load_weights
made = torch.nn.Module()
made.weight = torch.nn.Parameter(torch.zeros(2))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
most = used + 2**30
resource.setrlimit(resource.RLIMIT_AS, (most, most))
try:
    load_weights(made, sys.argv[1], ignore_unexpected=["large"], mmap=True)
except LoadError as error:
    assert "can't be mapped: Cannot allocate memory" in str(error), error
else:
    raise AssertionError
assert load_weights(made, sys.argv[1], ignore_unexpected=["large"]).loaded == 1
assert made.weight.tolist() == [1, 2]
"""


@LINUX
def test_what_may_not_be_mapped_is_read(tmp_path):
    file = sparse(tmp_path / "x.safetensors", 2**33)
    command = [sys.executable, "-W", "ignore", "-c", WITHIN_A_LIMIT, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
