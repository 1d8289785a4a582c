"""Known issues: read from a file, with clear words for mistakes in it, and laid over a survey."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.roundtrip import known
from dtype_sampler.roundtrip.known import Issue, load, mark, parse, reason_of, shipped
from dtype_sampler.roundtrip.model import (
    BROKEN,
    CRASHED,
    KNOWN,
    OK,
    UNSUPPORTED,
    Outcome,
    Survey,
)
from dtype_sampler.sampling.candidates import DTYPE_NAMES, POOLS

LINK = "https://example.org/issues/1"
ALL_NAMES = DTYPE_NAMES
FILE = """
# A comment.
[[issue]]
dtypes = ["bfloat16"]
trips = ["copy"]
reason = "lost"

[[issue]]
dtypes = ["float8", "int[1-3]", "torch.half"]
trips = ["pickle", "narrowing"]
other_dtypes = ["float32"]
devices = ["cuda", "mp*"]
package = "safetensors"
versions = ">=0.4,<0.9"
link = "https://example.org/issues/1"
reason = '''
KeyError,
on two lines'''
shows = "0x7f"
strict = false
machines = ["x86_64"]
"""


def survey(*outcomes, device="cpu", **versions):
    there = {"torch": "2.13.0+cpu", "safetensors": "0.8.0", "python": "3.11.7", **versions}
    return Survey(device, "a CPU", "", there, outcomes)


def outcome(verdict, dtype="bfloat16", trip="copy", **more):
    return Outcome("cpu", dtype, trip, verdict, **more)


def issue(**keys):
    given = {"dtypes": ("bfloat16",), "trips": ("copy",), "reason": "lost", "link": LINK, **keys}
    return Issue(**given)


def verdicts(marked):
    return [(one.verdict, one.link) for one in marked.outcomes]


def test_reading():
    plain, full = parse(FILE, "mine.toml")
    assert plain == Issue(("bfloat16",), ("copy",), "lost", place="mine.toml:3")
    assert plain.reference == "mine.toml:3"
    assert full.dtypes == (*POOLS["float8"], "int1", "int2", "int3", "float16")
    assert full.trips == ("pickle", "narrowing")
    assert full.other_dtypes == ("float32",)
    assert full.devices == ("cuda", "mp*")
    assert (full.package, str(full.versions)) == ("safetensors", "<0.9,>=0.4")
    assert (full.link, full.reference) == (LINK, LINK)
    assert full.reason == "KeyError, on two lines"
    assert (full.shows, full.strict) == ("0x7f", False)
    assert (plain.machines, full.machines) == (("*",), ("x86_64",))
    assert parse("", "empty.toml") == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('trips = ["copy"]', "trips = copy"), "f.toml:5: no TOML: invalid value"),
        (('[[issue]]\ndtypes = ["bf', '[[isue]]\ndtypes = ["bf'), "f.toml:3: unknown key 'isue'"),
        (("[[issue]]", "[issue]"), "f.toml:3: each issue is a table headed [[issue]]"),
        (('trips = ["copy"]\n', ""), "f.toml:3: the issue has no 'trips'"),
        (('"lost"', '""'), "f.toml:3: the issue has no 'reason'"),
        (('["copy"]', "[]"), "f.toml:5: trips: a list of names"),
        (('["copy"]', '"copy"'), "f.toml:5: trips: a list of names"),
        (('"copy"', '"coppy"'), "f.toml:5: trips: unknown trip 'coppy': did you mean 'copy'?"),
        (('"copy"', '"zzz"'), "f.toml:5: trips: unknown trip 'zzz': known: name, aliases"),
        (('"bfloat16"', '"bflot16"'), "unknown pool or dtype 'bflot16': did you mean 'bfloat16'"),
        (('"bfloat16"', '"x[1-3]"'), "f.toml:4: dtypes: unknown pool or dtype 'x[1-3]'"),
        (('reason = "lost"', 'reasn = "lost"'), "reasn: no such key: did you mean 'reason'?"),
        (('reason = "lost"', "reason = 3"), "f.toml:6: reason: a text in quotes"),
        (('["float32"]', '["floot32"]'), "f.toml:11: other_dtypes: unknown pool or dtype"),
        (('">=0.4,<0.9"', '"0.4 to 0.9"'), "f.toml:14: versions: '0.4 to 0.9' is no range"),
        (('"https://example', '"example'), "f.toml:15: link: 'example.org/issues/1' is no address"),
        (("strict = false", 'strict = "no"'), "f.toml:20: strict: true or false"),
    ],
)
def test_mistakes_in_a_file(tmp_path, change, message):
    text = FILE.replace(*change, 1) if "[issue]" not in change[1] else FILE.replace(*change)
    if change[1] == "[issue]":
        text = FILE.split("[[issue]]")[0] + '[issue]\nreason = "lost"\n'
    assert text != FILE
    with pytest.raises(DtypeSamplerError) as caught:
        parse(text, "f.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(DtypeSamplerError, match=re.escape(f"{path}:")):
        load(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DtypeSamplerError, match=r"none\.toml: can't be read: No such file"):
        load(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(DtypeSamplerError, match=r"latin\.toml: no UTF-8: .* byte 2"):
        load(tmp_path / "latin.toml")
    (tmp_path / "empty.toml").write_text("")
    assert load(tmp_path / "empty.toml") == ()


def test_a_header_inside_a_text_does_not_derail_places():
    text = "[[issue]]\nreason = '''\n[[issue]]\n'''\ndtypes = ['int8']\ntrips = ['x']\n"
    with pytest.raises(DtypeSamplerError, match=r"^f\.toml: issue 1: trips: unknown trip"):
        parse(text, "f.toml")


def test_faults_become_known_and_what_works_is_told():
    before = survey(
        outcome(BROKEN),
        outcome(OK, trip="clone"),
        outcome(UNSUPPORTED, trip="numpy"),
        outcome(BROKEN, dtype="float16"),
        outcome(CRASHED, trip="pickle"),
    )
    listed = issue(trips=("copy", "clone", "numpy", "pickle"))
    after = mark(before, [listed])
    assert verdicts(after) == [
        (KNOWN, LINK),
        (OK, LINK),
        (UNSUPPORTED, ""),
        (BROKEN, ""),
        (KNOWN, LINK),
    ]
    assert [one.is_fixed for one in after.outcomes] == [False, True, False, False, False]
    assert [one.dtype for one in after.faults] == ["float16"]
    loose = mark(before, [issue(trips=("copy", "clone"), strict=False)])
    assert verdicts(loose)[:2] == [(KNOWN, LINK), (OK, "")]
    there = issue(trips=("copy", "clone"), machines=("x86_64",))
    assert verdicts(mark(before, [there]))[:2] == [(KNOWN, LINK), (OK, "")]
    here = replace(before, versions={**before.versions, "machine": "x86_64"})
    assert verdicts(mark(here, [there]))[:2] == [(KNOWN, LINK), (OK, LINK)]
    assert before.outcomes[0].verdict == BROKEN  # the survey itself is left as it is
    assert mark(before, []) == before


def test_the_first_issue_that_lists_a_cell_decides_what_is_said_of_it():
    """A project's own come before those that ship."""
    before = survey(outcome(OK), outcome(OK, trip="clone"))
    strict = issue(trips=("copy", "clone"))
    own = issue(strict=False, link="https://example.org/own")
    assert verdicts(mark(before, [own, strict])) == [(OK, ""), (OK, LINK)]
    assert verdicts(mark(before, [strict, own])) == [(OK, LINK), (OK, LINK)]
    # One that is about another device or version says nothing.
    elsewhere = issue(strict=False, devices=("cuda",))
    assert verdicts(mark(before, [elsewhere, strict])) == [(OK, LINK), (OK, LINK)]
    # A fault is the first one's that it shows.
    broken = survey(outcome(BROKEN, words="x"))
    other = issue(strict=False, shows="y", link="https://example.org/own")
    assert verdicts(mark(broken, [other, strict])) == [(KNOWN, LINK)]


