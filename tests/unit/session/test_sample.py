"""What a running test is handed out, and what it may ask of it.

Long, as whatever is asked of a sample changes what the same running test then tells of itself.
"""

from __future__ import annotations

import random
from threading import Thread

import numpy as np
import pytest
import torch

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip.support import (
    accelerator,
    check_device,
    device_in_use,
    device_type,
    refusal,
)
from dtype_sampler.sampling.candidates import Pool
from dtype_sampler.sampling.plan import RunPlan
from dtype_sampler.sampling.sample import DtypeSample, UnderTest
from dtype_sampler.session.current import innermost, running
from dtype_sampler.session.draw import draw, why_nothing
from dtype_sampler.session.request import check_k
from dtype_sampler.session.running import RunningTest
from dtype_sampler.session.seeding import reseed

SEVEN = [
    *("float16", "bfloat16", "float32", "auto"),
    *(torch.float16, torch.bfloat16, torch.float32),
]


def a_test(**plan):
    return RunningTest(RunPlan(plan.pop("seed", 0), "random", **plan), "t.py::t")


def ask(test, k=None, dtypes=None, always=(), exclude=(), device=None):
    return test.sample(k, dtypes, always, exclude, device)


def entered(test):
    wire = test.to_wire()
    return [list(sample["entered"]) for sample in wire["samples"]], list(wire["under_test"])


class TestSequence:
    def test_in_declared_order_with_a_telling_repr(self):
        sample = ask(a_test(), 7, SEVEN)
        assert isinstance(sample, DtypeSample)
        assert list(sample) == SEVEN
        assert len(sample) == 7
        sample = ask(a_test(seed=1234), 2, ["auto", torch.float16])
        assert repr(sample) == "<DtypeSample ['auto', torch.float16] seed=1234>"

    def test_looking_hands_nothing_out(self):
        test = a_test()
        sample = ask(test, 7, SEVEN)
        assert "auto" in sample
        assert 5 not in sample
        assert sample.index(torch.float16) == 4
        assert sample.index("bfloat16", 1) == 1
        with pytest.raises(ValueError, match="not in tuple"):
            sample.index("auto", 0, 2)
        assert sample.count("auto") == 1
        assert len(sample[1:3]) == 2
        assert list(sample[:0]) == []
        assert repr(sample)
        assert entered(test) == ([[]], [])

    def test_by_number(self):
        test = a_test()
        sample = ask(test, 7, SEVEN)
        assert sample[3] == "auto"
        assert sample[-1] is torch.float32
        assert entered(test) == ([["auto", "torch.float32"]], ["torch.float32"])
        with pytest.raises(IndexError):
            sample[7]

    def test_backwards_and_in_parts(self):
        sample = ask(a_test(), 7, SEVEN)
        assert list(reversed(sample)) == SEVEN[::-1]
        assert list(sample[::2]) == SEVEN[::2]


