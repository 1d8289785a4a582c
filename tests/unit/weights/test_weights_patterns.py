"""What is read of a pattern before it is compiled must be true of it."""

from __future__ import annotations

import re
import subprocess
import sys
from math import comb

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dtype_sampler.weights import patterns
from dtype_sampler.weights.patterns import compiled, is_compiled, longest, required, steps
from dtype_sampler.weights.syntax import parse

# `[[a]` will mean something else one day, as Python says of it.
pytestmark = pytest.mark.filterwarnings("ignore:Possible:FutureWarning")
ALPHABET = "ab.1_ {}#\n²é"
literals = st.sampled_from(
    [*"ab1_é²", r"\.", r"\ ", r"\#", r"\\", r"\{", r"\_", "#", " ", "}", "{", ","]
)
elements = literals | st.sampled_from(
    [
        *(".", r"\d", r"\w", r"\s", r"\S", r"\b", r"\B", r"\A", r"\Z", "^", "$", r"\n", r"\t"),
        *("[ab]", "[^ab]", "[]a]", "[^]a]", r"[\]a]", "[[a]", "[a)(]", "[a#b]", r"[\d.]"),
        *(r"\x61", r"\u0061", r"\U00000061", r"\N{LATIN SMALL LETTER A}", r"\141", r"\07", r"\0"),
        *(r"\1", "(?#ab)", "(?#a(b)", "(?P=n)", "x{,}", "a{", "{a}", "a{٣}b", "{}", "a{1", "a,2}"),
    ]
)
quantifiers = st.sampled_from(
    [
        *(
            "",
            "",
            "",
            " *",
            "\n{0}",
            "*",
            "+",
            "?",
            "*?",
            "+?",
            "??",
            "*+",
            "++",
            "?+",
            "{0}",
            "{1}",
        ),
        *("{2}", "{0,1}", "{,2}", "{1,}", "{2,3}?", "{,}", "{0,}+", "(?#c)*", "(?#c){0}", "(?#a)?"),
    ]
)
openings = st.sampled_from(
    [
        *("(", "(", "(?:", "(?:", "(?P<n>", "(?>", "(?=", "(?!", "(?<=", "(?<!", "(?i:", "(?x:"),
        *("(?-x:", "(?s-i:", "(?ms:", "(?a:", "(?(1)", "(?-i:", "(?ix-s:"),
    ]
)


def join(parts):
    return "".join("".join(part) for part in parts)


def grown(inner):
    sequence = st.lists(st.tuples(inner, quantifiers), max_size=4).map(join)
    bodies = st.lists(sequence, min_size=1, max_size=3).map("|".join)
    return sequence | bodies | st.tuples(openings, bodies, st.just(")")).map("".join)


texts = st.recursive(elements, grown, max_leaves=12)
valid = st.tuples(st.sampled_from(["", "", "", "(?i)", "(?x)", "(?s)", "(?mx)"]), texts).map(
    "".join
)
keys = st.text(ALPHABET, max_size=12)


def searched(pattern):
    """The pattern as `re` has it, or no example at all."""
    try:
        return re.compile(pattern)
    except (re.error, OverflowError):
        assume(False)


@given(valid, keys)
@example("a(?#c){0}b", "b")
@example("a{٣}b", "a{٣}b")
@example("(?x) a # (", "a")
@example("(?x:a b)c d", "abc d")
@example("(?i)A", "a")
@example(r"\x61b", "ab")
@settings(max_examples=400, deadline=None)
def test_the_required_text_is_in_every_match(pattern, key):
    found = required(pattern)
    expression = searched(pattern)
    # What `re` understands is understood.
    assert parse(pattern) is not None
    # For these keys no pattern takes long; for others that is a test of its own.
    for text in (key, key + found, found):
        if expression.search(text):
            assert found in text


@given(st.text("ab.1(){}[]|*+?\\^$#<>P=!:,ix-", max_size=14))
@settings(max_examples=400, deadline=None)
def test_any_text_at_all(pattern):
    found = required(pattern)
    try:
        expression = re.compile(pattern)
    except (re.error, OverflowError):
        return
    assert parse(pattern) is not None
    if match := expression.search("aab.1(){}b"):
        assert found in match.string


simple = st.sampled_from(
    [*"ab1_-/", *(r"\.", r"\-", r"\d", r"\d+", r"\w", ".", ".+", "(", ")", r"(\d+)", "ab", r"\_")]
)


@given(
    st.sampled_from(["", "^"]),
    st.lists(simple, max_size=8).map("".join),
    st.sampled_from(["", "$"]),
)
@settings(max_examples=400, deadline=None)
def test_what_is_read_at_once_is_the_same(start, middle, end):
    pattern = start + middle + end
    searched(pattern)
    assert patterns._PLAIN.fullmatch(pattern)
    assert required(pattern) == patterns._required(parse(pattern).branches)