def test_versions_that_were_tried():
    text = '[tried]\ntorch = "<=2.14.1"\n' + FILE
    plain, full = parse(text, "mine.toml")
    assert (str(plain.tried), str(full.tried)) == ("<=2.14.1", "")
    for version, tried in [("2.13.0+cpu", True), ("2.14.1", True), ("2.15.0", False)]:
        assert plain.was_tried(survey(torch=version)) is tried
    assert full.was_tried(survey(safetensors="9.0"))
    # Of a build of somebody's own nobody knows.
    assert not plain.was_tried(survey(torch="mine"))


@pytest.mark.parametrize(
    ("tried", "words"),
    [
        ('tried = "2.14"', "f.toml:1: tried: a table"),
        ('[tried]\ntorch = "2.14"', "f.toml:1: tried: torch: '2.14' is no range of versions"),
        ("[tried]\ntorch = 2", "f.toml:1: tried: torch: 2 is no range of versions"),
    ],
)
def test_mistakes_in_what_was_tried(tried, words):
    with pytest.raises(DtypeSamplerError) as caught:
        parse(tried + "\n" + FILE, "f.toml")
    assert words in str(caught.value)


def test_what_the_host_does_in_the_same_way_is_the_hosts():
    of_host = issue(devices=("cpu",))
    before = survey(outcome(BROKEN), outcome(BROKEN, trip="copy", as_host=True), device="cuda:0")
    marked = mark(before, [of_host])
    assert verdicts(marked) == [(BROKEN, ""), (KNOWN, LINK)]
    assert reason_of(marked.outcomes[1], marked, [of_host]) == f"lost ({LINK})"
    # That it does not show there says nothing about the host.
    fine = survey(outcome(OK, as_host=True), device="cuda:0")
    assert verdicts(mark(fine, [of_host])) == [(OK, "")]


