"""The fixture, the function and the fixture `dtype_seed`, in real runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

SEVEN = """
import torch
from dtype_sampler import random_dtypes as ask
SEVEN = ["float16", "bfloat16", "float32", "auto", torch.float16, torch.bfloat16, torch.float32]
"""


def test_three_runs_cover_the_seven(project):
    project.file(
        "test_it", SEVEN + "def test(took):\n  for d in ask(k=3, dtypes=SEVEN): took('t', repr(d))"
    )
    taken = []
    for seed in ("41", "42", "43"):
        result = project.run(f"--dtype-seed={seed}")
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(
            [f"dtype-sampler: 1 test sampled, 3 of 7 cells ran on cpu (--dtype-seed={seed})"]
        )
        taken.append([value for _, value in project.took()])
    assert [len(one) for one in taken] == [3, 3, 3]
    assert len({one for run in taken for one in run}) == 7


def test_one_seed_is_one_sample(project):
    project.file(
        "test_it",
        SEVEN
        + """
def test_fixture(random_dtypes, dtype_seed, took):
    took("fixture", [dtype_seed, *random_dtypes(k=3, dtypes=SEVEN)])
    assert list(random_dtypes(k=3, dtypes=SEVEN)) == list(ask(k=3, dtypes=SEVEN))
""",
    )
    runs = []
    for _ in range(2):
        project.run("--dtype-seed=1234").assert_outcomes(passed=1)
        runs += project.took()
    assert runs[0] == runs[1]
    assert runs[0][1].startswith("[1234, ")


def test_the_projects_own_pool_and_k(project):
    project.ini(dtype_sampler_pool="reduced int8", dtype_sampler_k="2")
    project.file(
        "test_it",
        """
        def test(random_dtypes, took):
            took("default", list(random_dtypes()))
            took("k", len(random_dtypes(k=3)))
        """,
    )
    project.run("--dtype-seed=0").assert_outcomes(passed=1)
    (_, default), (_, k) = project.took()
    assert default.count("torch.") == 2
    assert k == "3"
    project.run("--dtype-seed=0", "--dtype-k=1").assert_outcomes(passed=1)
    assert project.took()[0][1].count("torch.") == 1
    project.run("--all-dtypes", "--dtype-k=1").assert_outcomes(passed=1)
    assert project.took()[0][1] == "[torch.float16, torch.bfloat16, torch.int8]"


def test_settings_in_pytests_own_toml_table(project):
    if pytest.version_tuple < (9, 2):
        pytest.skip("pytest before 9.2 takes strings only")
    project.pytester.makepyprojecttoml(
        """
        [tool.pytest]
        dtype_sampler_k = 1
        dtype_sampler_seed = 77
        dtype_sampler_pool = ["float32", "int8"]
        dtype_sampler_reseed = true
        """
    )
    project.file("test_it", "def test(random_dtypes): assert len(random_dtypes()) == 1")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*--dtype-seed=77 (from the pytest configuration), *k=1, *"])


def test_in_a_fixture_and_in_a_thread(project):
    project.file(
        "test_it",
        """
        import threading, pytest
        from dtype_sampler import random_dtypes as ask
        @pytest.fixture
        def dtypes(): return ask(k=2)
        def test(dtypes):
            seen = []
            thread = threading.Thread(target=lambda: seen.append(list(ask(k=2))))
            thread.start(); thread.join()
            assert seen == [list(dtypes)]
        """,
    )
    project.run().assert_outcomes(passed=1)


def test_all_dtypes_marker_exempts(project):
    project.file(
        "test_it",
        """
        import pytest
        @pytest.mark.all_dtypes
        def test_loop(random_dtypes): assert len(random_dtypes(k=1)) == 4
        @pytest.mark.all_dtypes
        @pytest.mark.random_dtypes(k=1)
        def test_items(dtype): pass
        @pytest.mark.all_dtypes
        class TestC:
            def test_loop(self, random_dtypes): assert len(random_dtypes(k=1)) == 4
        """,
    )
    project.run("--strict-markers").assert_outcomes(passed=6)


def test_outside_a_running_test(project):
    project.file("test_it", "from dtype_sampler import random_dtypes\nrandom_dtypes()")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *random_dtypes() works inside a running test only*"])


def test_a_wrong_argument_points_at_the_test(project):
    project.file("test_it", "def test(random_dtypes):\n    random_dtypes(k=0)\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            # Among the arguments of the test, without an address of ours.
            "random_dtypes = <function random_dtypes of dtype_sampler>",
            ">       random_dtypes(k=0)",
            "E *DtypeSamplerError: k=0: k is how many dtypes*",
            "test_it.py:2: *",
        ]
    )


def test_a_device_that_is_not_there(project):
    project.file("test_it", "def test(random_dtypes): random_dtypes(device='nonsense')")
    result = project.run()
    result.stdout.fnmatch_lines(["E *can't use the device 'nonsense' here*"])


def test_unsupported_dtypes_are_named_in_the_summary(project):
    project.file(
        "test_it",
        """
        import pytest, torch, dtype_sampler.session.draw as draw
        @pytest.fixture(autouse=True, scope="session")
        def refusing():
            def refusal(device, dtype):
                return "this chip has none" if dtype in (torch.float64, torch.int8) else None
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(draw, "refusal", refusal)
                yield
        def test_some(random_dtypes): assert torch.float64 not in list(random_dtypes(k=4))
        def test_none(random_dtypes): random_dtypes(dtypes=[torch.int8, torch.float64])
        """,
    )
    result = project.run("-rs")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "dtype-sampler: 2 tests sampled, 3 of 6 cells ran on cpu*",
            "dtype-sampler: torch.float64 is not supported on cpu, 2 cells passed over: this chip*",
            "dtype-sampler: torch.int8 is not supported on cpu, 1 cell passed over: this*",
            "SKIPPED [[]1] test_it.py:10: cpu supports none of *(torch.int8: this chip has none; *",
        ]
    )


def test_a_device_of_the_configuration_that_is_not_there(project):
    """Though strings are not asked about: nothing can have run there."""
    project.ini(dtype_sampler_device="xpu")
    project.file("test_it", "def test(random_dtypes): random_dtypes(dtypes=['a', 'b'])")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *can't use the device 'xpu' here*"])


class TestPlainUnittest:
    SOURCE = (
        SEVEN
        + """
