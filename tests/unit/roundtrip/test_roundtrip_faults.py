"""Each kind of fault is caught, with the right counterexample; a good device has none."""

from __future__ import annotations

import queue
import sys
import textwrap
import types

import faulty_device as faulty
import pytest
import torch
from faulty_device import FaultyDevice

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip import apart as survey_apart_module
from dtype_sampler.roundtrip import survey
from dtype_sampler.roundtrip.apart import survey_apart
from dtype_sampler.roundtrip.catalogue import ACCELERATORS, KINDS, TRANSPORT, TRIPS
from dtype_sampler.roundtrip.model import BROKEN, CRASHED, OK, UNSUPPORTED, Outcome, Survey

USUAL = (
    "bool",
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "int8",
    "uint8",
    "int32",
)


def outcome(measured: Survey, key: str) -> Outcome:
    found = [one for one in measured.outcomes if one.key == key]
    assert len(found) == 1, (key, [one.key for one in measured.outcomes])
    return found[0]


def messages(measured: Survey) -> list[str]:
    return [one.message for one in measured.faults]


def differences(device: Survey, host: Survey) -> list[str]:
    """Broken on the device, and not on the host."""
    there = {one.key for one in host.outcomes if one.verdict == BROKEN}
    return [
        one.message for one in device.outcomes if one.verdict == BROKEN and one.key not in there
    ]


@pytest.fixture(scope="module")
def host() -> Survey:
    return survey("cpu")


def test_a_good_device_has_no_fault_that_the_host_has_not(host):
    good = survey(FaultyDevice(claims=host.dtypes))
    # Integers below 8 bits can't be copied on this host, and so not on the fake device either.
    lacking = {one.dtype for one in host.of(trip="copy") if one.verdict == UNSUPPORTED}
    found = [m for m in differences(good, host) if m.partition(" ")[0] not in lacking]
    assert found == []
    assert good.dtypes == host.dtypes
    assert {trip.name for trip in good.trips} >= {"copy", "copy-nonblocking", "agreement", "claims"}
    assert good.policies == host.policies


def test_every_trip_is_made_somewhere(host):
    made = {trip.name for trip in host.trips}
    elsewhere = {"copy-peer", "agreement", "claims", "cast-back", "dlpack-cupy"}
    # On request.
    elsewhere |= {"copy-4gib", "compiled"}
    # Only where it is installed.
    assert {trip.name for trip in TRIPS} - made - {"dlpack-jax"} == elsewhere
    there = {t.name for t in TRIPS if t.where == ACCELERATORS}
    assert there == {"agreement", "cast-back", "dlpack-cupy"}


def test_dropping_the_sign_of_zero_is_found_by_the_plain_copy():
    found = survey(FaultyDevice(on_send=faulty.drops_negative_zero), dtypes=["bfloat16", "float32"])
    copied = outcome(found, "bfloat16 copy")
    assert copied.message == (
        "bfloat16 cpu→fake:0→cpu: 1 of 65536 patterns differs, first 0x8000 → 0x0000"
    )
    # Everything else that it breaks is laid to the copy's account.
    assert [one.key for one in found.faults] == ["bfloat16 copy", "float32 copy"]
    assert outcome(found, "bfloat16 embedding float32").cause == "bfloat16 copy"


def test_quietening_nans_is_found_by_the_plain_copy():
    found = survey(FaultyDevice(on_send=faulty.quietens_nans), dtypes=["bfloat16", "float16"])
    assert messages(found) == [
        "float16 cpu→fake:0→cpu: 1022 of 65536 patterns differ, first 0x7c01 → 0x7e01",
        "bfloat16 cpu→fake:0→cpu: 126 of 65536 patterns differ, first 0x7f81 → 0x7fc1",
    ]
    # A cast may do that to a NaN.
    assert outcome(found, "float16 narrowing bfloat16").verdict == OK


def test_flipping_a_byte_at_odd_positions_is_found_with_the_position():
    device = FaultyDevice(on_send=faulty.flips_a_byte_at_odd_positions)
    found = survey(device, dtypes=["int8", "int16"], kinds=[TRANSPORT])
    assert messages(found) == [
        "int8 cpu→fake:0→cpu: 128 of 256 patterns differ, first 0x01 → 0xfe at position 1",
        "int16 cpu→fake:0→cpu: 32768 of 65536 patterns differ, first 0x0001 → 0x00fe at position 1",
    ]
    # One element has no odd position.
    assert outcome(found, "int8 copy-one").verdict == OK
    assert outcome(found, "int8 copy-offset").cause == "int8 copy"


