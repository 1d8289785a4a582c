"""ini `dtype_sampler_argnames`: suites that were parametrized before, unedited."""

from __future__ import annotations

from collections import Counter

import pytest
from replays import replay_lines


@pytest.fixture
def suite(project):
    project.ini(dtype_sampler_argnames="dtype torch_dtype", dtype_sampler_k="2")
    return project


def functions(ids: list[str]) -> Counter[str]:
    return Counter(one.partition("[")[0].rpartition("::")[2] for one in ids)


def test_by_whatever_means(suite, ids):
    suite.file(
        "test_it",
        """
        import pytest, torch
        FOUR = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

        @pytest.mark.parametrize("dtype", FOUR)
        def test_plain(dtype): pass

        @pytest.mark.parametrize("torch_dtype", ["float16", "bfloat16", "float32"])
        def test_strings(torch_dtype): pass

        @pytest.mark.parametrize("dtype", FOUR, ids=["h", "b", "f", "d"])
        def test_ids(dtype): pass

        @pytest.mark.parametrize("dtype", FOUR, ids=str)
        def test_id_function(dtype): pass

        @pytest.mark.parametrize("n", [1, 2, 3])
        @pytest.mark.parametrize("dtype", FOUR)
        def test_stacked(dtype, n): pass

        @pytest.mark.parametrize("device, dtype", [
            (device, dtype) for device in ("cpu", "meta") for dtype in FOUR])
        def test_combined(device, dtype): pass

        @pytest.mark.parametrize(("dtype", "x"), [(d, [1]) for d in FOUR], ids=list("abcd"))
        def test_unhashable_rows(dtype, x): pass

        @pytest.fixture
        def made(request): return request.param
        @pytest.fixture
        def dtype(request): return request.param
        @pytest.mark.parametrize("dtype", FOUR, indirect=True)
        def test_indirect(dtype): assert dtype in FOUR

        @pytest.fixture(params=FOUR)
        def torch_dtype(request): return request.param
        def test_fixture_params(torch_dtype): pass

        def pytest_generate_tests(metafunc):
            if metafunc.function.__name__ == "test_hook":
                metafunc.parametrize("dtype", FOUR)
        def test_hook(dtype): pass

        class TestC:
            @pytest.mark.parametrize("dtype", [pytest.param(d, id=f"x{d}") for d in FOUR])
            def test_class(self, dtype): pass

        @pytest.mark.all_dtypes
        @pytest.mark.parametrize("dtype", FOUR)
        def test_exempt(dtype): pass

        @pytest.mark.parametrize("n", range(5))
        def test_other(n): pass
        """,
    )
    seeds = [ids(f"--dtype-seed={seed}") for seed in (3, 4)]
    for found in seeds:
        assert functions(found) == {
            "test_plain": 2,
            "test_strings": 2,
            "test_ids": 2,
            "test_id_function": 2,
            "test_stacked": 6,
            "test_combined": 4,
            # Each row has a list of its own, so nothing says that those are the same parameter.
            "test_unhashable_rows": 4,
            "test_indirect": 2,
            "test_fixture_params": 2,
            "test_hook": 2,
            "test_class": 2,
            "test_exempt": 4,
            "test_other": 5,
        }
    full = ids("--all-dtypes")
    assert set(seeds[0]) | set(seeds[1]) == set(full)
    for n in (1, 2, 3):
        assert (
            sum(("test_stacked" in one and f"-{n}]" in one) or f"[{n}-" in one for one in full) == 4
        )
    assert sum("test_combined[cpu-" in one for one in seeds[0]) == 2
    result = suite.run("--dtype-seed=3")
    result.assert_outcomes(passed=len(seeds[0]), deselected=len(full) - len(seeds[0]))