@pytest.mark.parametrize(
    ("pattern", "literal"),
    [
        (r"^model\.layers\.(\d+)\.w$", "model.layers."),
        (r"\.gamma$", ".gamma"),
        ("ab+c", "ab"),
        ("ab{2}cd", "bcd"),
        ("ab?c", "a"),
        ("(abc)+d", "abc"),
        ("(abc)*d", "d"),
        ("(abc|abd)e", "e"),
        ("abc|d", ""),
        ("(?i)abc", ""),
        ("(?i:a)bc", ""),
        ("(?s)abc", "abc"),
        ("(?x) a b # c\n d", "abd"),
        (r"(?x) a\ b", "a b"),
        ("(?x: a b ) c", "ab"),
        ("(?=abc)d", "d"),
        ("(?!abc)d", "d"),
        ("(?<=abc)d", "d"),
        ("(?<!abc)d", "d"),
        ("(?>abc)d", "abc"),
        ("(a)?(?(1)bcd|efg)h", "h"),
        ("a(?#xyz)b", "ab"),
        ("(?P<n>abc)d(?P=n)", "abc"),
        (r"\N{DIGIT ONE}abc", ""),
        (r"\101abc", "abc"),
        (r"[abc]\d.d", "d"),
        ("", ""),
        ("(", ""),
        ("a{2,1}", "a"),
        ("(?y)a", ""),
        ("(?:a", ""),
        ("(?:a))", ""),
    ],
)
def test_literals(pattern, literal):
    assert required(pattern) == literal


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(\w+)*", "(a|b)*x", "(a|a)+", "(a*)*", "(a*?)*", "(a?)+", "(a{2,3}){4,}", "(?:a*b?)+"),
        *(r"((a)|b)+", "(?=(a+)+b)", "(?:(?:a?){10}){10}b", "(?x) ( a+ ) # b\n *", "(a|b){12}"),
        *("(a+)(?#c)+", "(?:(.*)x|y){11}", "(a+)+?", "((a+)+)?+", "(?i:(a+)*)", "(a+){20}"),
        *(r"(\w+1)*", r"(\d+)*", r"([^.]+\w)*", "(a+b?)*", "(.*.*){11}", "(?(1)a+|b)*", "(?:a"),
        "a*" * 40,
    ],
)
def test_nested_quantifiers_have_no_bound(pattern):
    assert longest(pattern) == 0


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            r"(?:\w++)*",
            "(?>a|b)+c",
            r"(\w+\.)+",
            r"(\.\w+)+",
            r"([^.]+\.)*x",
            r"([^\.]+\.)*",
            "(a)*",
        ),
        *(r"layers\.(\d+)\.(.*)", "a+", "(?:ab)*", "(?:a|b)?", "(?:a|b){3}", "^a|b$"),
        *(
            "(?:(?:a|b)c)*+",
            "(?=a)*b",
            r"(\w+[.])?x",
            r"([0-9]+\.)+",
            "(?x) a b",
        ),
    ],
)
def test_what_ends_in_time_is_let_through(pattern):
    assert longest(pattern) >= 500


def test_the_bound_is_shorter_with_more_repeats():
    bounds = [longest("(.*)" * n + "x") for n in range(1, 9)]
    assert bounds == sorted(bounds, reverse=True)
    for repeats, bound in enumerate(bounds, 1):
        assert comb(bound, repeats + 1) <= 2**29
    # Where it can begin at one place only, one power less.
    assert longest("^(.*)(.*)x") > longest("(.*)(.*)x")
    assert longest("(?m)^(.*)(.*)x") == longest("(.*)(.*)x")


def test_steps():
    """From every place on, and in all ways to share what is there between the repeats."""
    assert steps("abc", 100) == 200
    assert steps("(.*)x", 100) == 100**2 // 2 + 100
    assert steps("^(.*)(.*)x", 100) == 100**2 // 2 + 100
    assert steps("(.*)(.*)x", 100) == 100**3 // 6 + 100
    # Behind a text that the repeat can't go past, no place is gone over twice.
    for pattern in (r"layers\.\d+", r"h\d+\.w", r"\.\w+", "abc"):
        assert steps(pattern, 100) == 200, pattern
    for pattern in (r"\d+\.w", r"1\d+", r"a\w+", r"x.+", r"\w+"):
        assert steps(pattern, 100) == 100**2 // 2 + 100, pattern


def test_searches_within_the_bound_end():
    """As a process that would be killed, since nothing else can stop a search."""
    hard = [
        "(.*)(.*)x",
        "(.*b){4}x",
        r"(\w+)a(\w+)ax",
        "(?:a|aa){5}(.*)x",
        "(?=.*.*x)a",
        r"(?:\w++)*x",
    ]
    code = (
        "import re\n"
        "from dtype_sampler.weights.patterns import longest\n"
        f"for pattern in {hard}:\n"
        "    n = min(longest(pattern), 400)\n"
        "    assert n\n"
        "    re.search(pattern, 'x' + 'a' * n), re.search(pattern, 'ab' * (n // 2))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_the_one_place_that_compiles():
    pattern = "used once in this test, [a-z]+"
    assert not is_compiled(pattern)
    assert compiled(pattern) is compiled(pattern)
    assert is_compiled(pattern)
    with pytest.raises(re.error):
        compiled("(")
    assert not is_compiled("(")


def test_deep_patterns_are_not_understood():
    deep = "(?:" * 5000 + ")" * 5000
    assert parse(deep) is None
    assert required(deep) == ""
    assert longest(deep) == 0


def test_another_thread_may_have_compiled_it(monkeypatch):
    class Held:
        """A lock that was waited for."""

        def __enter__(self):
            patterns._compiled["waited for"] = "by another"

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(patterns, "_compiling", Held())
    monkeypatch.setattr(patterns, "_compiled", {})
    assert compiled("waited for") == "by another"


def test_two_threads_compile_once(monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    calls = []
    real = re.compile
    barrier = Barrier(4)

    def compiling(pattern):
        calls.append(pattern)
        return real(pattern)

    def ask(_):
        barrier.wait()
        return compiled("two threads, [a-z]+")

    monkeypatch.setattr(patterns.re, "compile", compiling)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(set(map(id, found))) == 1
    assert calls == ["two threads, [a-z]+"]