def test_patterns_match_what_torch_has(monkeypatch):
    """complex32 stands for a dtype that came after this was written."""
    import dtype_sampler.sampling.candidates as candidates

    everything = ALL_NAMES
    unheard = tuple(name for name in everything if name not in ("complex32", "chalf"))
    monkeypatch.setattr(candidates, "DTYPE_NAMES", unheard)
    for pattern in ("*", "*complex32", "complex32", "torch.complex32", "compl*"):
        (one,) = parse(
            FILE.split("[[issue]]")[0]
            + f"""
[[issue]]
dtypes = ["{pattern}"]
trips = ["copy"]
reason = "new"
""",
            "f.toml",
        )
        assert "complex32" in one.dtypes, pattern


def test_a_fault_of_pickling_is_known_of_dtypes_that_nobody_has_heard_of():
    words = "type object 'torch.storage.UntypedStorage' has no attribute 'dtype'"
    before = survey(
        outcome(BROKEN, dtype="int8", trip="pickle", half="back", words=words),
        outcome(BROKEN, dtype="int8", trip="pickle", half="back", words="another"),
        outcome(OK, dtype="int8", trip="pickle"),
    )
    assert [one.verdict for one in mark(before, shipped()).outcomes] == [KNOWN, BROKEN, OK]
    assert not any(one.is_fixed for one in mark(before, shipped()).outcomes)


def test_causes_take_what_they_cause_along():
    before = survey(
        outcome(BROKEN, trip="safetensors-file", cause="bfloat16 save-mmap"),
        outcome(BROKEN, trip="save-mmap", cause="bfloat16 save-zip"),
        outcome(BROKEN, trip="save-zip"),
        outcome(BROKEN, trip="copy-odd", cause="bfloat16 copy"),
        outcome(BROKEN, dtype="float16", trip="pickle", cause="bfloat16 save-zip"),
    )
    after = mark(before, [issue(trips=("save-zip",))])
    assert [verdict for verdict, _ in verdicts(after)] == [KNOWN, KNOWN, KNOWN, BROKEN, KNOWN]
    assert all(link == LINK for verdict, link in verdicts(after) if verdict == KNOWN)


