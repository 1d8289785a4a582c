"""What a fault of ours says, what it leaves out of the books, and objects of others that fail."""

from __future__ import annotations

from contextlib import closing

import pytest
from faults_shown import SUITE, fault_lines

from dtype_sampler.ledger.sqlite import SqliteStore
from dtype_sampler.ledger.tally import Tally
from dtype_sampler.session.running import RunningTest


def test_the_traceback_is_for_whoever_asks(project, monkeypatch):
    project.file("test_it", SUITE)

    def broken(self, **_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(RunningTest, "to_wire", broken)
        result, detailed = project.run(), project.run("-vv")
    (line,) = fault_lines(result)
    # Each of four tests has three phases.
    assert "(12 times): ZeroDivisionError (" in line
    assert "raise ZeroDivisionError" not in result.stdout.str()
    detailed.stdout.fnmatch_lines(
        [f"{line[:40]}*", "*executing.py*", "    raise ZeroDivisionError"]
    )


@pytest.mark.parametrize(
    "losing", [(Tally, "add"), (RunningTest, "to_wire")], ids=["controller", "worker"]
)
def test_what_was_lost_is_not_in_the_books(project, monkeypatch, losing):
    """A failing subtest whose report is lost must not leave a pass behind."""
    if pytest.version_tuple < (9,):
        pytest.importorskip("pytest_subtests")
    project.file(
        "test_it",
        """
        def test(random_dtypes, subtests):
            for d in random_dtypes(dtypes=[*"ab"], k=2):
                with subtests.test(dtype=d):
                    assert d != "b"
        """,
    )
    owner, name = losing
    own = getattr(owner, name)

    def forgetful(self, *args, **kwargs):
        # The one report of the subtest that fails, on its way to the books.
        if args[1:] and args[1].subtest and args[1].outcome == "failed":
            raise ZeroDivisionError
        if not args and "b" in self.under_test.labels():
            raise ZeroDivisionError
        return own(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, forgetful)
        result = project.run()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert len(fault_lines(result)) == 1
    path = project.pytester.path / ".dtype-ledger.sqlite"
    if path.exists():
        with closing(SqliteStore.open(path)) as store:
            assert store.cells() == []


class TestObjectsOfOthers:
    """Plugins hand objects of their own to pytest's hooks."""

    def test_without_anything(self, project):
        project.file("test_it", SUITE)
        (project.pytester.path / "conftest.py").write_text(
            "import pytest\n"
            "class Foreign:\n"
            "    def __init__(self, **kw): vars(self).update(kw)\n"
            "class Odd(pytest.Item):\n"
            "    callspec = Foreign()\n"
            "    def runtest(self): pass\n"
            "    def reportinfo(self): return self.path, 0, self.name\n"
            "def pytest_collection_modifyitems(session, config, items):\n"
            "    config.hook.pytest_deselected(items=[Foreign(config=config), Foreign(), None])\n"
            "    items.append(Odd.from_parent(session, name='odd'))\n"
            "def pytest_runtest_logfinish(nodeid, location):\n"
            "    pass\n"
            "@pytest.hookimpl(trylast=True)\n"
            "def pytest_sessionfinish(session):\n"
            "    ours = session.config.pluginmanager.get_plugin('dtype-sampler-controller')\n"
            "    one = Foreign(nodeid='x', outcome='passed', when='memory')\n"
            "    for report in (None, Foreign(), Foreign(nodeid=3), one,\n"
            "                   Foreign(nodeid='x', outcome='failed', when=None)):\n"
            "        ours.pytest_runtest_logreport(report)\n"
            "    for node in (None, Foreign(), Foreign(workeroutput=None)):\n"
            "        ours.pytest_testnodedown(node)\n"
        )
        result = project.run()
        result.assert_outcomes(passed=4, failed=1, deselected=4)
        assert fault_lines(result) == []
        result.stdout.fnmatch_lines(["dtype-sampler: 2 tests sampled, 2 of 4 cells ran on cpu*"])

    def test_hooks_without_the_protocol(self, project):
        """A plugin that calls the hooks of one phase itself, with items of its own or not."""
        project.file("test_it", SUITE)
        (project.pytester.path / "conftest.py").write_text(
            "import pytest\n"
            "class Foreign: pass\n"
            "def pytest_collection_finish(session):\n"
            "    import dtype_sampler as ours\n"
            "    call = pytest.CallInfo.from_call(lambda: None, when='call')\n"
            "    for item in (Foreign(), None, session.items[0]):\n"
            "        ours.pytest_runtest_setup(item)\n"
            "        for hook in (ours.pytest_runtest_protocol, ours.pytest_runtest_call,\n"
            "                     ours.pytest_runtest_makereport):\n"
            "            if item is session.items[0] and hook is ours.pytest_runtest_protocol:\n"
            "                continue\n"
            "            more = [call] if hook is ours.pytest_runtest_makereport else []\n"
            "            wrapper = hook(item, *more)\n"
            "            next(wrapper)\n"
            "            try: wrapper.send('result')\n"
            "            except StopIteration as end: assert end.value == 'result'\n"
            "            else: assert False\n"
        )
        result = project.run()
        result.assert_outcomes(passed=3, failed=1, deselected=1)
        assert fault_lines(result) == []
