"""`@pytest.mark.random_dtypes`: one item per dtype."""

from __future__ import annotations

import pytest


def test_items_with_short_ids(project, ids):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.random_dtypes("dtype", [torch.float16, torch.bfloat16, torch.int8], k=2)
        def test(dtype): assert isinstance(dtype, torch.dtype)
        """,
    )
    assert ids("--all-dtypes") == [
        "test_it.py::test[float16]",
        "test_it.py::test[bfloat16]",
        "test_it.py::test[int8]",
    ]
    covered = set()
    for seed in (8, 9):
        sampled = ids(f"--dtype-seed={seed}")
        assert len(sampled) == 2
        covered.update(sampled)
    assert len(covered) == 3
    result = project.run("--dtype-seed=8")
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test sampled, 2 of 3 cells ran on cpu*"])


def test_every_argument_is_optional(project, ids):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.random_dtypes
        def test_bare(dtype): pass
        @pytest.mark.random_dtypes("dt", k=1)
        def test_named(dt): pass
        @pytest.mark.random_dtypes(dtypes="reduced", k=5)
        def test_pool(dtype): pass
        @pytest.mark.random_dtypes("dtype", "complex", k=2, always=["complex64"], exclude=["chalf"])
        def test_all(dtype): pass
        """,
    )
    assert len(ids("--dtype-seed=0")) == 3 + 1 + 2 + 2
    assert len(ids("--all-dtypes")) == 4 + 4 + 2 + 2
    for seed in range(3):
        assert "test_it.py::test_all[complex64]" in ids(f"--dtype-seed={seed}")
    assert len(ids("--dtype-seed=0", "--dtype-k=1", "-k", "test_bare or test_pool")) == 3


def test_ids_stay_unique_where_a_string_and_a_dtype_clash(project, ids):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.random_dtypes("dtype", ["float16", torch.float16, "auto"])
        def test(dtype): pass
        """,
    )
    assert ids() == [f"test_it.py::test[{name}]" for name in ("float16", "torch.float16", "auto")]


def test_on_a_class_and_a_module_and_with_other_parameters(project, ids):
    project.file(
        "test_it",
        """
        import pytest, torch
        pytestmark = pytest.mark.random_dtypes("dtype", [torch.int8, torch.int16, torch.int32], k=1)
        def test_module(dtype): pass
        @pytest.mark.random_dtypes("dtype", [torch.bool, torch.uint8], k=2)
        class TestC:
            def test_class(self, dtype): pass
            @pytest.mark.random_dtypes(k=4)
            @pytest.mark.parametrize("n", [1, 2])
            def test_own(self, dtype, n): pass
        """,
    )
    found = ids("--dtype-seed=0")
    assert sum("test_module" in one for one in found) == 1
    assert sum("test_class" in one for one in found) == 2
    assert sum("test_own" in one for one in found) == 8
    assert "test_it.py::TestC::test_own[float16-1]" in found


def test_on_a_class_and_a_module_it_leaves_alone_what_does_not_take_the_argument(project):
    project.file(
        "test_it",
        """
        import pytest, unittest
        pytestmark = pytest.mark.random_dtypes("dtype", ["a", "b"], k=1)
        def test_plain(): pass
        def test_other(tmp_path): pass
        @pytest.mark.random_dtypes("dtype", ["c", "d", "e"], k=2)
        class TestC:
            def test_takes(self, dtype): assert dtype in "cde"
            def test_not(self): pass
        class TestU(unittest.TestCase):
            def test_it(self): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(passed=6, deselected=1)
    result.stdout.fnmatch_lines(["dtype-sampler: 1 test sampled, 2 of 3 cells ran on cpu*"])


