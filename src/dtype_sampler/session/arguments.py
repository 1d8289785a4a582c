"""The options of a command line, and which of them a replay needs. Pure.

A suite may have options of its own that decide which tests there are, so a replay carries every
option that is not known to shape nothing. What is a value and what is not, the parser knows that
took the command line: its actions are asked, and nothing is guessed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from dtype_sampler.ledger.secrets import HIDDEN, is_secret, redacted_value
from dtype_sampler.session.settings import OPTIONS


@dataclass(frozen=True, slots=True)
class Given:
    """An option as it was given. flag: as it was written. names: all ways to write it. values: what
    came with it. dest: what it sets. again: each time it is given counts, not the last one alone.
    """

    flag: str
    names: frozenset[str]
    values: tuple[str, ...]
    dest: str
    again: bool


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Recorder(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


class _Record(argparse.Action):
    """Notes that an option was given, instead of doing what it is for."""

    def __init__(self, of: argparse.Action, found: list[Given]) -> None:
        super().__init__(of.option_strings, of.dest, nargs=of.nargs, default=argparse.SUPPRESS)
        self._of = of
        self._found = found

    def __call__(self, *args: Any, **_: Any) -> None:
        _, _, values, flag = args
        listed = values if isinstance(values, list) else [] if values is None else [values]
        names = frozenset(self._of.option_strings)
        kind = type(self._of)
        again = kind.__module__ != "argparse" or kind.__name__ not in _LAST_COUNTS
        self._found.append(Given(flag, names, tuple(listed), self._of.dest, again))


# Of all other actions of argparse each occurrence counts; what a plugin's own does is its secret.
_LAST_COUNTS = _names(
    "_StoreAction _StoreConstAction _StoreTrueAction _StoreFalseAction BooleanOptionalAction"
)


def read(parser: argparse.ArgumentParser, words: Sequence[str], folder: Path) -> list[Given]:
    """The options among *words*, in order, as *parser* understands them.

    folder: what the names of files of arguments (`@file`) are relative to.
    Raises ValueError for what the parser would refuse.
    """
    found: list[Given] = []
    recorder = _Recorder(add_help=False, allow_abbrev=parser.allow_abbrev)
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to list them
        if action.option_strings:
            recorder._add_action(_Record(action, found))  # noqa: SLF001  # takes an action as it is
    recorder.add_argument("others", nargs="*")
    recorder.parse_known_args(_expanded(words, parser.fromfile_prefix_chars or "", folder))
    return found


def _expanded(words: Iterable[str], prefixes: str, folder: Path) -> list[str]:
    """*words* with those of the files that they name, as argparse does it."""
    result = []
    for word in words:
        if word and word[0] in prefixes:
            lines = (folder / word[1:]).read_text(encoding="utf-8").splitlines()
            result += _expanded(lines, prefixes, folder)
        else:
            result.append(word)
    return result


# What shapes neither which tests there are nor what they do, or is no matter of a single test.
_SHAPELESS = _names(
    # how much is told, and where
    "-v --verbose -q --quiet --verbosity --no-header --no-summary --no-fold-skipped --fold-skipped"
    " --force-short-summary -r --report-chars --disable-warnings --disable-pytest-warnings"
    " -l --showlocals --no-showlocals --tb --xfail-tb --show-capture --fulltrace --full-trace"
    " --color --code-highlight --pastebin --junitxml --junit-xml --junitprefix --junit-prefix"
    " --durations --durations-min -s --capture --log-format --log-date-format --log-cli-level"
    " --log-cli-format --log-cli-date-format --log-file --log-file-mode --log-file-level"
    " --log-file-format --log-file-date-format --log-auto-indent --traceconfig --trace-config"
    " --debug --setupshow --setup-show --doctest-report"
    # when a run stops, and what it stops for
    " -x --exitfirst --maxfail --max-warnings --pdb --pdbcls --trace --strict-config"
    " --strict-markers --continue-on-collection-errors"
    # which tests, from memory or by path: a replay names one
    " --lf --last-failed --ff --failed-first --nf --new-first --lfnf --last-failed-no-failures"
    " --sw --stepwise --sw-skip --stepwise-skip --sw-reset --stepwise-reset --cache-show"
    " --cache-clear --ignore --ignore-glob --basetemp --keepduplicates --keep-duplicates"
    # only lists
    " --collectonly --collect-only --co --setuponly --setup-only --setupplan --setup-plan --markers"
    " --fixtures --funcargs --fixtures-per-test -V --version -h --help"
)

# The same of plugins: their options, if one is registered that nobody else would have.
_SHAPELESS_OF_PLUGINS = {
    "--numprocesses": "-n --numprocesses --maxprocesses --max-worker-restart --dist --tx --px -d"
    " --loadscope-reorder --no-loadscope-reorder --rsyncdir --rsyncignore --testrunuid"
    " --maxschedchunk -f --looponfail",
    "--reruns": "--reruns --reruns-delay --reruns-delay-backoff-factor --only-rerun --rerun-except"
    " --rerun-exclude-path --reruns-mode --fail-on-flaky --rerun-show-tracebacks --force-reruns"
    " --max-suite-reruns",
    "--force-flaky": "--force-flaky --no-force-flaky --max-runs --min-passes --no-flaky-report"
    " --no-success-flaky-report --flaky-report",
    "--cov": "--cov --cov-reset --cov-report --cov-config --no-cov-on-fail --no-cov"
    " --cov-fail-under --cov-append --cov-branch --cov-precision --cov-context",
    # These share the tests out: of one test, most shares have nothing.
    "--splits": "--splits --group --splitting-algorithm --store-durations --durations-path"
    " --clean-durations",
    "--num-shards": "--num-shards --shard-id",
    "--test-group-count": "--test-group-count --test-group --test-group-by"
    " --test-group-random-seed --test-group-prescheduled",
    # These repeat, which is no part of a test's name here: `--dtype-attempt` says which time.
    "--repeat-scope": "--count --repeat-scope",
    "--flake-finder": "--flake-finder --flake-runs --flake-max-minutes",
    # These choose by what has changed.
    "--testmon": "--testmon --testmon-noselect --testmon-nocollect --testmon-forceselect"
    " --no-testmon --testmon-env --tmnet",
    "--picked": "--picked --mode --parent-branch",
    # These change the order.
    "--randomly-seed": "--randomly-dont-reorganize",
    "--random-order": "--random-order --random-order-bucket --random-order-seed",
    "--indulgent-ordering": "--indulgent-ordering --order-scope --order-scope-level"
    " --order-group-scope --sparse-ordering --order-dependencies --order-marker-prefix"
    " --error-on-failed-ordering --fail-all-on-failed-ordering --order-after-ff",
    # These tell.
    "--html": "--html --self-contained-html --css",
    "--json-report": "--json-report --json-report-file --json-report-omit --json-report-summary"
    " --json-report-indent --json-report-verbosity",
    "--report-log": "--report-log --report-log-exclude-logs-on-passed-tests",
    "--alluredir": "--alluredir --clean-alluredir --allure-no-capture",
    "--metadata": "--metadata --metadata-from-json --metadata-from-json-file",
    "--force-sugar": "--old-summary --force-sugar --sugar-trace-dir --sugar-no-trace",
    "--instafail": "--instafail",
    "--rich": "--rich --rich-capture",
    "--diff-symbols": "--diff-width --diff-symbols",
    "--exclude-warning-annotations": "--exclude-warning-annotations",
    "--teamcity": "--teamcity",
    "--hypothesis-seed": "--hypothesis-verbosity --hypothesis-show-statistics --hypothesis-explain",
    # A replay is not to write what a test is compared with.
    "--snapshot-update": "--snapshot-update --snapshot-update-new-only --snapshot-warn-unused"
    " --snapshot-disable-unused --snapshot-no-cleanup --snapshot-details --snapshot-no-colors"
    " --snapshot-patch-pycharm-diff --snapshot-diff-mode --snapshot-declaration-order"
    " --snapshot-file-lock-timeout",
    "--benchmark-json": "--benchmark-save --benchmark-autosave --benchmark-save-data"
    " --benchmark-json --benchmark-compare --benchmark-compare-fail --benchmark-storage"
    " --benchmark-netrc --benchmark-verbose --benchmark-quiet --benchmark-sort"
    " --benchmark-group-by --benchmark-columns --benchmark-name --benchmark-time-unit"
    " --benchmark-histogram",
}
# What shares the tests out, wherever it comes from.
_SHARES = frozenset({"--group", "--shard-id", "--test-group"})
# Ours, which are rebuilt from what they came to; and ini keys of ours that shape no sample.
_OURS = frozenset(option.flag for option in OPTIONS if option.flag)
_OWN_INI = frozenset(
    {"dtype_sampler_step_summary", "dtype_sampler_ledger", "dtype_sampler_ledger_runs"}
    | {"dtype_sampler_ledger_read", "dtype_sampler_project", "dtype_sampler_record"}
    | {"dtype_sampler_baseline", "dtype_sampler_fail_on_mended"}
)
_SHAPELESS_INI = re.compile(
    "console_output_style|log_cli.*|log_file.*|log_auto_indent|junit_.*|cache_dir|verbosity_.*"
    "|truncation_limit_.*|tmp_path_retention_.*|faulthandler_.*"
)
# Plugins that only tell, or that an editor brings along: `-p NAME`, or without them `-p no:NAME`.
_SHAPELESS_PLUGINS = _names(
    "vscode_pytest pytest_teamcity teamcity.pytest_plugin no:cacheprovider no:sugar no:xdist"
    " no:pytest_cov no:cov no:rerunfailures no:html no:instafail no:junitxml no:pastebin"
    " no:faulthandler no:terminalprogress"
)
# Giving these once more changes nothing.
_HARMLESS_AGAIN = _names(
    "-p -o --override-ini -W --pythonwarnings --deselect --disable-plugin-autoload"
)
_FILTERS = frozenset({"-k", "-m", "--deselect"})


@dataclass(frozen=True, slots=True)
class Carried:
    """What replay lines have in common, as texts of a flag and its value, or of single words.

    options: what every line needs. filters: what has left items out before the sample was taken
    from the rest. overriding: such filters that a node id alone needs too, as without them those
    of the configuration would be back. clear: the line must take PYTEST_ADDOPTS away, as in a shell
    that has it, what it says would count twice or hide the test.
    """

    options: list[str] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    overriding: list[str] = field(default_factory=list)
    clear: bool = False


def carried(
    typed: Sequence[Given],
    environment: Sequence[Given],
    ini: Sequence[Given],
    registered: Iterable[str],
) -> Carried:
    """What a replay has to say again.

    typed: the command line. environment, ini: what `PYTEST_ADDOPTS` and `addopts` put before it;
    the latter will be there again. registered: the names of all options that the parser knows.
    """
    dropped = _dropped(frozenset(registered))
    given = [one for one in (*environment, *typed) if not (one.names & dropped or _shapeless(one))]
    last = {one.dest: place for place, one in enumerate(given) if not one.again}
    result = Carried(
        clear=any(
            (one.again and not one.names & _HARMLESS_AGAIN and not one.names & dropped)
            or one.names & _SHARES & dropped
            for one in environment
        )
    )
    # In a shell with the variable and in one without it.
    before = [{one.dest: one.values for one in given} for given in (ini, environment)]
    for place, one in enumerate(given):
        if last.get(one.dest, place) != place:
            continue
        texts = words(one)
        if not one.names & _FILTERS:
            # Said twice, `-p x` and its like are said once.
            if one.names & _HARMLESS_AGAIN and set(texts) <= set(result.options):
                continue
            result.options.extend(texts)
            continue
        result.filters.extend(texts)
        if not one.again and any(past.get(one.dest, one.values) != one.values for past in before):
            result.overriding.extend(texts)
    return result


def _dropped(registered: frozenset[str]) -> frozenset[str]:
    names = set(_SHAPELESS | _OURS)
    for sign, options in _SHAPELESS_OF_PLUGINS.items():
        if sign in registered:
            names.update(options.split())
    return frozenset(names)


def _shapeless(one: Given) -> bool:
    """Whether this value of an option that may shape something is known to shape nothing."""
    value = one.values[0] if one.values else ""
    if "-o" in one.names:
        name = value.partition("=")[0].strip()
        return name in _OWN_INI or _SHAPELESS_INI.fullmatch(name) is not None
    return "-p" in one.names and value in _SHAPELESS_PLUGINS


def words(one: Given) -> list[str]:
    """An option as texts for `replay.shell_word`: the flag with its value, or each word alone."""
    values = [_shown(one.names, value) for value in one.values]
    if not values:
        return [one.flag]
    if len(values) > 1:
        return [one.flag, *values]
    # A value that looks like an option, or like a file of arguments, must stick to its flag.
    between = "=" if one.flag.startswith("--") or values[0].startswith(("-", "@")) else " "
    return [f"{one.flag}{between}{values[0]}"]


def _shown(names: Iterable[str], value: str) -> str:
    """The value of an option, unless a name says that it is a secret.

    Of a URL with a password, the password is hidden alone.
    """
    return HIDDEN if any(map(is_secret, names)) else redacted_value(value)
