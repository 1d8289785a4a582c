"""Names that a configuration gives and no test has."""

from __future__ import annotations

import pytest

SUITE = """
import pytest
@pytest.mark.parametrize("dtype", ["a", "b"])
def test_dtype(dtype): pass
@pytest.mark.parametrize("number_", [1, 2])
def test_other(number_): pass
@pytest.fixture
def out_dtype(): return "a"
def test_fixture(out_dtype): pass
"""


@pytest.fixture
def told(project):
    """What a run says of the names; the project has one test over `dtype`."""
    project.pytester.mkdir("sub")
    project.file("sub/test_it", SUITE)
    project.file("test_top", "import pytest\n@pytest.mark.parametrize('m', [1])\ndef test(m): pass")

    def told(argnames: str, *args: str, **ini: str) -> list[str]:
        project.ini(dtype_sampler_argnames=argnames, **ini)
        result = project.run(*args)
        head = "dtype-sampler: dtype_sampler_argnames: "
        return [line.removeprefix(head) for line in result.outlines if line.startswith(head)]

    return told


@pytest.mark.parametrize("xdist", [[], ["-n2"]])
def test_each_name_that_matches_nothing_is_told(told, xdist):
    assert told("dtype", *xdist) == []
    assert told("dtpye *_dtype dtype? nothing_like_it", *xdist) == [
        "dtpye: no test has such an argument, did you mean 'dtype'?",
        "*_dtype: no test is parametrized over out_dtype, which is an argument of tests",
        "dtype?: no test has such an argument, did you mean 'dtype'?",
        "nothing_like_it: no test has such an argument",
    ]
    # Whether others match or not, and whatever they look like.
    assert told("dtype torch_dtype *_dtype nothing_like_it", *xdist) == [
        "torch_dtype: no test has such an argument",
        "*_dtype: no test is parametrized over out_dtype, which is an argument of tests",
        "nothing_like_it: no test has such an argument",
    ]
    assert told("dtype num?ber number", *xdist) == [
        "num?ber: no test has such an argument, did you mean 'number_'?",
        "number: no test has such an argument, did you mean 'number_'?",
    ]
    # What other selections leave out was seen all the same.
    assert told("dtype", "-k", "other", *xdist) == []
    assert told("dtpye", "-k", "other", *xdist) != []


def test_a_part_of_a_suite_may_have_no_such_test(told, project, monkeypatch):
    for part in (["test_top.py"], ["test_top.py::test"], ["--ignore=sub"], ["sub/test_it.py"]):
        assert told("dtpye", *part) == []
    # All of it, in other words.
    path = str(project.pytester.path)
    assert len(told("dtpye", path)) == len(told("dtpye", "sub", ".")) == 1
    assert len(told("dtpye", testpaths="sub")) == len(told("dtpye", "sub", testpaths="sub")) == 1
    assert told("dtype later", "sub", ".") == ["later: no test has such an argument"]
    assert told("dtype later", path, path) == ["later: no test has such an argument"]
    assert told("dtpye", "test_top.py", testpaths="sub") == []
    assert len(told("dtpye", "--collect-only")) == 1
    monkeypatch.chdir(project.pytester.path / "sub")
    assert told("dtpye") == []


@pytest.mark.parametrize("xdist", [[], ["-n2"]])
def test_what_could_not_be_imported_may_have_them(told, project, xdist):
    project.file("test_broken", "import nothing_of_that_name")
    assert told("dtpye", "--continue-on-collection-errors", *xdist) == []
    assert told("dtpye", *xdist) == []


@pytest.mark.parametrize("xdist", [[], ["-n2"]])
def test_a_test_that_ends_with_an_error_was_looked_at(told, project, xdist):
    # Its setup or teardown failed, which hides no argument.
    project.file(
        "test_errors",
        """
        import pytest
        @pytest.fixture(params=["setup", "teardown"])
        def fixture(request):
            if request.param == "setup": raise OSError
            yield
            raise OSError
        def test_error(fixture): pass
        """,
    )
    assert told("dtpye", *xdist) == ["dtpye: no test has such an argument, did you mean 'dtype'?"]


def test_an_empty_set_of_parameters_is_one(told, project):
    project.file(
        "test_empty",
        "import pytest\n@pytest.mark.parametrize('dt', [])\ndef test_empty(dt): pass",
    )
    assert told("dt") == []


@pytest.mark.parametrize("where", ["class", "method", "module"])
def test_a_marker_of_unittest_methods_is_told(project, where):
    mark = "@pytest.mark.random_dtypes('dtype', ['a'])"
    project.file(
        "test_it",
        f"""
        import pytest, unittest
        {"pytestmark = " + mark[1:] if where == "module" else ""}
        {mark if where == "class" else ""}
        class Test(unittest.TestCase):
            {mark if where == "method" else ""}
            def test(self): pass
        """,
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*makes no items here*call dtype_sampler.random_dtypes() in the*"])
    if where == "module":
        # Of a part of a module it can't be told: another test of it may take the argument.
        project.run("test_it.py::Test::test").assert_outcomes(passed=1)