def test_a_copy_back_that_writes_nothing_is_found_by_the_poison():
    found = survey(
        FaultyDevice(silent=["float64"]), dtypes=["float64", "float32"], kinds=[TRANSPORT]
    )
    copied = outcome(found, "float64 copy")
    assert copied.verdict == BROKEN
    assert copied.first is not None
    assert copied.first.got == 0xA5A5A5A5A5A5A5A5
    assert copied.differing == copied.tried > 4000
    assert [one.key for one in found.faults] == ["float64 copy"]


def test_non_blocking_copies_that_copy_nothing_are_found():
    found = survey(FaultyDevice(lost=True), dtypes=["int32"])
    assert [one.key for one in found.faults] == ["int32 copy-nonblocking"]
    assert "(non-blocking)" in messages(found)[0]


def test_a_fault_of_strided_copies_is_found_by_that_trip():
    found = survey(FaultyDevice(strided=faulty.rotates), dtypes=["int32"])
    assert [one.key for one in found.faults] == ["int32 copy-strided"]


def test_a_refused_dtype_is_unsupported_with_the_words_of_the_refusal():
    found = survey(FaultyDevice(refuses=["float64"]), dtypes=["float64", "float32"])
    copied = outcome(found, "float64 copy")
    assert copied.verdict == UNSUPPORTED
    assert copied.message == (
        "float64 cpu→fake:0→cpu: refused: Cannot convert a fake tensor to float64"
    )
    assert outcome(found, "float32 embedding float64").verdict == UNSUPPORTED
    assert found.verdict("float64", "copy") == UNSUPPORTED
    assert found.verdict("float64", "layout") is None
    assert found.faults == ()


def test_a_claim_that_does_not_hold_is_broken():
    device = FaultyDevice(refuses=["float64"], claims=["float64", "float32"])
    found = survey(device, dtypes=["float64", "float32", "int8"])
    claim = outcome(found, "float64 claims")
    assert claim.verdict == BROKEN
    assert claim.words == "claimed, but copy is refused: Cannot convert a fake tensor to float64"
    # It can't be cast to float64 either, which was claimed as well.
    assert outcome(found, "float32 claims").verdict == BROKEN
    assert outcome(found, "int8 claims").verdict == OK
    assert outcome(found, "int8 claims").words == "not claimed, but it works"


def test_what_goes_out_and_does_not_come_back_is_broken():
    found = survey(FaultyDevice(keeps=["int8"]), dtypes=["int8"], kinds=[TRANSPORT])
    assert messages(found) == [
        "int8 cpu→fake:0→cpu: did not come back: fake: int8 can't be copied to the host"
    ]
    assert {one.half for one in found.of(trip="copy")} == {"back"}


def test_an_internal_assert_is_broken_even_on_the_way_out():
    found = survey(FaultyDevice(asserts_on=["int8"]), dtypes=["int8"], kinds=[TRANSPORT])
    assert messages(found)[0].startswith(
        "int8 cpu→fake:0→cpu: failed on the way out: false INTERNAL"
    )
    assert len(found.faults) == 1


def test_flushed_subnormals_are_no_identity_and_no_agreement(host):
    found = survey(
        FaultyDevice(before_cast=faulty.flushes_subnormals, on_cast=faulty.flushes_subnormals),
        dtypes=USUAL,
    )
    embedded = outcome(found, "float16 embedding float32")
    assert embedded.message == (
        "float16→float32→float16 on fake:0: 2046 of 65536 patterns differ, first 0x0001 → 0x0000"
    )
    # What is flushed by policy is no fault of rounding; that the host has another policy is one.
    agreed = outcome(found, "float32 agreement float16")
    assert agreed.verdict == BROKEN
    assert agreed.words == "subnormal results are flushed to zero on fake:0, kept on cpu"
    assert any(
        policy.name == "subnormals" and policy.value == "flushed to zero"
        for policy in found.policies
    )
    # One cause, one report: the other embeddings of the dtype point to the first.
    assert outcome(found, "float16 embedding float64").cause == "float16 embedding float32"