class TestUnderTest:
    def test_follows_the_loop(self):
        test = a_test()
        seen = []
        for label in ask(test, 3, list("abc")):
            seen.append((label, entered(test)))
        assert seen == [
            ("a", ([["a"]], ["a"])),
            ("b", ([["a", "b"]], ["b"])),
            ("c", ([["a", "b", "c"]], ["c"])),
        ]
        assert entered(test) == ([["a", "b", "c"]], [])

    def test_it_is_apart_where_threads_have_different_labels(self):
        under_test = UnderTest()
        kept = []

        def enter(label):
            kept.append(loop := iter(ask(a_test(), 1, ["a"])))
            under_test.enter(loop, label)

        assert not under_test.apart
        enter("a")
        enter("b")
        # Loops within loops are one thread's.
        assert not under_test.apart
        (thread := Thread(target=enter, args=("a",))).start()
        thread.join()
        assert under_test.apart
        under_test.clear()
        enter("a")
        (thread := Thread(target=enter, args=("a",))).start()
        thread.join()
        assert not under_test.apart

    def test_what_a_loop_left_stays_in_a_thread_of_the_test_alone(self):
        under_test = UnderTest()

        def take_two():
            sample = ask(a_test(), 2, ["a", "b"])
            for label in ("b", "a"):
                # Nobody has the loop any more once the next one begins.
                under_test.enter(iter(sample), label)
            return under_test.labels()

        assert take_two() == ("a",)
        under_test.clear()
        (thread := Thread(target=take_two)).start()
        thread.join()
        assert under_test.labels() == ("a", "b")
        assert under_test.around() == []

    def test_a_loop_around_that_is_over_ends_when_the_one_in_it_goes_on(self):
        under_test = UnderTest()
        outer, inner = (iter(ask(a_test(), 1, ["a"])) for _ in range(2))
        under_test.enter(outer, "a")
        under_test.enter(inner, "b")
        assert under_test.labels() == ("a", "b")
        del outer
        under_test.enter(inner, "c")
        assert under_test.labels() == ("c",)
        assert under_test.holds(inner)

    def test_an_exception_finds_it(self):
        test = a_test()

        def body():
            for label in ask(test, 3, list("abc")):
                if label == "b":
                    raise RuntimeError

        with pytest.raises(RuntimeError):
            body()
        assert entered(test) == ([["a", "b"]], ["b"])

    def test_a_loop_that_was_left_is_forgotten_by_the_next(self):
        test = a_test()
        for label in ask(test, 3, list("abc")):
            if label == "b":
                break
        assert entered(test)[1] == ["b"]
        for _ in ask(test, 2, list("xy")):
            break
        assert entered(test)[1] == ["x"]

    def test_loops_within_loops(self):
        test = a_test()
        outer = iter(ask(test, 2, list("ab")))
        next(outer)
        for label in ask(test, 2, list("xy")):
            assert entered(test)[1] == ["a", label]
        assert entered(test)[1] == ["a"]
        inner = iter(ask(test, 2, list("xy")))
        next(inner)
        next(outer)
        assert entered(test)[1] == ["b"]

    def test_one_dtype_in_two_loops_is_one(self):
        test = a_test()
        outer = iter(ask(test, 2, list("ab")))
        inner = iter(ask(test, 2, list("ab")))
        assert next(outer) == next(inner)
        assert entered(test) == ([["a"]], ["a"])

    def test_a_retry_starts_anew_with_the_same_sample(self):
        test = a_test()
        first = list(ask(test, 3, SEVEN))
        test.begin_attempt()
        assert test.to_wire() is None
        assert list(ask(test, 3, SEVEN)) == first

    def test_an_item_is_under_test_all_the_time(self):
        test = a_test()
        record = draw(test.plan, "key", Pool.of(SEVEN), k=3, always=(), full=False, device=None)
        test.enter_item(record, "auto", ["t.py::t"])
        for _ in ask(test, 1, ["x"]):
            assert test.under_test.labels() == ("auto", "x")
        wire = test.to_wire()
        assert wire["under_test"] == ("auto",)
        assert wire["function"] == ("t.py::t",)
        assert wire["samples"][0]["chosen"] == ("auto",)
        assert wire["samples"][0]["entered"] == ("auto",)
        assert record.entered == {}