import random, unittest
class Base:
    def test_it(self):
        for dtype in ask(k=3, dtypes=SEVEN):
            with self.subTest(dtype=dtype):
                print("TOOK", repr(dtype), random.random())
        assert [*ask(k=3, dtypes=SEVEN)] == [*ask(k=3, dtypes=SEVEN)]
class TestModel(Base, unittest.TestCase): pass
class TestOther(Base, unittest.TestCase): pass
class TestAsync(unittest.IsolatedAsyncioTestCase):
    async def test_it(self): assert len(ask(k=2)) == 2
"""
    )

    def unittest(self, project, monkeypatch, **env):
        project.file("test_it", self.SOURCE)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return subprocess.run(
            [sys.executable, "-m", "unittest", "test_it"],
            cwd=project.pytester.path,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_random_seed_is_printed_once(self, project, monkeypatch):
        done = self.unittest(project, monkeypatch)
        assert done.returncode == 0
        assert done.stderr.count("dtype-sampler: DTYPE_SAMPLER_SEED=") == 1
        seed = done.stderr.partition("DTYPE_SAMPLER_SEED=")[2].split()[0]
        again = self.unittest(project, monkeypatch, DTYPE_SAMPLER_SEED=seed)
        assert again.stdout == done.stdout
        assert "TOOK" in again.stdout
        assert "dtype-sampler" not in again.stderr

    def test_the_sample_is_the_one_that_pytest_takes(self, project, monkeypatch):
        done = self.unittest(project, monkeypatch, DTYPE_SAMPLER_SEED="5")
        by_pytest = project.run_process("-s", "--dtype-seed=5")

        def taken(text):
            # The progress dots of pytest run into the lines.
            return [line.partition("TOOK ")[2] for line in text.splitlines() if "TOOK " in line]

        assert len(taken(done.stdout)) == 6
        assert taken(done.stdout) == taken(by_pytest.stdout.str())

    def test_the_full_matrix(self, project, monkeypatch):
        done = self.unittest(project, monkeypatch, DTYPE_SAMPLER_ALL="1")
        assert done.stdout.count("TOOK") == 14

    @pytest.mark.parametrize(
        ("seed", "message"),
        [("abc", "DTYPE_SAMPLER_SEED=abc: no seed"), ("last", "DTYPE_SAMPLER_SEED=last needs")],
    )
    def test_a_wrong_seed(self, project, monkeypatch, seed, message):
        done = self.unittest(project, monkeypatch, DTYPE_SAMPLER_SEED=seed)
        assert done.returncode == 1
        assert f"DtypeSamplerError: {message}" in done.stderr

    def test_a_test_that_changes_the_folder_changes_no_sample(self, project, monkeypatch):
        monkeypatch.setenv("DTYPE_SAMPLER_SEED", "1")
        project.file(
            "test_u",
            """
            import os, tempfile, unittest
            from dtype_sampler import random_dtypes
            class Test(unittest.TestCase):
                def test_a(self): os.chdir(tempfile.gettempdir())
                def test_b(self): print("B", *random_dtypes(k=3, dtypes=[*"abcdefg"]))
            """,
        )
        python = (sys.executable, "-m", "unittest")
        both = project.pytester.run(*python, "test_u").stdout.str()
        assert both.startswith("B ")
        assert both == project.pytester.run(*python, "test_u.Test.test_b").stdout.str()


@pytest.mark.parametrize("ask", ["random_dtypes", "ask"])
def test_parentheses_that_were_forgotten(project, ask):
    project.file(
        "test_it",
        f"""
        from dtype_sampler import random_dtypes as ask
        def test_it(random_dtypes):
            for dtype in {ask}: pass
        """,
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["E *DtypeSamplerError: random_dtypes is to be called: write `for dtype in *`*"]
    )


def test_what_belongs_into_a_marker(project):
    project.file(
        "test_it",
        """
        import pytest
        from dtype_sampler import random_dtypes
        @pytest.mark.parametrize("dtype", random_dtypes(k=2))
        def test_it(dtype): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E *@pytest.mark.random_dtypes('dtype', k=2)*"])


def test_candidates_in_the_place_of_k(project):
    project.file("test_it", "def test(random_dtypes):\n    random_dtypes(['a', 'b'])\n")
    project.run().stdout.fnmatch_lines(["E *k=?'a', 'b'?: k is how many *: the dtypes * dtypes="])
