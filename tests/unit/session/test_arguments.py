from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtype_sampler.session.arguments import carried, read, words
from dtype_sampler.session.replay import shell_word

HERE = Path()


class Odd(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        raise AssertionError("a replay line must not do what an option is for")


@pytest.fixture
def parser():
    """pytest's own kinds of options, and a suite's."""
    parser = argparse.ArgumentParser(allow_abbrev=False, fromfile_prefix_chars="@")
    add = parser.add_argument
    add("-k", default="", dest="keyword")
    add("-m", default="", dest="markexpr")
    add("--deselect", action="append")
    add("-p", action="append", dest="plugins")
    add("-o", "--override-ini", action="append", dest="override_ini")
    add("-c", "--config-file", dest="inifilename")
    add("-v", "--verbose", action="count")
    add("-x", "--exitfirst", action="store_const", const=1, dest="maxfail")
    add("--maxfail", type=int, dest="maxfail")
    add("--tb", choices=["short", "long"])
    add("-n", "--numprocesses", type=int)
    add("--dist")
    add("--cov", nargs="?", action="append", const=True)
    add("--cov-report", action="append")
    add("--durations", type=int)
    add("--dtype-seed")
    add("--device", type=str)
    add("-D", "--dtype", action="append")
    add("--shapes", nargs="*", type=int)
    add("--pair", nargs=2)
    add("--slow", action="store_true")
    add("--fast", action=argparse.BooleanOptionalAction)
    add("--mode")
    add("--group")
    add("--level", nargs="?", const="1")
    add("--odd", action=Odd)
    add("--api-token")
    add("--tokenizer")
    add("--url")
    add("file_or_dir", nargs="*")
    return parser


def carry(parser, line="", environment="", ini=""):
    texts = (line, environment, ini)
    typed, before, configured = (read(parser, shlex.split(text), HERE) for text in texts)
    return carried(typed, before, configured, parser._option_string_actions)


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("", ""),
        ("tests -vv -x --tb=short -n 4 --dist load --maxfail 2 tests/b.py::t", ""),
        ("--cov=src --cov --cov-report term --durations=3 --cov-report=xml", ""),
        ("--dtype-seed 3", ""),
        ("-vxn4 --device cpu", "--device=cpu"),
        ("--device cpu tests", "--device=cpu"),
        ("tests --device=cpu", "--device=cpu"),
        ("--device=cpu --device=cuda", "--device=cuda"),
        ("--dtype half -D float", "--dtype=half -D float"),
        ("-Dhalf", "-D half"),
        ("--shapes 1 2 --slow tests", "--shapes 1 2 --slow"),
        ("--shapes 1", "--shapes=1"),
        ("--shapes", "--shapes"),
        ("--pair a b tests", "--pair a b"),
        ("--fast --no-fast", "--no-fast"),
        ("--level tests --level=2", "--level=2"),
        ("tests --level", "--level"),
        ("--odd 1 --odd 2", "--odd=1 --odd=2"),
        ("-p no:randomly -pmine -p mine -p vscode_pytest", "-p no:randomly -p mine"),
        ("-c other.ini -o xfail_strict=true", "-c other.ini -o xfail_strict=true"),
        ("-o dtype_sampler_k=2 -o dtype_sampler_step_summary=true", "-o dtype_sampler_k=2"),
        ("-o log_cli=true -o cache_dir=x", ""),
        ("--device=cpu -- --slow", "--device=cpu"),
        ("--mode x --group 2", "--mode=x --group=2"),
        ("--device ''", "--device="),
        ("-k a --device=cpu", "--device=cpu"),
    ],
)
def test_what_is_carried(parser, line, options):
    assert carry(parser, line).options == shlex.split(options) or (
        " ".join(carry(parser, line).options) == options
    )


def test_the_shares_of_a_plugin_are_not(parser):
    assert carry(parser, "--group 2 --mode=a").options == ["--group=2", "--mode=a"]
    parser.add_argument("--splits")
    parser.add_argument("--picked")
    assert carry(parser, "--group 2 --mode=a --splits=3").options == []


def test_filters(parser):
    found = carry(parser, "-k 'not slow' -m a --deselect=t.py::x --deselect t.py::y")
    assert found.options == found.overriding == []
    assert found.filters == ["-k not slow", "-m a", "--deselect=t.py::x", "--deselect=t.py::y"]


