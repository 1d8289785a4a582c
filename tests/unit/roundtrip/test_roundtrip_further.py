"""Layouts, lazy views, sizes, exchange, and what comes and goes: each fault by the trip for it."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch
from faulty_device import FaultyDevice, outcome, trips_of

from dtype_sampler.roundtrip import exchange, lazy, survey
from dtype_sampler.roundtrip.catalogue import EXCHANGE, LAYOUTS, SIZES, TRANSPORT, VIEWS
from dtype_sampler.roundtrip.model import BROKEN, OK, UNSTABLE
from dtype_sampler.roundtrip.patterns import from_words, name_of, words_of
from dtype_sampler.roundtrip.sizes import numbered

FURTHER = [LAYOUTS, VIEWS, SIZES, EXCHANGE]


class Copies(FaultyDevice):
    """Copies as *wrong* says: (into, source) -> whether nothing but zeros arrives."""

    def __init__(self, wrong, **keys):
        super().__init__(**keys)
        self._wrong = wrong

    def copy(self, into, source, **options):
        super().copy(into, source, **options)
        if into.numel() and self._wrong(into, source):
            into.view(torch.uint8).zero_() if into.dim() else into.fill_(0)


@pytest.mark.parametrize(
    ("trip", "wrong"),
    [
        ("copy-shapes", lambda into, source: into.dim() == 0),
        ("copy-expanded", lambda into, source: 0 in source.stride() and source.dim() == 2),
        ("copy-permuted", lambda into, source: source.dim() == 3 and not source.is_contiguous()),
        (
            "copy-offsets",
            lambda into, source: into.storage_offset() == 17,
        ),
    ],
)
def test_a_fault_of_one_layout_is_found_by_its_trip(trip, wrong):
    found = survey(Copies(wrong), dtypes=["int16"], kinds=[TRANSPORT, *FURTHER])
    assert trips_of(found) == {trip}
    assert outcome(found, f"int16 {trip}").differing > 0


@pytest.mark.parametrize("how", ["copied", "cast to torch.int32"])
def test_a_bool_that_is_neither_0_nor_1(how):
    class Wrong(FaultyDevice):
        def copy(self, into, source, **options):
            super().copy(into, source, **options)
            if how == "copied" and into.dtype is torch.bool and into.numel() == 256:
                into.view(torch.uint8)[2::2] = 0

        def cast(self, tensor, dtype):
            if how != "copied" and (tensor.dtype, dtype) == (torch.bool, torch.int32):
                return self._own(tensor.view(torch.uint8).to(torch.int32))
            return super().cast(tensor, dtype)

    found = survey(Wrong(), dtypes=["bool", "int32"])
    assert trips_of(found) == {"bool-bytes"}
    told = {
        "copied": "0x02, copied, is 0",
        "cast to torch.int32": "0x02, cast to torch.int32, is 2",
    }
    assert outcome(found, "bool bool-bytes").words == f"a bool of the byte {told[how]}"
    good = outcome(survey("cpu", dtypes=["bool"]), "bool bool-bytes")
    assert good.verdict == OK
    assert "bytes of 2 to 255 are copied as" in good.words


def test_lazy_views_are_what_they_stand_for():
    class Forgets(FaultyDevice):
        """Copies memory, whatever bit is set."""

        def copy(self, into, source, **options):
            if source.is_conj():
                source = source.conj()
            if source.is_neg():
                source = -source
            super().copy(into, source, **options)

    found = survey(Forgets(), dtypes=["float32", "complex64"], kinds=[TRANSPORT, VIEWS])
    assert trips_of(found) == {"lazy-copy"}
    assert {one.dtype for one in found.faults if one.trip == "lazy-copy"} == {
        "float32",
        "complex64",
    }
    # On the host two exchanges forget it, and are listed.
    host = survey("cpu", kinds=[TRANSPORT, VIEWS])
    assert trips_of(host) == set()
    assert outcome(host, "float32 lazy-copy").verdict == OK
    assert outcome(host, "float32 lazy-save").verdict == OK
    assert (
        outcome(host, "complex64 lazy-clone").tried
        == 2 * len(words_of(torch.empty(0, dtype=torch.complex64)))
        + outcome(host, "complex64 lazy-clone").tried
    )


def test_which_dtypes_have_lazy_views():
    assert lazy.has_lazy_views(torch.complex64)
    assert lazy.has_lazy_views(torch.float64)
    for dtype in (torch.int32, torch.bool, torch.float8_e5m2, torch.bits8):
        assert not lazy.has_lazy_views(dtype)


@pytest.mark.parametrize(("trip", "limit"), [("copy-large", 1 << 22), ("copy-huge", 1 << 26)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_copy_that_swaps_two_pieces_of_many_megabytes_is_found(trip, limit, dtype):
    class Swaps(FaultyDevice):
        def copy(self, into, source, **options):
            super().copy(into, source, **options)
            size = into.numel() * into.dtype.itemsize
            if limit < size < 8 * limit and self._owns(into):
                raw = into.view(torch.uint8)
                first, last = raw[:1024].clone(), raw[-1024:].clone()
                raw[:1024], raw[-1024:] = last, first

    found = survey(Swaps(), dtypes=[dtype], kinds=[TRANSPORT, *FURTHER])
    assert trips_of(found) == {trip}
    harmed = outcome(found, f"{dtype} {trip}")
    # Every byte of both pieces but those that happen to be the same.
    assert harmed.differing <= 2048 // getattr(torch, dtype).itemsize
    assert harmed.tried * getattr(torch, dtype).itemsize > limit


def test_every_eight_bytes_are_another_number():
    whole = numbered(0, 4096)
    assert len(torch.unique(whole.view(torch.int64))) == 512
    assert torch.equal(numbered(1024, 1000), whole[1024:2024])


class Unsteady(FaultyDevice):
    """Every fifth copy from the device loses the sign of zero."""

    copies = 0

    def copy(self, into, source, **options):
        super().copy(into, source, **options)
        if self._owns(source) and into.dtype is torch.bfloat16:
            self.copies += 1
            if self.copies % 5 == 0:
                words = into.view(torch.int16)
                words[words == -(1 << 15)] = 0x7FC0


def test_what_differs_from_run_to_run_is_a_verdict_of_its_own():
    found = survey(Unsteady(), dtypes=["bfloat16"], kinds=[TRANSPORT])
    verdicts = {one.verdict for one in found.outcomes}
    assert UNSTABLE in verdicts
    shaky = next(one for one in found.outcomes if one.verdict == UNSTABLE)
    assert "differs from run to run: wrong in 1 of 3" in shaky.message
    assert "0x8000 → 0x7fc0" in shaky.message
    assert found.faults
    # It can be listed, and one line tells of all that comes and goes in longer trips.
    assert found.faults[0].trip in ("copy", "copy-one", "copy-odd", "copy-offset")
    steady = survey(FaultyDevice(), dtypes=["bfloat16"], kinds=[TRANSPORT])
    assert UNSTABLE not in {one.verdict for one in steady.outcomes}


def test_one_that_copies_wrongly_by_index_or_many_at_once_is_found(monkeypatch):
    real, many = torch.Tensor.index_copy_, torch._foreach_copy_

    def by_index(self, dim, index, source):
        return real(self, dim, index.roll(1), source)

    def all_at_once(into, sources):
        many(into, sources)
        into[-1].view(torch.uint8).zero_()

    monkeypatch.setattr(torch.Tensor, "index_copy_", by_index)
    found = survey("cpu", dtypes=["int8"], kinds=[TRANSPORT, EXCHANGE])
    assert trips_of(found) == {"index-copy"}
    monkeypatch.undo()
    monkeypatch.setattr(torch, "_foreach_copy_", all_at_once)
    found = survey("cpu", dtypes=["int8"], kinds=[TRANSPORT, EXCHANGE])
    assert trips_of(found) == {"foreach-copy"}


def test_slices_of_a_file_are_found_to_be_wrong(monkeypatch):
    import safetensors

    real = safetensors.safe_open

    class Opens:
        def __init__(self, *args):
            self._file = real(*args)

        def __enter__(self):
            self._file.__enter__()
            return self

        def __exit__(self, *args):
            return self._file.__exit__(*args)

        def get_slice(self, name):
            whole = self._file.get_tensor(name)

            class Slice:
                def __getitem__(self, part):
                    return whole.roll(1)[part] if part.start else whole[part]

            return Slice()

    monkeypatch.setattr(safetensors, "safe_open", Opens)
    found = survey("cpu", dtypes=["int8"], kinds=[TRANSPORT, EXCHANGE])
    assert trips_of(found) == {"safetensors-slice"}


@pytest.fixture
def forget():
    exchange._others.cache_clear()
    yield
    exchange._others.cache_clear()


def test_a_library_in_a_process_of_its_own(forget, monkeypatch, tmp_path):
    """A jax of our own, which spoils int8, refuses bool and dies of uint8.

    Of 64 bits it makes 32 unless it is told not to, as the real one does.
    """
    fake = tmp_path / "jax"
    fake.mkdir()
    (fake / "__init__.py").write_text("")
    (fake / "dlpack.py").write_text(
        "import os, torch\n"
        "def from_dlpack(tensor):\n"
        "    if tensor.dtype is torch.bool: raise TypeError('no bool')\n"
        "    if tensor.dtype is torch.uint8: os.abort()\n"
        "    if tensor.dtype is torch.int8: return tensor ^ 1\n"
        "    if 'JAX_ENABLE_X64' not in os.environ: return tensor.float()\n"
        "    return tensor\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(exchange, "_TRIED", ("float64", "int8", "bool", "uint8", "int32"))
    found = survey("cpu", dtypes=["float64", "int8", "bool", "uint8"], kinds=[EXCHANGE])
    told = {one.dtype: one for one in found.of(trip="dlpack-jax")}
    assert told["float64"].verdict == OK
    assert (told["int8"].verdict, told["int8"].words) == (BROKEN, "first 0x00 → 0x01")
    assert told["bool"].message.endswith("refused: no bool")
    assert told["uint8"].words == "the process was killed by SIGABRT"


def test_what_is_not_installed_is_not_tried(monkeypatch):
    monkeypatch.setattr(exchange.importlib.util, "find_spec", lambda name: None)
    assert not exchange.is_there("dlpack-jax")
    assert exchange.is_there("dlpack-numpy")
    found = survey("cpu", dtypes=["int8"], kinds=[EXCHANGE])
    assert "dlpack-jax" not in {one.trip for one in found.outcomes}


def test_an_array_that_runs_backwards(monkeypatch):
    """Tried here with an array that torch can take, as of some versions it kills the process."""
    told = []
    exchange.tried_apart("jax", [], told.append)
    assert told == []

    class Straight:
        def __getitem__(self, part):
            return self

    tries = {"flipped": exchange._try_flipped}
    monkeypatch.setattr(exchange, "_TRIES", tries)
    backwards = exchange._some(torch.int8)
    monkeypatch.setattr(exchange, "_from_dlpack", lambda source: backwards.flip(0))
    exchange.tried_apart("flipped", ["int8"], lambda line, **_: told.append(json.loads(line)))
    assert told == [["int8", ""], ["int8", "ok: "]]
    monkeypatch.setattr(exchange, "_from_dlpack", lambda source: backwards)
    assert exchange._try_flipped(torch.int8) == "wrong: first 0x00 → 0xff"


def test_cupy_where_it_is(monkeypatch):
    """A cupy of our own that hands over what it is given, and then loses a bit."""
    spoil = []

    def from_dlpack(tensor):
        made = tensor.clone()
        if spoil and name_of(tensor.dtype) == "int16":
            made[3] ^= 1
        return made

    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(from_dlpack=from_dlpack))
    monkeypatch.setattr(exchange, "is_there", lambda trip: trip != "dlpack-jax")
    device = FaultyDevice()
    assert trips_of(survey(device, dtypes=["int16"], kinds=[TRANSPORT, EXCHANGE])) == set()
    spoil.append(True)
    assert trips_of(survey(device, dtypes=["int16"], kinds=[TRANSPORT, EXCHANGE])) == {
        "dlpack-cupy"
    }


def test_only_takes_trips_and_kinds():
    found = survey(
        "cpu",
        dtypes=["uint8", "int8"],
        kinds=[TRANSPORT, SIZES],
        only={SIZES: [], "copy": ["int8"]},
    )
    assert {one.dtype for one in found.of(trip="copy")} == {"int8"}
    assert not list(found.of(kind=SIZES))
    with pytest.raises(Exception, match="unknown kind of trip 'size'"):
        survey("cpu", only={"size": []})


def test_a_view_of_both_parts_is_flipped_in_one():
    """The reference for conjugates: the sign of the imaginary part alone."""
    from pathlib import Path

    from dtype_sampler.roundtrip.devices import TorchDevice
    from dtype_sampler.roundtrip.stay import Stay

    given = from_words(torch.tensor([[0x3F800000, 0x40000000]]), torch.complex64)
    stay = Stay(TorchDevice("cpu"), torch.complex64, Path(), given.view(torch.uint8))
    assert words_of(lazy._View(stay).want).tolist() == [[0x3F800000, 0xC0000000]]


def test_casts_that_are_compiled(monkeypatch):
    """By compilers of our own: one changes nothing, one drops a cast and its way back."""
    monkeypatch.setattr(torch, "compile", lambda way, **_: way)
    keys = {"dtypes": ["float32", "bfloat16", "int8", "complex64"], "kinds": ["compiled"]}
    good = survey("cpu", **keys)
    assert {one.key for one in good.outcomes} == {"float32 compiled bfloat16"}
    assert {one.verdict for one in good.outcomes} == {OK}

    def drops(way, **_):
        def compiled(given):
            made = way(given)
            return given if made.dtype is given.dtype else made

        return compiled

    monkeypatch.setattr(torch, "compile", drops)
    (dropped,) = survey("cpu", **keys).outcomes
    assert dropped.verdict == BROKEN
    assert dropped.words == "compiled, there and back"
    assert "compiled" not in {one.trip for one in survey("cpu", dtypes=["float32"]).outcomes}


@pytest.fixture
def small(monkeypatch):
    from dtype_sampler.roundtrip import beyond

    monkeypatch.setattr(beyond, "SIZE", (1 << 20) + 24)
    monkeypatch.setattr(beyond, "PIECE", 1 << 16)
    return beyond


def test_a_copy_that_counts_with_32_bits_is_found(small):
    """Here with 20, of which a little more than 2^20 is beyond."""

    class Wraps(FaultyDevice):
        def copy(self, into, source, **options):
            count = into.numel() & ((1 << 20) - 1) if into.numel() > 1 << 20 else into.numel()
            super().copy(into[:count], source[:count], **options)

    good = small.beyond_4gib(FaultyDevice())
    assert (good.verdict, good.tried, good.name) == (OK, (1 << 20) + 24, "copy-4gib")
    found = small.beyond_4gib(Wraps())
    assert found.verdict == BROKEN
    assert found.differing > 1 << 19
    assert found.message.startswith("uint8 cpu→fake:0→cpu (4 GiB): ")
    assert found.first is not None
    assert found.first.position == 24


def test_without_the_memory_or_the_device_nothing_is_said(small, monkeypatch):
    monkeypatch.setattr(small, "memory_free", lambda: 1 << 20)
    poor = small.beyond_4gib(FaultyDevice())
    assert poor.message.endswith("refused: takes 0.5 GiB of memory, and 0.0 GiB is free")
    monkeypatch.setattr(small, "memory_free", lambda: None)
    assert small.beyond_4gib(FaultyDevice(refuses=["uint8"])).verdict == "unsupported"
    kept = small.beyond_4gib(FaultyDevice(keeps=["uint8"]))
    assert (kept.verdict, kept.half) == (BROKEN, "back")


def test_how_much_memory_is_free():
    from dtype_sampler.roundtrip.beyond import memory_free

    free = memory_free()
    assert free is None or free > 1 << 20