class TestRequests:
    def test_the_default_pool_and_k(self):
        assert set(ask(a_test(), 9)) == {
            *(torch.float16, torch.bfloat16),
            *(torch.float32, torch.float64),
        }
        assert len(ask(a_test())) == 3
        assert len(ask(a_test(k=2))) == 2
        assert list(ask(a_test(pool=("bool", "int8")))) == [torch.bool, torch.int8]

    def test_the_same_question_gives_the_same_answer(self):
        test = a_test()
        assert list(ask(test, 3, SEVEN)) == list(ask(test, 3, tuple(SEVEN)))
        assert len(test.to_wire()["samples"]) == 1
        ask(test, 2, SEVEN)
        assert len(test.to_wire()["samples"]) == 2

    def test_always_and_exclude(self):
        for seed in range(7):
            sample = ask(a_test(seed=seed), 3, SEVEN, always=["auto"], exclude=[torch.float32])
            assert "auto" in sample
            assert torch.float32 not in sample
            assert len(sample) == 3

    def test_the_full_matrix(self):
        assert list(ask(a_test(all_dtypes=True), 1, SEVEN)) == SEVEN
        exempt = RunningTest(RunPlan(0, "random"), "t", full=True)
        assert list(ask(exempt, 1, SEVEN)) == SEVEN

    def test_only(self):
        assert list(ask(a_test(only=("bfloat16",)), 1, SEVEN)) == ["bfloat16", torch.bfloat16]
        assert list(ask(a_test(only=("torch.bfloat16",)), 3, SEVEN)) == [torch.bfloat16]
        # An explicit wish is not cut down to k.
        only = ("float16", "bfloat16", "auto")
        assert len(ask(a_test(only=only), 1, SEVEN)) == 5

    def test_only_dtypes_that_the_test_does_not_declare(self):
        import unittest

        with pytest.raises(
            unittest.SkipTest, match="--dtype-only=int8: this test declares float16"
        ):
            ask(a_test(only=("int8",)), 3, SEVEN)

    @pytest.mark.parametrize("k", [0, -1, 1.0, "3", True, [3]])
    def test_k_must_be_a_positive_integer(self, k):
        with pytest.raises(DtypeSamplerError, match=r"^k=.*an integer from 1 on"):
            ask(a_test(), k)

    def test_k_of_other_integer_types(self):
        assert check_k(np.int64(2), 3) == 2
        assert type(check_k(np.int64(2), 3)) is int

    @pytest.mark.parametrize(
        ("dtypes", "message"),
        [
            ("flaoting", "unknown pool 'flaoting': did you mean 'floating'"),
            ("bfloat16", r"is a dtype, not a pool: write dtypes=\['bfloat16'\]"),
            ([], "empty"),
            ([torch.half, torch.float16], "twice"),
            ([object()], "no stable name"),
        ],
    )
    def test_wrong_pools(self, dtypes, message):
        with pytest.raises(DtypeSamplerError, match=message):
            ask(a_test(), 3, dtypes)

    def test_always_must_leave_room(self):
        with pytest.raises(DtypeSamplerError, match="would never run"):
            ask(a_test(), 3, SEVEN, always=SEVEN[:3])


class TestSupport:
    @pytest.fixture
    def refusing(self, monkeypatch):
        """A device that takes no float64 and no float16."""
        import dtype_sampler.session.draw

        def refusal(device, dtype):
            assert device == "cpu"
            refused = dtype in (torch.float64, torch.float16)
            return f"no {dtype}, sorry" if refused else None

        monkeypatch.setattr(dtype_sampler.session.draw, "refusal", refusal)

    @pytest.mark.usefixtures("refusing")
    def test_what_a_device_refuses_is_passed_over_and_reported(self):
        test = a_test()
        assert list(ask(test, 3)) == [torch.bfloat16, torch.float32]
        assert test.to_wire()["samples"][0]["unsupported"] == {
            "torch.float16": "no torch.float16, sorry",
            "torch.float64": "no torch.float64, sorry",
        }

    @pytest.mark.usefixtures("refusing")
    def test_nothing_left(self):
        import unittest

        with pytest.raises(
            unittest.SkipTest, match=r"cpu supports none of this test's dtypes \(tor"
        ):
            ask(a_test(), 3, [torch.float64])

    @pytest.mark.usefixtures("refusing")
    def test_a_string_is_never_refused(self):
        assert list(ask(a_test(), 3, ["float64"])) == ["float64"]

    def test_a_dtype_that_this_torch_lacks(self, monkeypatch):
        monkeypatch.delattr(torch, "float8_e8m0fnu", raising=False)
        test = a_test(all_dtypes=True)
        assert len(ask(test, 3, "float8")) == 4
        (reason,) = test.to_wire()["samples"][0]["unsupported"].values()
        assert reason == f"torch {torch.__version__} has no torch.float8_e8m0fnu"

    def test_real_devices(self):
        assert refusal("cpu", torch.float8_e4m3fn) is None
        assert refusal("meta", torch.float64) is None
        assert device_in_use("cuda:1") == "cuda:1"
        assert device_type("cuda:1") == "cuda"
        check_device("cpu")

    def test_a_device_that_is_not_there(self):
        with pytest.raises(
            DtypeSamplerError, match="can't use the device 'nonsense' here"
        ) as caught:
            check_device("nonsense")
        assert "\n" not in str(caught.value)
        with pytest.raises(DtypeSamplerError, match="can't use the device"):
            ask(a_test(), 3, device="nonsense")

    @pytest.fixture
    def accelerator_meta(self, monkeypatch):
        """A machine whose accelerator is torch's device without memory."""
        accelerator.cache_clear()
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
        yield
        accelerator.cache_clear()

    @pytest.mark.usefixtures("accelerator_meta")
    def test_an_accelerator_is_the_default(self):
        assert device_in_use(None) == "meta"
        test = a_test()
        ask(test, 1)
        assert test.to_wire()["samples"][0]["device"] == "meta"

    @pytest.mark.usefixtures("accelerator_meta")
    def test_its_generators_are_seeded_too(self, monkeypatch):
        seeds = []
        monkeypatch.setattr(torch, "manual_seed", seeds.append)
        reseed(1, "t", "a")
        assert len(seeds) == 1

    def test_without_torch_there_is_the_cpu(self, monkeypatch):
        import sys

        monkeypatch.delitem(sys.modules, "torch")
        assert device_in_use(None) == "cpu"

    @pytest.fixture
    def asked_anew(self):
        """What other tests were told is forgotten, and what this one is told."""
        refusal.cache_clear()
        yield
        refusal.cache_clear()

    @pytest.mark.usefixtures("asked_anew")
    def test_a_refusal_in_the_words_of_torch(self, monkeypatch):
        def empty(*args, **kwargs):
            raise TypeError("float9 is not a thing\nand more")

        monkeypatch.setattr(torch, "empty", empty)
        assert refusal("meta", torch.float16) == "float9 is not a thing"

    @pytest.mark.usefixtures("asked_anew")
    def test_a_refusal_without_words(self, monkeypatch):
        def empty(*args, **kwargs):
            raise NotImplementedError

        monkeypatch.setattr(torch, "empty", empty)
        assert refusal("meta", torch.float16) == "NotImplementedError"