def test_subnormals_wrong_in_odd_lanes_only_are_found():
    """As on Blackwell, pytorch issue 177870."""
    device = FaultyDevice(on_cast=faulty.flushes_at_odd_positions)
    found = survey(device, dtypes=["float32", "float8_e5m2"])
    narrowed = outcome(found, "float32 narrowing float8_e5m2")
    assert narrowed.verdict == BROKEN
    assert narrowed.first is not None
    assert narrowed.first.got == 0
    dependent = [outcome(found, f"float32 {trip} float8_e5m2") for trip in ("position", "company")]
    assert BROKEN in {one.verdict for one in dependent}


def test_another_policy_than_the_hosts_is_broken():
    found = survey(
        FaultyDevice(on_cast=faulty.overflows_to_nan), dtypes=["float16", "float8_e4m3fn"]
    )
    agreed = outcome(found, "float16 agreement float8_e4m3fn")
    if outcome_on_host("float16", "float8_e4m3fn") == "NaN":
        pytest.skip("this torch overflows to NaN itself")
    assert agreed.verdict == BROKEN
    assert "a finite value too large becomes NaN on fake:0" in agreed.words
    assert "the largest finite value on cpu" in agreed.words


def outcome_on_host(dtype: str, other: str) -> str:
    policies = survey("cpu", dtypes=[dtype, other], kinds=["narrowing"]).policies
    return next(
        one.value
        for one in policies
        if (one.name, one.dtype, one.other_dtype) == ("overflow", dtype, other)
    )


def test_values_changed_on_the_way_and_changed_back_are_found():
    device = FaultyDevice(on_cast=faulty.reads_uint8_as_signed)
    found = survey(device, dtypes=["uint8", "int16"], kinds=["embedding"])
    (message,) = messages(found)
    assert message == (
        "uint8→int16→uint8 on fake:0: 128 of 256 patterns differ, first 0x80 → 0xff80, not 0x0080;"
        " changed in int16, and back again"
    )


WORKER = """
    from faulty_device import FaultyDevice
    from dtype_sampler.roundtrip.worker import main
    main(lambda name: FaultyDevice({arguments}))
"""


def apart(arguments: str, **options) -> Survey:
    worker = textwrap.dedent(WORKER).format(arguments=arguments)
    dtypes = options.pop("dtypes", ("float32", "bfloat16", "int8"))
    return survey_apart("fake:0", dtypes, options.pop("kinds", KINDS), worker=worker, **options)


def test_a_process_that_dies_has_crashed_in_its_cell_and_the_survey_goes_on():
    found = apart("dies_of='bfloat16'", kinds=[TRANSPORT])
    (died,) = found.faults
    assert (died.key, died.verdict) == ("bfloat16 copy", CRASHED)
    assert died.message.startswith("bfloat16 cpu→fake:0→cpu: the process was killed by SIGABRT")
    assert outcome(found, "int8 copy").verdict == OK
    assert outcome(found, "float32 save-legacy").verdict == OK
    assert found.notes == ("1 of its processes died, each in a trip marked as crashed",)
    # Its other trips start with the same copy.
    assert [one.trip for one in found.of(dtype="bfloat16")] == ["copy"]
    assert found.device_name == "A device in pure Python"


def test_a_process_that_says_nothing_is_given_up(monkeypatch):
    """No clock runs here: that the time is up is said where the process is known to hang."""
    waited = []

    class Lines(queue.Queue):
        last = ""

        def get(self, *, timeout):
            waited.append(timeout)
            if all(word in self.last for word in ('"start"', '"bfloat16"', '"copy"')):
                raise queue.Empty
            self.last = super().get() or ""
            return self.last or None

    monkeypatch.setattr(
        survey_apart_module, "queue", types.SimpleNamespace(Queue=Lines, Empty=queue.Empty)
    )
    found = apart("hangs_on='bfloat16'", kinds=[TRANSPORT], patience=2)
    # Two processes: the first one hangs. Until it has said a word it is starting.
    assert waited.count(survey_apart_module.STARTING) == 2
    assert set(waited) == {survey_apart_module.STARTING, 2}
    (died,) = found.faults
    assert died.words == "the process said nothing for 2 s"
    assert outcome(found, "int8 copy").verdict == OK


