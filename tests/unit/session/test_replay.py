from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dtype_sampler.paths import relative
from dtype_sampler.session.planning import make_plan
from dtype_sampler.session.replay import lines, quoted, shell_word
from dtype_sampler.session.settings import resolve


def payload(
    under_test=("torch.bfloat16",),
    function=None,
    declared=("torch.bfloat16", "auto"),
    by_name=False,
):
    return {
        "samples": [
            {"declared": declared, "entered": declared, "together": declared, "by_name": by_name}
        ],
        "under_test": under_test,
        "nodeid": "t.py::t" if function is None else "t.py::t[bfloat16]",
        "function": function,
    }


def replay(a_payload, cli=None, env=None, ini=None, **kwargs):
    settings = resolve({"seed": "7", **(cli or {})}, env or {}, ini or {})
    return lines(a_payload, settings, make_plan(settings, last_seed=None), **kwargs)


def test_a_loop():
    assert replay(payload()) == [
        "dtype under test: torch.bfloat16",
        'same sample:     pytest "t.py::t" --dtype-seed=7',
        'this dtype only: pytest "t.py::t" --dtype-seed=7 --dtype-only=torch.bfloat16',
    ]


@pytest.mark.parametrize("function", [None, ("t.py::t",)])
def test_a_sample_in_which_the_ledger_had_a_part(function):
    """The seed alone would give another one tomorrow."""
    (_, same, _) = replay(payload(function=function, by_name=True), {"strategy": "oldest"})
    assert same == (
        'same sample:     pytest "t.py::t" --dtype-seed=7 --dtype-only=torch.bfloat16,auto'
    )


def test_a_dtype_that_ran_alone_is_the_same_sample():
    alone = payload(by_name=True)
    alone["samples"][0]["together"] = ("torch.bfloat16",)
    assert replay(alone) == [
        "dtype under test: torch.bfloat16",
        'same sample:     pytest "t.py::t" --dtype-seed=7 --dtype-only=torch.bfloat16',
    ]


def test_what_is_not_shown_is_told():
    told = "*** stands for what may be a secret: put its value there"
    *_, last = replay(payload(), common=["--api-token=***"])
    assert last == told
    assert told not in replay(payload(), common=["--api-token=x"])


def test_an_item():
    assert replay(payload(function=("t.py::t",)), filters=["-k not slow"]) == [
        "dtype under test: torch.bfloat16",
        'same sample:     pytest "t.py::t" --dtype-seed=7 -k "not slow"',
        'this dtype only: pytest "t.py::t[bfloat16]" --dtype-seed=7',
    ]


def test_every_option_that_shaped_the_sample():
    cli = {
        "k": "2",
        "strategy": "random",
        "device": "cpu",
        "only": ["auto,bfloat16"],
        "all_dtypes": True,
    }
    _, same, only = replay(payload(), cli, common=["-p dtype_sampler", "-o dtype_sampler_k=4"])
    assert same == (
        'same sample:     pytest "t.py::t" --dtype-seed=7 --all-dtypes --dtype-k=2'
        " --dtype-strategy=random --dtype-only=auto,bfloat16 --dtype-device=cpu"
        " -p dtype_sampler -o dtype_sampler_k=4"
    )
    assert only == (
        'this dtype only: pytest "t.py::t" --dtype-seed=7 --dtype-only=torch.bfloat16'
        " --dtype-device=cpu -p dtype_sampler -o dtype_sampler_k=4"
    )


def test_what_the_project_configures_is_not_repeated():
    ini = {"dtype_sampler_k": "2", "dtype_sampler_device": "cpu"}
    assert replay(payload(), ini=ini)[1] == 'same sample:     pytest "t.py::t" --dtype-seed=7'


def test_what_the_environment_says_is():
    env = {"DTYPE_SAMPLER_ALL": "1"}
    assert replay(payload(), env=env)[1].endswith("--dtype-seed=7 --all-dtypes")


def test_that_tests_take_the_same_is():
    same = "--dtype-seed=7 --dtype-together"
    assert replay(payload(), {"together": True})[1].endswith(same)
    assert replay(payload(), env={"DTYPE_SAMPLER_TOGETHER": "1"})[1].endswith(same)
    # And that they don't, where the configuration would have them.
    ini = {"dtype_sampler_together": True}
    off = replay(payload(), env={"DTYPE_SAMPLER_TOGETHER": "0"}, ini=ini)[1]
    assert off.endswith("--dtype-seed=7 -o dtype_sampler_together=false")
    assert replay(payload(), ini=ini)[1].endswith("--dtype-seed=7")


def test_a_string_beside_a_dtype_of_its_name():
    text = replay(payload(("bfloat16",), declared=("bfloat16", "torch.bfloat16")))
    assert text[2].endswith("""--dtype-only="'bfloat16'\"""")
    assert shlex.split(text[2])[-1] == "--dtype-only='bfloat16'"


def test_no_dtype_under_test():
    text = replay(payload(()))
    assert text[0] == "dtype under test: none any more, after torch.bfloat16, auto"
    assert len(text) == 2
    samples = [{"declared": ("a",), "entered": (), "by_name": False}]
    text = replay({**payload(()), "samples": samples})
    assert text[0] == "dtype under test: none yet"


def test_several_that_may_have_failed():
    both = "torch.bfloat16, auto"
    told = payload(under_test=()) | {"one_of": ["torch.bfloat16", "auto"]}
    assert replay(told) == [
        f"dtype under test: none any more, after {both}: the failure of one of {both}",
        'same sample:     pytest "t.py::t" --dtype-seed=7',
        'one at a time:   pytest "t.py::t" --dtype-seed=7 --dtype-only=torch.bfloat16',
        'one at a time:   pytest "t.py::t" --dtype-seed=7 --dtype-only=auto',
    ]


def test_from_another_folder():
    assert '"../t.py::t"' in replay(payload(), relative="../{}".format)[1]


@pytest.mark.parametrize(
    "text", ["t.py::t[a b]", "t.py::t['x']", 't[a"b]', "t[$HOME]", "t[`x`]", "t[\\]", "!"]
)
def test_a_posix_shell_reads_back_what_was_quoted(text):
    assert shlex.split(quoted(text)) == [text]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("--dtype-seed=1", "--dtype-seed=1"),
        ("--dtype-only='a'", "--dtype-only=\"'a'\""),
        ("-k not slow", '-k "not slow"'),
        ("-k slow", "-k slow"),
        ("--deselect=t.py::t[a b]", '--deselect="t.py::t[a b]"'),
        ("a b", '"a b"'),
    ],
)
def test_shell_words(text, word):
    assert shell_word(text) == word


def test_relative_paths(monkeypatch):
    assert relative(Path("/a/b/../c.py"), Path("/a/d")) == "../c.py"

    def no_way(*args):
        raise ValueError("path is on mount 'C:', start on mount 'D:'")

    monkeypatch.setattr("os.path.relpath", no_way)
    assert relative(Path("/a/c.py"), Path("/d")) == "/a/c.py"


def test_what_a_loop_hid_behind_the_failure():
    a_payload = payload()
    (sample,) = a_payload["samples"]
    a_payload["samples"] = [sample | {"entered": sample["declared"][:1]}]
    hidden = ", ".join(sample["declared"][1:])
    told = f"hidden behind {', '.join(a_payload['under_test'])}: {hidden}"
    assert told in replay(a_payload)
    # After a failing subtest the loop goes on; and items hide nothing.
    assert told not in replay(a_payload, ended=False)
    assert told not in replay({**a_payload, "function": ("t.py::test",)})