class TestReseeding:
    def data(self):
        return random.random(), np.random.random(), torch.rand(1).item()

    def test_a_dtype_gets_its_data_whatever_runs_beside_it(self):
        def drawn(**plan):
            return {label: self.data() for label in ask(a_test(**plan), 3, SEVEN)}

        alone = drawn(only=("auto",))
        everything = drawn(all_dtypes=True)
        assert alone["auto"] == everything["auto"]
        assert len(set(everything.values())) == 7

    def test_seed_test_and_dtype_all_matter(self):
        def drawn(*identity):
            reseed(*identity)
            return self.data()

        values = {drawn(1, "t", "a"), drawn(2, "t", "a"), drawn(1, "u", "a"), drawn(1, "t", "b")}
        assert len(values) == 4
        assert drawn(1, "t", "a") in values

    def test_it_can_be_switched_off(self):
        test = a_test(reseed=False)
        random.seed(5)
        expected = random.random()
        random.seed(5)
        for _ in ask(test, 1):
            assert random.random() == expected

    def test_modules_that_are_not_loaded_are_left_alone(self, monkeypatch):
        import sys

        monkeypatch.delitem(sys.modules, "torch")
        monkeypatch.delitem(sys.modules, "numpy")
        reseed(1, "t", "a")
        assert "torch" not in sys.modules


def test_the_innermost_test_runs():
    before = innermost()
    one, two = a_test(), a_test()
    with running(one):
        with running(two):
            assert innermost() is two
        assert innermost() is one
    assert innermost() is before


def test_the_reason_names_all():
    plan = RunPlan(0, "random", only=("int8",))
    record = draw(plan, "t", Pool.of("ab"), k=3, always=(), full=False, device=None)
    assert why_nothing(record, plan) == "--dtype-only=int8: this test declares a, b"


def test_what_is_under_test_needs_no_watch():
    under, loop = UnderTest(), lambda: None  # anything that a weak reference can be made of
    around = under.here()
    under.enter(loop, "a")
    under.leave(loop)
    assert under.labels() == ()
    under.enter(loop, "b")
    under.back_to(around)
    assert under.labels() == ()