def test_a_device_that_is_unusable_after_an_error_gets_another_process():
    found = apart("breaks_on='bfloat16'", dtypes=("float32", "bfloat16"))
    crashed = [one for one in found.outcomes if one.verdict == CRASHED]
    assert [one.key for one in crashed] == [
        # Its way back is by the same cast.
        "bfloat16 embedding float32",
        "float32 narrowing bfloat16",
    ]
    assert crashed[0].words == "fake error: a kernel failed; the device is unusable after it"
    assert outcome(found, "bfloat16 copy").verdict == OK


def test_a_process_of_its_own_finds_what_this_one_finds():
    here = survey(FaultyDevice(on_send=faulty.drops_negative_zero), dtypes=["bfloat16", "int8"])
    there = apart(
        "on_send=__import__('faulty_device').drops_negative_zero", dtypes=["bfloat16", "int8"]
    )
    assert [(one.key, one.verdict, one.message, one.cause) for one in there.outcomes] == [
        (one.key, one.verdict, one.message, one.cause) for one in here.outcomes
    ]
    assert there.policies == here.policies
    assert there.versions == here.versions


def test_a_process_that_dies_at_once_is_said_in_one_line():
    with pytest.raises(
        DtypeSamplerError, match="the process exited with code 3 before its first trip"
    ):
        survey_apart("fake:0", ["int8"], KINDS, worker="import sys; sys.exit(3)")


def test_a_survey_leaves_the_process_as_it_was():
    import random
    import warnings

    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    torch.manual_seed(7)
    state, python_state = torch.get_rng_state(), random.getstate()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(2)
        try:
            survey("cpu", dtypes=["float32", "complex64", "float8_e5m2"], quantized=True)
            assert torch.get_default_dtype() is torch.float64
            assert torch.get_num_threads() == 2
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_num_threads(threads)
        assert warnings.filters == filters
    assert seen == []
    assert torch.is_grad_enabled() is grad
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python_state


@pytest.mark.parametrize(
    "surroundings",
    [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")],
    ids=["inference", "no-grad", "default device"],
)
def test_what_surrounds_a_survey_is_no_matter(surroundings, host):
    with surroundings():
        inside = survey("cpu", dtypes=["bfloat16", "complex32", "int4"])
    for one in inside.outcomes:
        assert one.verdict == outcome(host, one.key).verdict, one.message


def test_an_unknown_dtype_or_kind_or_device_is_said_in_one_line():
    with pytest.raises(
        DtypeSamplerError, match=r"unknown dtype 'bfloat61'.*did you mean 'bfloat16'"
    ):
        survey("cpu", dtypes=["bfloat61"])
    with pytest.raises(DtypeSamplerError, match="unknown kind of trip 'transports'"):
        survey("cpu", kinds=["transports"])
    with pytest.raises(DtypeSamplerError, match="can't use the device 'warp' here"):
        survey("warp")
    with pytest.raises(DtypeSamplerError, match=r"there is none here.*found: cpu"):
        survey("mtia:3" if not torch.accelerator.is_available() else "mtia:99")


def test_importing_the_package_imports_no_torch(pytestconfig):
    import subprocess

    source = pytestconfig.rootpath / "src"
    code = (
        "import sys; import dtype_sampler.roundtrip as r; r.Survey;"
        "assert not {'torch', 'numpy', 'safetensors', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(source)})


def test_devices_and_dtypes_are_as_good_as_their_names():
    by_name = survey("cpu", dtypes=["float16"], kinds=["names"])
    for dtypes in (torch.float16, "torch.float16", [torch.float16]):
        measured = survey(torch.device("cpu"), dtypes=dtypes, kinds="names")
        assert [one.key for one in measured.outcomes] == [one.key for one in by_name.outcomes]


@pytest.mark.parametrize("device", [None, 5, torch.float16])
def test_what_is_no_device(device):
    with pytest.raises(DtypeSamplerError, match=r"^.+ is no device: write 'cpu' or 'cuda:1'"):
        survey(device, dtypes=["float16"])
