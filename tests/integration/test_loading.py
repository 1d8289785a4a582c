"""How the plugin is loaded, and what it leaves alone when it is not needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "hypothesis", "safetensors", "sqlite3", "numpy")


@pytest.mark.parametrize(
    ("env", "args"),
    [
        ({}, []),
        ({}, ["-p", "dtype_sampler"]),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, ["-p", "dtype_sampler"]),
        ({"PYTEST_PLUGINS": "dtype_sampler"}, []),
        ({"PYTEST_PLUGINS": "dtype_sampler"}, ["-p", "dtype_sampler"]),
        ({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, ["-p", "dtype_sampler", "-p", "xdist", "-n2"]),
        ({}, ["-n2"]),
    ],
    ids=["entry point", "both", "-p alone", "variable", "variable and -p", "-p, xdist", "xdist"],
)
def test_five_ways_give_the_same(project, monkeypatch, env, args):
    project.file("test_it", "def test(random_dtypes, took): took('it', list(random_dtypes(k=2)))")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    result = project.pytester.run(
        sys.executable, "-m", "pytest", "--dtype-seed=5", "-p", "no:randomly", *args
    )
    assert result.ret == 0
    assert result.stdout.str().count("dtype-sampler: --dtype-seed=5") == 1
    assert project.took() == [("it", "[torch.float16, torch.float64]")]


def test_switched_off(project):
    project.file("test_it", "def test(random_dtypes): pass\ndef test_other(): pass")
    result = project.run_process("-p", "no:dtype_sampler")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*fixture 'random_dtypes' not found*"])
    result.stdout.no_fnmatch_line("*dtype-sampler:*")
    assert project.run_process("-p", "no:dtype_sampler", "--dtype-seed=5").ret == 4


def test_switched_off_but_called(project):
    project.file(
        "test_it",
        """
        import unittest
        from dtype_sampler import random_dtypes
        def test(): random_dtypes()
        class Test(unittest.TestCase):
            def test(self): random_dtypes()
        """,
    )
    result = project.run_process("-p", "no:dtype_sampler")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["E *DtypeSamplerError: random_dtypes() works inside a running*"] * 2
    )


@pytest.mark.usefixtures("unmeasured")
def test_a_run_without_dtypes_imports_nothing_and_writes_nothing(project):
    project.file(
        "test_it",
        """
        import pytest, unittest
        @pytest.mark.parametrize("dtype", ["float32", "float64"])
        def test(dtype, tmp_path): pass
        class Test(unittest.TestCase):
            def test(self): pass
        def test_failing(): assert False
        """,
    )
    (project.pytester.path / "show.py").write_text(
        "import json, sys\n"
        "def pytest_unconfigure(config):\n"
        f"    names = {HEAVY}\n"
        "    loaded = [name for name in names if name in sys.modules]\n"
        "    open('../loaded.json', 'w').write(json.dumps(loaded))\n"
    )
    # pytester's own notes of what a process prints.
    before = project.files() | {"stdout", "stderr"}
    loaded = {}
    for side in ("no:dtype_sampler", "dtype_sampler"):
        # Not as a rerun would be, nor with a cache: those write files of pytest's own.
        result = project.run_process("-p", side, "-p", "show", "-p", "no:cacheprovider")
        result.assert_outcomes(passed=3, failed=1)
        path = project.pytester.path.parent / "loaded.json"
        loaded[side] = json.loads(path.read_text())
        assert project.files() == before
    assert loaded["dtype_sampler"] == loaded["no:dtype_sampler"] == []


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("name", ["dtype_sampler", "dtype_sampler.weights"])
def test_importing_the_package_is_light(name):
    code = f"import {name}, sys; print([n for n in {HEAVY} if n in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"


def test_public_names():
    import dtype_sampler.weights

    for package in (dtype_sampler, dtype_sampler.weights):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            package.nonsense  # noqa: B018


def test_a_fixture_scan_does_not_import_lazy_names(project):
    project.file("test_it", "def test(): pass")
    result = project.run_process("--fixtures", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["random_dtypes [[]session scope[]]*", "dtype_seed [[]session scope[]]*"]
    )
    result = project.run_process("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.random_dtypes(*", "@pytest.mark.all_dtypes*"])
    result = project.run_process("--help")
    for option in (
        "--dtype-seed",
        "--all-dtypes",
        "--dtype-k",
        "--dtype-only",
        "dtype_sampler_pool",
    ):
        result.stdout.fnmatch_lines([f"*{option}*"])