@pytest.mark.parametrize(
    ("keys", "there"),
    [
        ({"versions": ">=2.6"}, True),
        ({"versions": "==2.13.0"}, True),  # whatever the build
        ({"versions": "<2.13"}, False),
        ({"versions": "<2.14", "package": "safetensors"}, True),
        ({"package": "numpy"}, False),
        ({"devices": ("cpu",)}, True),
        ({"devices": ("cuda",)}, False),
        ({"devices": ("c*",)}, True),
        ({"other_dtypes": ("float16",)}, False),
        ({"shows": "first 0x"}, False),
        ({"shows": "did not come back: KeyError"}, True),
    ],
)
def test_what_an_issue_is_about(keys, there):
    from packaging.specifiers import SpecifierSet

    keys = {**keys, "versions": SpecifierSet(keys.get("versions", ""))}
    before = survey(outcome(BROKEN, half="back", words="KeyError: 'F4'"))
    assert verdicts(mark(before, [issue(**keys)])) == [(KNOWN, LINK) if there else (BROKEN, "")]


def test_devices_are_named_by_their_type():
    before = survey(outcome(BROKEN), device="cuda:1")
    assert mark(before, [issue(devices=("cuda",))]).outcomes[0].verdict == KNOWN


def test_pairs():
    before = survey(
        outcome(BROKEN, dtype="float64", trip="narrowing", other_dtype="float16"),
        outcome(OK, dtype="float64", trip="narrowing", other_dtype="bfloat16"),
    )
    listed = issue(dtypes=("float64",), trips=("narrowing",), other_dtypes=("float16",))
    assert verdicts(mark(before, [listed])) == [(KNOWN, LINK), (OK, "")]


@pytest.mark.parametrize("version", ["2.14.0a0+git1234567", "2.13.0.dev20260401", "2.13.0"])
def test_versions_of_nightly_builds(version):
    before = survey(outcome(BROKEN), torch=version)
    (listed,) = parse(FILE.split('[[issue]]\ndtypes = ["float8')[0] + "versions = '>=2.6'", "f")
    assert mark(before, [listed]).outcomes[0].verdict == KNOWN


def test_a_version_that_is_none():
    before = survey(outcome(BROKEN), torch="mine")
    assert mark(before, [issue()]).outcomes[0].verdict == KNOWN
    (ranged,) = parse(FILE.split('[[issue]]\ndtypes = ["float8')[0] + "versions = '>=2.6'", "f")
    assert mark(before, [ranged]).outcomes[0].verdict == BROKEN


def test_reasons():
    listed = [issue(), issue(trips=("clone",), link="", place="mine.toml:3")]
    after = mark(
        survey(
            outcome(BROKEN),
            outcome(BROKEN, trip="clone"),
            outcome(BROKEN, trip="copy-odd", cause="bfloat16 copy"),
        ),
        listed,
    )
    told = [reason_of(one, after, listed) for one in after.outcomes]
    assert told == [f"lost ({LINK})", "lost (mine.toml:3)", LINK]


def test_shipped_issues_are_sound():
    issues = shipped()
    assert len(issues) >= 5
    for one in issues:
        assert one.place.startswith(known.SHIPPED)
        # Nobody is to search for a report that there is none of.
        assert bool(one.link) != ("No report is known" in one.reason), one.place
        # Red for our users only where somebody looked.
        assert str(one.tried) or not one.strict, one.place


def test_what_nobody_was_told_of_has_a_report_ready(pytestconfig):
    pages = pytestconfig.rootpath / "docs" / "upstream"
    reports = {
        "double-rounding.md": "ounded to",
        "e8m0-subnormals.md": "2^-126",
        "dlpack-negative-views.md": "egative view",
        "dlpack-small-integers.md": "int8 and uint8",
    }
    index = (pages / "index.md").read_text(encoding="utf-8")
    for page in reports:
        text = (pages / page).read_text(encoding="utf-8")
        assert "**Versions.**" in text
        assert "```python" in text
        assert page in index
    for one in shipped():
        if not one.link:
            assert any(words in one.reason for words in reports.values()), one.reason