@pytest.mark.parametrize(
    ("line", "environment", "ini", "overriding"),
    [
        ("-m slow", "", "-m 'not slow'", ["-m slow"]),
        ("-m slow", "-m 'not slow'", "", ["-m slow"]),
        ("-m slow", "", "-m slow", []),
        ("", "-m slow", "-m 'not slow'", ["-m slow"]),
        ("", "", "-m 'not slow'", []),
        ("-m ''", "", "-m 'not slow'", ["-m "]),
        ("-k a -m slow", "", "-m 'not slow'", ["-m slow"]),
    ],
)
def test_what_would_be_back_without_it(parser, line, environment, ini, overriding):
    assert carry(parser, line, environment, ini).overriding == overriding


def test_what_the_configuration_says_is_not_repeated(parser):
    found = carry(parser, "--slow", ini="--device=cpu -D half -m x")
    assert found.options == ["--slow"]
    assert found.filters == []


@pytest.mark.parametrize(
    ("environment", "options", "clear"),
    [
        ("--device=cpu -p no:x -vv --cov", ["--device=cpu", "-p no:x"], False),
        # Where the variable is set, they would be given twice.
        ("--dtype=half", ["--dtype=half"], True),
        ("--odd=1", ["--odd=1"], True),
    ],
)
def test_the_environment(parser, environment, options, clear):
    found = carry(parser, environment=environment)
    assert (found.options, found.clear) == (options, clear)


def test_a_share_in_the_environment_would_hide_the_test(parser):
    parser.add_argument("--splits")
    found = carry(parser, environment="--splits=3 --group 2")
    assert (found.options, found.clear) == ([], True)


def test_files_of_arguments(parser, tmp_path):
    (tmp_path / "outer").write_text("--device\ncpu\n@inner\n")
    (tmp_path / "inner").write_text("--dtype=half\ntests\n")
    found = read(parser, ["-x", "@outer"], tmp_path)
    assert [text for one in found for text in words(one)] == ["-x", "--device=cpu", "--dtype=half"]


def test_what_pytest_would_refuse(parser):
    with pytest.raises(ValueError, match="expected one argument"):
        read(parser, ["--device"], HERE)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("--api-token=abc", "--api-token=***"),
        ("--api-token abc", "--api-token=***"),
        ("--tokenizer=bpe", "--tokenizer=bpe"),
        ("-o my_password=x", "-o my_password=***"),
        ("--device=TOKEN=abc", "--device=TOKEN=***"),
        ("--url=https://me:abc@host/x?a=b:c@d", "--url=https://me:***@host/x?a=b:c@d"),
        ("--url=https://host:80/x@y", "--url=https://host:80/x@y"),
        (
            "--url=postgresql://h/d?password=abc&sslmode=x",
            "--url=postgresql://h/d?password=***&sslmode=x",
        ),
    ],
)
def test_secrets_are_not_shown(parser, line, shown):
    assert carry(parser, line).options == [shown]


# What a shell can hand over: anything but NUL.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@settings(deadline=None)
@given(st.sampled_from(["--device", "--dtype", "-k", "-p", "--odd"]), texts)
def test_a_shell_and_the_parser_read_back_any_value(flag, value):
    parser = argparse.ArgumentParser(allow_abbrev=False, fromfile_prefix_chars="@")
    for name in ("--device", "-k"):
        parser.add_argument(name)
    for name in ("--dtype", "-p", "--odd"):
        parser.add_argument(name, action="append")
    parser.add_argument("file_or_dir", nargs="*")
    (one,) = read(parser, [f"{flag}={value}"], HERE)
    assert one.values == (value,)
    line = " ".join(["t.py::t", *map(shell_word, words(one))])
    (again,) = read(parser, shlex.split(line), HERE)
    assert again == one


@settings(deadline=None)
@given(st.lists(texts.filter(lambda text: text[:1] not in ("-", "@")), min_size=2, max_size=2))
def test_a_shell_and_the_parser_read_back_any_pair(values):
    parser = argparse.ArgumentParser()
    parser.add_argument("--pair", nargs=2)
    (one,) = read(parser, ["--pair", *values], HERE)
    (again,) = read(parser, shlex.split(" ".join(map(shell_word, words(one)))), HERE)
    assert again.values == tuple(values)
