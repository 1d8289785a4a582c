"""Loads one after another and in threads, and what they leave as it was."""

from __future__ import annotations

import gc
import io
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from loaded_models import Model, filled, refused, small
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.weights import (
    LoadError,
    RuleError,
    Stack,
    WeightConverter,
    WeightRenaming,
    load_weights,
    patterns,
)


class TestFreshState:
    RULES = (
        WeightRenaming(r"\.gamma$", ".weight"),
        WeightConverter([r"e\.(?P<index>\d+)\.w"], ["e.w"], [Stack(0)]),
    )

    def model(self):
        return nn.ModuleDict(
            {"e": Model({"w": torch.zeros(2, 1)}), "n": Model({"weight": torch.zeros(1)})}
        )

    def source(self, value):
        return {
            "n.gamma": torch.full((1,), float(value)),
            **{f"e.{n}.w": torch.full((1,), float(value + n)) for n in (1, 0)},
        }

    def check(self, model, value):
        assert model.e.w.tolist() == [[value], [value + 1]]
        assert model.n.weight.tolist() == [value]

    def test_two_loads_and_one_that_raised(self):
        model = self.model()
        load_weights(model, self.source(1), self.RULES)
        self.check(model, 1)
        partial = self.source(5)
        del partial["e.0.w"]
        refused(model, partial, self.RULES)
        failing = self.source(5) | {"e.0.w": lambda: 1 / 0}
        refused(model, failing, self.RULES)
        load_weights(model, self.source(2), self.RULES)
        self.check(model, 2)

    def test_in_threads(self):
        def load(value):
            model = self.model()
            source = self.source(value)
            if value % 7 == 0:
                source.pop("e.1.w")
                with pytest.raises(LoadError):
                    load_weights(model, source, self.RULES)
            else:
                load_weights(model, source, self.RULES)
                self.check(model, value)
            return value

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(load, range(80))) == list(range(80))

    def test_nothing_is_compiled_again(self, tmp_path, monkeypatch):
        count = 600
        model = nn.ModuleDict({f"layer{n}": Model({"p": torch.zeros(1)}) for n in range(count)})
        rules = [WeightRenaming(rf"^block{n}\.", f"layer{n}.") for n in range(count)]
        save_file({f"block{n}.p": torch.ones(1) for n in range(count)}, tmp_path / "x.safetensors")
        calls = []
        real = re.compile
        monkeypatch.setattr(re, "compile", lambda *given: calls.append(given) or real(*given))
        monkeypatch.setattr(patterns, "_compiled", {})
        first = load_weights(model, tmp_path, rules)
        assert first.loaded == first.plan.compile_count == count
        assert len(calls) == count
        second = load_weights(
            model, tmp_path, [WeightRenaming(one.pattern, one.target) for one in rules]
        )
        assert second.loaded == count
        assert second.plan.compile_count == 0
        assert len(calls) == count


class TestProgress:
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    @pytest.mark.parametrize("shown", [True, False])
    def test_a_bar_on_a_terminal(self, monkeypatch, shown):
        monkeypatch.setattr(sys, "stderr", self.Terminal())
        monkeypatch.setenv("COLUMNS", "60")
        model = nn.ModuleDict(
            {"e": Model({"w": torch.zeros(2, 1)}), "n": Model({"weight": torch.zeros(1)})}
        )
        load_weights(model, TestFreshState().source(1), TestFreshState.RULES, progress=shown)
        text = sys.stderr.getvalue()
        assert ("loading 0/2 [" in text) == shown
        assert (text == "") == (not shown)
        if shown:
            # It is gone afterwards, and was never wider than the terminal.
            assert text.endswith(f"\r{' ' * 59}\r")
            assert all(len(line) <= 59 for line in text.split("\r"))

    def test_elsewhere_there_is_none(self, capsys):
        model = small()
        load_weights(model, filled(model, 1), progress=True)
        assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_as_it_was(on):
    was_on = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        load_weights(small(), filled(small(), 1))
        assert gc.isenabled() == on
        with pytest.raises(RuleError):
            load_weights(small(), filled(small(), 1), [WeightRenaming("(.+)*", "x")])
        assert gc.isenabled() == on
    finally:
        (gc.enable if was_on else gc.disable)()
