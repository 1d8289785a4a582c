"""Headers: what is accepted, safetensors can read; what it can't, is refused by name."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from dtype_sampler.weights import CheckpointError
from dtype_sampler.weights.header import BITS, MAX_HEADER, TensorInfo, load_json, read_header

FEW = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


def as_file(path, header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.fixture
def file(tmp_path):
    return tmp_path / "x.safetensors"


def refusal(path):
    with pytest.raises(CheckpointError) as error:
        read_header(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert len(text) < len(str(path)) + 500
    assert text.isprintable()
    return text.removeprefix(f"{path}: ")


def test_what_the_library_writes(file):
    tensors = {
        "a": torch.zeros(2, 3),
        "b": torch.tensor(True),
        "c": torch.zeros(0, 5, dtype=torch.bfloat16),
        "d": torch.zeros(3, dtype=torch.float8_e4m3fn),
        "é\n": torch.zeros(1, dtype=torch.complex64),
    }
    save_file(tensors, file, metadata={"format": "pt"})
    found = read_header(file)
    assert {key: (info.dtype, info.shape) for key, info in found.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BOOL", ()),
        "c": ("BF16", (0, 5)),
        "d": ("F8_E4M3", (3,)),
        "é\n": ("C64", (1,)),
    }
    content = file.read_bytes()
    for key, info in found.items():
        assert isinstance(info, TensorInfo)
        assert info.file == file
        raw = tensors[key].reshape(-1).view(torch.uint8).tolist()
        assert content[info.begin : info.end] == bytes(raw)


def test_nothing_in_it(file):
    save_file({}, file)
    assert read_header(file) == {}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "the header is no JSON: Expecting value"),
        (b"{", "the header is no JSON: "),
        (b"[]", "the header is no JSON object"),
        (b'"a"', "the header is no JSON object"),
        (b"\xff{}", "the header is no JSON: 'utf-8' codec can't decode byte 0xff"),
        ("\ufeff{}".encode(), "the header is no JSON: Unexpected UTF-8 BOM"),
        (b"{}".decode().encode("utf-16"), "the header is no JSON: "),
        (b'{"\\ud800": 1}', "the header is no JSON: 'utf-8' codec can't encode"),
        (b'{"a": "\\uDFFF"}', "the header is no JSON: 'utf-8' codec can't encode"),
        (b'{"a": ' + b"[" * 100_000, "the header is no JSON: "),
        (b'{"a": ' * 100_000, "the header is no JSON: "),
        (b'{"a": 1, "a": 1}', "the header has the key a twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F32"}}', "the header has the key dtype twice"),
        (b'{"__metadata__": {"a": "1", "a": "1"}}', "the header has the key a twice"),
        (b'{"a": ' + b"1" * 5000 + b"}", "the header is no JSON: Exceeds the limit"),
        (b'{"a": NaN}', "the header is no JSON: NaN is no number of JSON"),
        (b'{"a": -Infinity}', "the header is no JSON: -Infinity is no number of JSON"),
        ({"__metadata__": {"a": 1}}, "its __metadata__ is not of texts by name"),
        ({"__metadata__": ["a"]}, "its __metadata__ is not of texts by name"),
        ({"__metadata__": None}, "its __metadata__ is not of texts by name"),
        ({"a": None}, "a: its entry is not of dtype, shape and data_offsets"),
        ({"a": []}, "a: its entry is not of dtype, shape and data_offsets"),
        ({"a": {}}, "a: its entry is not of dtype, shape and data_offsets"),
        ({"a": entry(more=1)}, "a: its entry is not of dtype, shape and data_offsets"),
        ({"a": entry(dtype=1)}, "a: its dtype is no text"),
        ({"a": entry(dtype=[[[]]])}, "a: its dtype is no text"),
        ({"a": entry(dtype="F31")}, "a: unknown dtype 'F31': known: BOOL, "),
        ({"a": entry(dtype="f32")}, "a: unknown dtype 'f32'"),
        ({"a": entry(dtype="x" * 9999)}, "a: unknown dtype 'xxx"),
        ({"k" * 9999: None}, "k" * 60 + "..." + "k" * 17 + ": its entry"),
        ({"\x1b[2J": None}, r"\x1b[2J: its entry"),
    ],
)
def test_headers_that_lie(file, header, message):
    assert refusal(as_file(file, header)).startswith(message)


NUMBERS = [1.0, 1e2, -1, True, None, "1", [1], 2**63, 2**64, -(2**70), 10**30, {}]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_what_is_no_whole_number(file, number):
    shape = refusal(as_file(file, {"a": entry(shape=[number, 2])}))
    assert shape == "a: its shape is no list of whole numbers, or too long a one"
    offsets = refusal(as_file(file, {"a": entry(offsets=[0, number])}))
    assert offsets == "a: its data_offsets are not two whole numbers"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shape": 2}, "its shape is no list of whole numbers"),
        ({"shape": {"2": 2}}, "its shape is no list of whole numbers"),
        ({"shape": [1] * 65}, "its shape is no list of whole numbers, or too long a one"),
        ({"data_offsets": [0]}, "its data_offsets are not two whole numbers"),
        ({"data_offsets": [0, 4, 8]}, "its data_offsets are not two whole numbers"),
        ({"data_offsets": "08"}, "its data_offsets are not two whole numbers"),
        ({"data_offsets": [8, 0]}, "its data is said to be at 8 to 0, and the file has 8 bytes"),
        ({"data_offsets": [0, 9]}, "its data is said to be at 0 to 9, and the file has 8 bytes"),
        ({"data_offsets": [2**62, 2**62 + 8]}, "its data is said to be at 4611686018427387904 to"),
        (
            {"shape": [3]},
            "a tensor of F32 and shape [3] does not have the 8 bytes that its data_off",
        ),
        ({"shape": []}, "a tensor of F32 and shape [] does not have the 8 bytes"),
        ({"shape": [0]}, "a tensor of F32 and shape [0] does not have the 8 bytes"),
        ({"dtype": "F4", "shape": [15]}, "a tensor of F4 and shape [15] does not have the 8 bytes"),
        ({"shape": [2**62, 2**62]}, "a tensor of shape [4611686018427387904, 46116860184273"),
        ({"shape": [2**32] * 4}, "a tensor of shape [4294967296, 4294967296"),
        ({"shape": [0, 2**62, 2**62]}, "a tensor of shape [0, 46116860"),
        ({"shape": [2**62, 2**62, 0]}, "a tensor of shape [46116860"),
        ({"shape": [2**62, 4, 2]}, "a tensor of shape [46116860"),
    ],
    ids=repr,
)
def test_entries_that_lie(file, changed, message):
    assert refusal(as_file(file, {"a": entry() | changed})).startswith(f"a: {message}")


def test_zeros_with_a_sign(file):
    text = json.dumps({"a-0": entry(offsets=(0, 8))}).encode()
    assert read_header(as_file(file, text))
    assert refusal(as_file(file, text.replace(b"[0, 8]", b"[-0, 8]")))
    with pytest.raises(Exception, match="deserializing header"):
        safe_open(file, "pt")


@pytest.mark.parametrize(
    ("spans", "size", "message"),
    [
        ([(0, 8), (4, 12)], 12, "b overlaps a"),
        ([(0, 8), (0, 8)], 8, "b overlaps a"),
        ([(4, 12)], 12, "4 bytes before a belong to no tensor"),
        ([(0, 8), (12, 20)], 20, "4 bytes before b belong to no tensor"),
        ([(0, 8)], 12, "4 bytes at the end belong to no tensor"),
        ([], 1, "1 bytes at the end belong to no tensor"),
        ([(8, 16), (0, 8)], 17, "1 bytes at the end belong to no tensor"),
    ],
)
def test_spans(file, spans, size, message):
    header = {key: entry(offsets=span) for key, span in zip("ab", spans, strict=False)}
    assert refusal(as_file(file, header, b"\0" * size)) == message


def test_empty_tensors_between(file):
    header = {
        "b": entry(offsets=(0, 8)),
        "a": entry(shape=[0], offsets=(8, 8)),
        "c": entry(shape=[0, 3], offsets=(0, 0)),
    }
    assert list(read_header(as_file(file, header))) == ["b", "a", "c"]
    header["d"] = entry(shape=[0], offsets=(4, 4))
    assert refusal(as_file(file, header)) == "d overlaps b"


@pytest.mark.parametrize("length", [9, 2**31, 2**63, 2**64 - 1, MAX_HEADER + 1])
def test_a_length_that_lies(file, length):
    assert refusal(as_file(file, b"{}", b"123456", length)) == (
        "is no safetensors file, or is cut short: it begins with a header of"
        f" {length} bytes, and 8 follow"
    )


def test_no_header_is_larger_than_the_format_allows(file):
    with file.open("wb") as hole:
        hole.write(struct.pack("<Q", MAX_HEADER + 1))
        hole.truncate(MAX_HEADER + 100)
    assert f"begins with a header of {MAX_HEADER + 1} bytes" in refusal(file)


@pytest.mark.parametrize(
    ("start", "hint"),
    [
        (b"PK\x03\x04" + b"\0" * 60, " (it looks like a file of torch.save)"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", " (it looks like a file of torch.save)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            " (it looks like a pointer of Git LFS: fetch the file itself)",
        ),
        (b"", ""),
        (b"\0", ""),
        (b"<!DOCTYPE html>", ""),
    ],
)
def test_other_files(file, start, hint):
    file.write_bytes(start)
    assert refusal(file).endswith(f" follow{hint}")


def test_cut_short_at_every_byte(file):
    save_file({"a": torch.arange(3.0), "b": torch.tensor(True)}, file)
    whole = file.read_bytes()
    assert len(whole) < 300
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert refusal(file)
    file.write_bytes(whole + b"\0")
    assert refusal(file) == "1 bytes at the end belong to no tensor"


def test_what_can_not_be_read(tmp_path):
    assert refusal(tmp_path / "no.safetensors") == "can't be read: No such file or directory"
    assert refusal(tmp_path) == "is no file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_that_nobody_writes_to(file):
    os.mkfifo(file)
    assert refusal(file) == "is no file"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there are no devices")
def test_a_file_without_end(file):
    file.symlink_to("/dev/zero")
    assert refusal(file) == "is no file"


def test_repeats_in_a_large_object(file):
    pairs = ",".join(f'"{n}":0' for n in [*range(2000), 77])
    with pytest.raises(CheckpointError, match="it has the key 77 twice"):
        load_json(file, f"{{{pairs}}}".encode(), "it")


def agrees(path):
    """Whether the file is accepted; then safetensors reads the same of it."""
    try:
        found = read_header(path)
    except CheckpointError:
        return False
    with safe_open(path, "pt") as opened:
        assert sorted(opened.keys()) == sorted(found)
        for key, info in found.items():
            piece = opened.get_slice(key)
            assert piece.get_dtype() == info.dtype
            assert tuple(piece.get_shape()) == info.shape
            # Of these torch has no dtypes, or not in every version.
            if info.dtype[:2] not in ("F4", "F6") and "FNUZ" not in info.dtype:
                assert tuple(opened.get_tensor(key).shape) == info.shape
    return True


dimensions = st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**62, 2**63, 1.0, True, None])
whole = st.lists(st.integers(0, 3), max_size=4) | st.lists(dimensions, max_size=4)
names = st.sampled_from(["a", "b", "c", "__metadata__", "é", ""]) | st.text(max_size=3)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BITS, "F31"]),
        "shape": whole,
        "data_offsets": st.tuples(st.integers(0, 12), st.integers(0, 12)).map(list),
    }
)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def plausible(draw):
    """Headers whose offsets are right, or nearly so."""
    header, reached = {}, 0
    for name in draw(st.lists(names, max_size=4)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        dtype = draw(st.sampled_from(list(BITS)))
        bits = BITS[dtype]
        for length in shape:
            bits *= length
        end = reached + bits // 8
        wrong = draw(st.sampled_from([0] * 20 + [-1, 1]))
        header[name] = entry(dtype, shape, (reached, max(end + wrong, 0)))
        reached = end
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.just({"a": "b"}) | junk)
    return header, max(reached + draw(st.sampled_from([0] * 10 + [-1, 1])), 0)


@given(plausible())
@FEW
def test_fuzzed_headers_agree_or_are_refused(tmp_path, given):
    header, size = given
    agrees(as_file(tmp_path / "f.safetensors", header, bytes(size)))


@given(st.dictionaries(names, entries | junk, max_size=3) | junk, st.integers(0, 12))
@FEW
def test_wilder_headers(tmp_path, header, size):
    agrees(as_file(tmp_path / "f.safetensors", header, bytes(size)))


@given(st.binary(max_size=60), st.integers(0, 70))
@FEW
def test_any_bytes(tmp_path, content, length):
    path = tmp_path / "f.safetensors"
    path.write_bytes(content)
    agrees(path)
    agrees(as_file(path, content, b"", length))


@given(st.data())
@FEW
def test_one_byte_changed(tmp_path, data):
    path = tmp_path / "f.safetensors"
    text = json.dumps(
        {"a": entry("BF16", (2, 2)), "b": entry("I8", (0,), (8, 8)), "__metadata__": {"c": "d"}}
    ).encode()
    content = bytearray(as_file(path, text).read_bytes())
    assert agrees(path)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(
        st.sampled_from(list(b'0123456789-+eE.,:"[]{} \\ntu\0')) | st.integers(0, 255)
    )
    path.write_bytes(content)
    agrees(path)


def test_a_disk_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path)

    class Failing:
        def read(self, count):
            raise OSError(5, "Input/output error")

        def fileno(self):
            return os.open(path, os.O_RDONLY)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("dtype_sampler.weights.header.open_file", lambda *_: Failing())
    with pytest.raises(CheckpointError, match=r"x\.safetensors: can't be read: Input/output error"):
        read_header(path)


def test_a_file_that_goes_while_it_is_looked_at(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path)

    def check(real):
        assert real == path.resolve()
        path.unlink()

    with pytest.raises(CheckpointError, match=r"x\.safetensors: can't be read: No such file"):
        read_header(path, check)