def test_candidates_with_marks_and_ids_of_their_own(project):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.mark.random_dtypes("dtype", [
            torch.float32,
            pytest.param(torch.float16, marks=pytest.mark.xfail(strict=True), id="half"),
            pytest.param(torch.int8, marks=pytest.mark.skip),
        ])
        def test(dtype): assert dtype is torch.float32
        """,
    )
    result = project.run("-v")
    result.assert_outcomes(passed=1, xfailed=1, skipped=1)
    result.stdout.fnmatch_lines(["*test?half? XFAIL*", "*2 of 3 cells ran*"])


def test_a_dtype_under_a_fixture_of_its_name(project):
    project.file(
        "test_it",
        """
        import pytest, torch
        @pytest.fixture
        def model(dtype): return torch.zeros(1, dtype=dtype)
        @pytest.mark.random_dtypes(k=1)
        def test(model, dtype): assert model.dtype is dtype
        """,
    )
    project.run().assert_outcomes(passed=1, deselected=3)


def test_a_dtype_that_this_torch_lacks_is_reported(project, monkeypatch):
    import torch

    monkeypatch.delattr(torch, "float8_e8m0fnu", raising=False)
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes("dtype", "float8", k=5)
        def test(dtype): pass
        @pytest.mark.random_dtypes("dtype", ["x"])
        def test_other(dtype): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(
        [
            "*5 of 6 cells ran*",
            "dtype-sampler: torch.float8_e8m0fnu is not supported on cpu, 1 cell passed over: *",
        ]
    )


def test_of_a_test_that_cannot_run_one_item_is_skipped(project, monkeypatch):
    import dtype_sampler.session.draw

    monkeypatch.setattr(dtype_sampler.session.draw, "refusal", lambda *_: "no such unit")
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes
        def test(dtype): assert False
        """,
    )
    result = project.run("-rs")
    result.assert_outcomes(skipped=1, deselected=3)
    result.stdout.fnmatch_lines(
        [
            "dtype-sampler: torch.float16 is not supported on cpu, 1 cell passed over: no such*",
            "SKIPPED*cpu supports none of this test's dtypes (torch.float16: no such unit;*",
        ]
    )


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("('other')", "the test has no argument 'other'"),
        ("([torch.float16])", "is no argument name: it comes first"),
        ("('dtype', [torch.half, torch.float16])", "lists torch.float16 twice"),
        ("('dtype', [])", "the pool is empty"),
        ("('dtype', 'floatin')", "unknown pool 'floatin': did you mean 'floating'?"),
        ("('dtype', k='3')", "k='3': k is how many"),
        (
            "(kk=3)",
            "it takes (argname, dtypes, k=, always=, exclude=, device=, scope=), all optional",
        ),
        ("('dtype', always=['float16'], k=1)", "would never run"),
        ("('dtype', always=['float61'])", "did you mean"),
        ("('dtype', [pytest.param(1, 2)])", "holds 2 values instead of one"),
        ("('dtype', torch.half)", "dtypes=torch.float16 is one candidate: write"),
        ("('dtype', {torch.half})", "dtypes= is a set"),
        ("('dtype', device='cuda:x')", "device='cuda:x': no device"),
        ("('dtype', device='nonsense')", "can't use the device 'nonsense'"),
    ],
)
def test_wrong_markers_are_errors_of_the_test_file(project, marker, message):
    project.file(
        "test_it",
        f"""
        import pytest, torch
        @pytest.mark.random_dtypes{marker}
        def test(dtype): pass
        """,
    )
    result = project.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    errors = [line for line in result.outlines if message in line]
    assert errors, result.stdout.str()
    assert errors[0].startswith("test_it.py::test: @pytest.mark.random_dtypes: ")
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*src/dtype_sampler*")


def test_a_marker_cannot_reach_unittest_and_says_so(project):
    project.file(
        "test_it",
        """
        import pytest, unittest
        class Test(unittest.TestCase):
            @pytest.mark.random_dtypes
            def test(self): pass
        class Mixin: pass
        @pytest.mark.random_dtypes
        class TestClass(Mixin, unittest.TestCase):
            def test(self): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*call dtype_sampler.random_dtypes() in the test instead"] * 2)


def test_a_device_that_is_not_here_skips_its_test_alone(project):
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes as ask
        @pytest.mark.random_dtypes(device="xpu")
        def test_items(dtype): pass
        def test_loop(): ask(device="xpu")
        @pytest.mark.random_dtypes(device="auto")
        def test_other(dtype): pass
        """,
    )
    result = project.run("-rs", "--dtype-seed=1")
    result.assert_outcomes(passed=3, skipped=2, deselected=4)
    result.stdout.fnmatch_lines(
        ["SKIPPED [[]1[]] *: xpu supports none * can't use the device 'xpu'*"]
    )


def test_a_pool_of_which_this_torch_has_nothing_is_skipped(project, monkeypatch):
    monkeypatch.delattr("torch.float8_e8m0fnu", raising=False)
    project.ini(dtype_sampler_pool="float8_e8m0fnu")
    project.file("test_it", "import pytest\n@pytest.mark.random_dtypes\ndef test(dtype): assert 0")
    result = project.run("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*torch * has no torch.float8_e8m0fnu*"])


@pytest.mark.parametrize("option", ["--all-dtypes", "--dtype-only=float32", "marker"])
def test_always_fits_where_everything_runs(project, option):
    marker = "@pytest.mark.all_dtypes\n" if option == "marker" else ""
    project.file(
        "test_it",
        f"import pytest\n{marker}@pytest.mark.random_dtypes(k=1, always=['float16'])\n"
        "def test(dtype): pass",
    )
    option = "-q" if option == "marker" else option
    assert project.run(option).ret == 0


def test_what_can_not_be_combined(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes("a", always=["float64"], k=2)
        @pytest.mark.random_dtypes("b", ["float32", "int8"], k=2)
        def test(a, b): pass
        """,
    )
    result = project.run()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: test_it.py::test: always= and device= *"])


def test_a_marker_for_a_module_leaves_its_doctests_alone(project):
    project.file(
        "test_it",
        """
        '''
        >>> 1 + 1
        2
        '''
        import pytest
        pytestmark = pytest.mark.random_dtypes(k=1)
        def test(dtype): pass
        """,
    )
    project.run("--doctest-modules").assert_outcomes(passed=2, deselected=3)


def test_a_parameter_named_device_says_where_support_counts(project):
    """Each device has a sample, and cells, of its own."""
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.random_dtypes("dtype", "floating", k=2)
        @pytest.mark.parametrize("device", ["cpu", "meta"])
        def test_it(device, dtype): pass
        """,
    )
    result = project.run("--dtype-seed=1")
    result.assert_outcomes(passed=4, deselected=4)
    result.stdout.fnmatch_lines(["dtype-sampler: 2 tests sampled, 4 of 8 cells ran on cpu, meta*"])