def test_test_keys_leave_out_the_dtypes_part(suite):
    suite.file(
        "test_it",
        """
        import pytest, torch
        TWO = [torch.float16, torch.bfloat16]
        @pytest.mark.parametrize("n", [1, "x-y"])
        @pytest.mark.parametrize("dtype", TWO, ids=["h-1", "b-1"])
        @pytest.mark.parametrize("f", [len, None])
        def test_parts(dtype, n, f): pass
        @pytest.mark.parametrize("device, dtype, o", [("cpu", TWO[0], dict), ("cpu", TWO[1], dict)])
        def test_together(device, dtype, o): pass
        @pytest.mark.parametrize("dtype", TWO)
        def test_alone(dtype): pass
        """,
    )
    keys = collect_keys(suite)
    assert keys == {
        "test_it.py::test_parts[len-1]",
        "test_it.py::test_parts[None-1]",
        "test_it.py::test_parts[len-x-y]",
        "test_it.py::test_parts[None-x-y]",
        "test_it.py::test_together[cpu-dict]",
        "test_it.py::test_alone",
    }


def test_classes_marks_and_odd_names(suite, ids):
    suite.file(
        "test_it",
        r"""
        import pytest
        THREE = ["float16", "float32", "float64"]

        @pytest.mark.parametrize("dtype", THREE)
        class TestClass:
            def test_one(self, dtype): pass
            @pytest.mark.parametrize("n", [1, 2])
            def test_two(self, dtype, n): pass

        @pytest.mark.parametrize("dtype", [
            pytest.param("float16", marks=pytest.mark.skip),
            pytest.param("float32", marks=pytest.mark.xfail(strict=True)),
            "float64"])
        def test_marks(dtype): assert dtype == "float64"

        @pytest.mark.parametrize("n", ["a::b", "[c]", "d e\u00e9/\\"])
        @pytest.mark.parametrize("dtype", THREE, ids=["::16", "[32]", "6 4"])
        def test_odd(dtype, n): assert dtype is None
        """,
    )
    found = {seed: ids(f"--dtype-seed={seed}") for seed in (0, 1)}
    for one in found.values():
        counts = {"test_one": 2, "test_two": 4, "test_marks": 2}
        assert functions([name for name in one if "test_odd" not in name]) == counts
        assert sum("test_odd" in name for name in one) == 6
    # What a mark skips takes no place.
    skipped = {"test_it.py::test_marks[float16]"}
    assert {*found[0], *found[1]} == {*ids("--all-dtypes")} - skipped
    outcomes = suite.run("-k", "test_marks", "--all-dtypes").parseoutcomes()
    assert outcomes == {"passed": 1, "skipped": 1, "xfailed": 1, "deselected": 18}

    result = suite.run("-k", "test_odd", "--dtype-seed=0")
    result.assert_outcomes(failed=6, deselected=15)
    same, only = replay_lines(result)[:2]
    assert suite.run(*same).parseoutcomes()["failed"] == 6
    assert suite.run(*only).parseoutcomes() == {"failed": 1}


def test_patterns(suite, ids):
    suite.ini(dtype_sampler_argnames="*dtype* dt?", dtype_sampler_k="1")
    suite.file(
        "test_it",
        """
        import pytest
        THREE = ["float16", "float32", "float64"]
        @pytest.fixture(params=THREE)
        def any_real_dtype(request): return request.param
        def test_fixture(any_real_dtype, random_dtypes, dtype_seed): pass
        @pytest.mark.parametrize("dtype_in, dt2", [(a, b) for a in THREE for b in THREE])
        def test_pairs(dtype_in, dt2): pass
        @pytest.mark.parametrize("dt", THREE)
        def test_other(dt): pass
        """,
    )
    assert functions(ids()) == {"test_fixture": 1, "test_pairs": 1, "test_other": 3}


def collect_keys(project, *args: str) -> set[str]:
    keys = set()

    class Spy:
        def pytest_runtest_logreport(self, report):
            # A loop's reports have none before it has begun.
            payload = getattr(report, "dtype_sampler", {"samples": ()})
            keys.update(sample["key"] for sample in payload["samples"])

    project.pytester.inline_run("--all-dtypes", "-p", "no:randomly", *args, plugins=[Spy()])
    return keys


def test_two_dtypes_are_one_candidate(suite, ids):
    suite.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("n", [1, 2])
        @pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
        @pytest.mark.parametrize("torch_dtype", ["float16", "float32"])
        def test_cast(dtype, torch_dtype, n): pass
        """,
    )
    assert len(ids("--dtype-seed=0")) == 4
    covered = {one for seed in range(3) for one in ids(f"--dtype-seed={seed}")}
    assert len(covered) == 12
    # Each of the two is to be the one that was asked for.
    assert ids("--dtype-only=float16") == [
        "test_it.py::test_cast[float16-float16-1]",
        "test_it.py::test_cast[float16-float16-2]",
    ]
    # Of several, each pair; a pair of its own is named in quotes.
    pairs = ids("--dtype-only=float16,float32")
    assert len(pairs) == len(set(pairs)) == 8
    assert not any("int8" in name for name in pairs)
    assert len(ids("--dtype-only='float16,float32'")) == 2


def test_a_name_that_is_half_of_a_pair_is_known(suite):
    suite.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("dtype", ["auto", "float32"])
        @pytest.mark.parametrize("torch_dtype", ["float16", "float32"])
        def test_cast(dtype, torch_dtype): pass
        """,
    )
    suite.run("--dtype-only=auto,float16").assert_outcomes(passed=1, deselected=3)
    result = suite.run("--dtype-only=autoo,float16")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: --dtype-only: unknown candidate 'autoo'*"])


def test_values_without_a_stable_name(suite, ids):
    suite.file(
        "test_it",
        """
        import pytest
        class Config: pass
        @pytest.mark.parametrize("dtype", [Config(), Config(), Config()])
        def test(dtype): pass
        """,
    )
    found = ids("--dtype-seed=0")
    assert len(found) == 2
    assert ids("--dtype-seed=0") == found
    assert {*found, *ids("--dtype-seed=1")} == {f"test_it.py::test[dtype{i}]" for i in range(3)}


def test_values_that_refuse_to_be_hashed_compared_or_shown(suite, ids):
    suite.file(
        "test_it",
        """
        import pytest
        class Unhashable:
            def __hash__(self): raise ValueError("as numpy's generic timedelta64 does")
        class Incomparable:
            def __init__(self, n): self.n = n
            def __hash__(self): return 1
            def __eq__(self, other): raise TypeError("as pandas' timestamps of two zones do")
        class Unprintable:
            def __str__(self): raise NotImplementedError
            __repr__ = __str__
        THREE = ["float16", "float32", "float64"]

        @pytest.mark.parametrize("n", [Unhashable(), Incomparable(1), Incomparable(2)])
        @pytest.mark.parametrize("dtype", THREE)
        def test_others(dtype, n): pass

        @pytest.mark.parametrize("n, dtype", [(Unprintable(), dtype) for dtype in THREE])
        def test_rows(dtype, n): pass

        @pytest.mark.parametrize("dtype", [Unprintable(), Unhashable(), Incomparable(1)])
        def test_candidates(dtype): pass
        """,
    )
    assert functions(ids("--dtype-seed=0")) == {
        "test_others": 6,
        "test_rows": 3,
        "test_candidates": 2,
    }
    suite.run("--dtype-seed=0").assert_outcomes(passed=11, deselected=4)


def test_a_device_that_is_not_here_is_the_suites_own_business(suite):
    suite.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.parametrize("device", ["cpu", "cuda", "a device!"])
        @pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
        def test(device, dtype):
            if device != "cpu": pytest.skip("no such device")
        """,
    )
    suite.run().assert_outcomes(passed=2, skipped=4, deselected=3)


def test_without_torch_no_torch(project):
    project.ini(dtype_sampler_argnames="dtype")
    project.file(
        "test_it",
        """
        import pytest, sys
        @pytest.mark.parametrize("device", ["cpu", "cuda"])
        @pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
        def test(device, dtype): assert "torch" not in sys.modules
        """,
    )
    result = project.run_process()
    result.assert_outcomes(passed=6, deselected=2)
    result.stdout.fnmatch_lines(["dtype-sampler: 2 tests sampled, 6 of 8 cells ran on cpu, cuda *"])


def test_hidden_parameters(suite):
    if not hasattr(pytest, "HIDDEN_PARAM"):
        pytest.skip("pytest 8.4 brought hidden parameters")
    suite.file(
        "test_it",
        """
        import pytest
        @pytest.mark.parametrize("n", [pytest.param(1, id=pytest.HIDDEN_PARAM), 2])
        @pytest.mark.parametrize("dtype", ["float16", "float32"])
        def test(dtype, n): pass
        """,
    )
    assert collect_keys(suite) == {"test_it.py::test[1]", "test_it.py::test[2]"}
