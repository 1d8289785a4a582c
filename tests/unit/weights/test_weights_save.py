"""Saving under the checkpoint's own names."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from saved_models import RULES, Experts, Model
from torch import nn

from dtype_sampler.weights import (
    CheckpointError,
    Chunk,
    Concatenate,
    RuleError,
    Stack,
    Transpose,
    WeightConverter,
    WeightRenaming,
    load_weights,
    reverse,
    save_weights,
)
from dtype_sampler.weights.sources import open_source


def test_the_checkpoints_own_names(tmp_path):
    model = Experts()
    path = save_weights(model, tmp_path, RULES[1:])
    assert path == tmp_path / "model.safetensors"
    found = load_file(path)
    assert sorted(found) == sorted(
        [f"e.{n}.{what}" for n in range(12) for what in ("gate", "up")]
        + ["embed.weight", "norm.gamma", "norm.beta", "scale", "steps", "mask", "qkv.w"]
    )
    assert torch.equal(found["e.10.gate"], model.gate_up[10, :, :4].t())
    assert torch.equal(found["qkv.w"], torch.cat([model.q.weight, model.k.weight, model.v.weight]))
    again = Experts()
    load_weights(again, path, RULES[1:])
    for name, one in model.state_dict().items():
        assert torch.equal(one, again.state_dict()[name])
    assert again.head.weight is again.embed.weight
    assert list(tmp_path.iterdir()) == [path]


def test_without_rules_and_over_what_was_there(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"old")
    model = nn.Linear(2, 2)
    assert save_weights(model, str(path)) == path
    assert {key: one.tolist() for key, one in load_file(path).items()} == {
        key: one.tolist() for key, one in model.state_dict().items()
    }
    assert save_weights(nn.ReLU(), path).read_bytes()[8:].startswith(b'{"__metadata__"')
    assert load_file(path) == {}


def test_views_shared_memory_and_lazy_conjugates(tmp_path):
    base = torch.arange(6.0)
    model = Model(
        a=base[:2],
        b=base[2:4],
        c=base.view(2, 3).t(),
        d=base[:1].expand(3),
        e=torch.tensor([1 + 2j]).conj(),
        f=torch.tensor([1 + 2j]).conj().imag,
        g=torch.empty(0),
        h=torch.empty(0, 2),
        i=base[1],
    )
    found = load_file(save_weights(model, tmp_path))
    for name, one in model.named_buffers():
        assert torch.equal(found[name], one)
        assert found[name].shape == one.shape


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([WeightRenaming(r"\d+", "x")], r"^WeightRenaming\(.* can't be reversed: the target does"),
        (
            # Of aaab nothing tells where the one ends and the other begins.
            [WeightRenaming("(a+)(a*)b", r"\2_\1")],
            "aa_a, saved as aaab, would not be loaded as aa_a again by these rules. Its reverse",
        ),
        (
            [WeightRenaming("b", "a")],
            "the rules can't be reversed for this model:\n  b: from a and b",
        ),
        (
            [WeightConverter(["x"], ["a", "lost"], [Chunk(0)])],
            "the rules can't be reversed for this",
        ),
    ],
)
def test_what_would_not_come_back(tmp_path, rules, message):
    model = Model(a=torch.zeros(2), b=torch.ones(2), aa_a=torch.zeros(1))
    with pytest.raises(RuleError, match=message):
        save_weights(model, tmp_path, rules)
    assert not list(tmp_path.iterdir())


def test_two_tensors_of_one_name(tmp_path):
    model = Model(a=torch.zeros(2), x1=torch.ones(2))
    rules = [WeightConverter([r"^x(?P<index>\d+)$"], ["a"], [Stack(0)])]
    with pytest.raises(RuleError, match="two tensors would be saved as x1"):
        save_weights(model, tmp_path, rules)


def test_a_converter_of_a_name_onto_itself(tmp_path):
    model = Model(a=torch.zeros(2, 3))
    found = load_file(save_weights(model, tmp_path, [WeightConverter("^a$", "a", Transpose())]))
    assert found["a"].shape == (3, 2)


def test_places_that_can_not_be_written(tmp_path):
    model = Model(a=torch.zeros(2))
    with pytest.raises(CheckpointError, match=r"x\.bin: name a \.safetensors file, or a folder"):
        save_weights(model, tmp_path / "x.bin")
    with pytest.raises(
        CheckpointError, match=r"no.x\.safetensors: there is no folder .*no: make it first$"
    ):
        save_weights(model, tmp_path / "no" / "x.safetensors")
    # What the format lacks.
    path = tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match=rf"{path.name}: can't be written: KeyError"):
        save_weights(Model(a=torch.zeros(2, dtype=torch.complex128)), path)
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "folder.safetensors" / "model.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="can't be written: Is a directory"):
        save_weights(model, tmp_path / "folder.safetensors")
    assert [one.name for one in tmp_path.iterdir()] == ["folder.safetensors"]
    with pytest.raises(CheckpointError, match="a: is on the meta device: there is nothing to save"):
        save_weights(Model(a=torch.zeros(2, device="meta")), path)


@given(
    st.permutations(["a.w", "b.1.w", "b.2.w", "c.x.y", "d"]),
    st.lists(
        st.sampled_from(
            [
                WeightRenaming(r"^a\.", "z."),
                WeightRenaming(r"^(\w)\.(\d+)\.", r"\2.\1."),
                WeightRenaming(r"\.w$", ".v"),
                WeightRenaming("^", "m."),
                WeightRenaming(r"x\.y", "y.x"),
                WeightConverter([r"b\.(?P<index>\d+)\.t"], ["d"], [Stack(0)]),
                WeightConverter([r"c\.x\.t"], ["c.x.y"], [Transpose(0, 1)]),
                WeightConverter([r"all"], ["b.1.w", "b.2.w"], [Chunk(1)]),
            ]
        ),
        max_size=4,
        unique_by=id,
    ),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_is_saved_is_loaded_again_or_refused(tmp_path, names, rules):
    def model(fill):
        torch.manual_seed(fill)
        root = nn.Module()
        for name in names:
            at = root
            for part in name.split(".")[:-1]:
                if not hasattr(at, part):
                    at.add_module(part, nn.Module())
                at = getattr(at, part)
            at.register_parameter(name.rpartition(".")[2], nn.Parameter(torch.randn(2, 2)))
        return root

    saved, loaded = model(1), model(2)
    try:
        path = save_weights(saved, tmp_path, rules)
    except RuleError:
        return
    load_weights(loaded, path, rules)
    for name, one in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], one), name
    # Backwards, too: what was reversed is a set of rules like any other.
    assert isinstance(reverse(rules), tuple)


class WithState(nn.Linear):
    def get_extra_state(self):
        return {"scale": 2.0}

    def set_extra_state(self, state):
        raise NotImplementedError


def test_what_would_be_lost_is_refused(tmp_path):
    model = nn.Sequential(WithState(2, 2))
    with pytest.raises(CheckpointError, match=r"^0\._extra_state: .* it would be lost$"):
        save_weights(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hook_that_renames_loses_nothing(tmp_path):
    model = nn.Linear(2, 2)

    def rename(module, state, prefix, metadata):
        state["w"] = state.pop("weight")

    model.register_state_dict_post_hook(rename)
    assert load_file(save_weights(model, tmp_path)).keys() == {"weight", "bias"}


def test_sparse_tensors_are_not_saved(tmp_path):
    with pytest.raises(CheckpointError, match=r"^a: is sparse_coo, which the format can't hold$"):
        save_weights(Model(a=torch.eye(2).to_sparse()), tmp_path)


@pytest.mark.parametrize("place", [None, b"x.safetensors", 5])
def test_what_is_no_place(place):
    with pytest.raises(CheckpointError, match=r"^a place to save is a path, and .* is none$"):
        save_weights(nn.Linear(2, 2), place)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no folder .*deep: make it first$"):
        save_weights(nn.Linear(2, 2), tmp_path / "deep" / "x.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="a mode is POSIX's")
def test_a_file_is_as_readable_as_any_new_one(tmp_path):
    (tmp_path / "any").touch()
    file = save_weights(nn.Linear(2, 2), tmp_path / "x.safetensors")
    assert file.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_weights(nn.Linear(2, 2), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


class TestLike:
    """As the checkpoint was that a model was loaded from."""

    RULES = (
        WeightRenaming(r"^old\.", "new."),
        WeightRenaming(r"^never\.", "new."),
        WeightConverter([r"^q$", r"^k$"], ["qk"], [Concatenate(0)]),
    )

    def model(self):
        model = nn.Module()
        model.qk = nn.Parameter(torch.zeros(4, 2))
        model.new = nn.Linear(1, 1)
        return model

    def tensors(self):
        # Of unequal parts, which nothing in the rules tells of.
        return {
            "q": torch.arange(6.0).reshape(3, 2),
            "k": torch.arange(2.0).reshape(1, 2),
            "old.weight": torch.ones(1, 1),
            "old.bias": torch.ones(1),
        }

    @pytest.mark.parametrize("given", ["file", "mapping"])
    @pytest.mark.parametrize("rules", [RULES, ()], ids=["with rules", "without"])
    def test_the_very_names_and_shapes(self, tmp_path, given, rules):
        tensors = self.tensors()
        save_file(tensors, tmp_path / "x.safetensors")
        model = self.model()
        report = load_weights(
            model, tensors if given == "mapping" else tmp_path / "x.safetensors", self.RULES
        )
        saved = load_file(save_weights(model, tmp_path, rules, like=report))
        assert saved.keys() == tensors.keys()
        assert all(torch.equal(saved[key], one) for key, one in tensors.items())

    def test_without_it_there_are_other_ways_back(self, tmp_path):
        model = self.model()
        report = load_weights(model, self.tensors(), self.RULES)
        (note,) = report.notes
        assert note.startswith("qk was joined of parts of unequal length: save_weights(..., like=")
        saved = load_file(save_weights(model, tmp_path, self.RULES))
        assert {key: list(one.shape) for key, one in saved.items()} == {
            "q": [2, 2],
            "k": [2, 2],
            "never.weight": [1, 1],
            "never.bias": [1],
        }
        # Which is the same to a load.
        again = self.model()
        assert load_weights(again, saved, self.RULES).notes == []
        assert torch.equal(again.qk, model.qk)

    def test_a_rule_that_matched_nothing_is_not_reversed(self, tmp_path):
        model = nn.ModuleDict({"model": nn.Linear(1, 1)})
        # The checkpoint has the prefix already.
        rules = [WeightRenaming(r"^transformer\.(.+)", r"model.\1")]
        report = load_weights(
            model, {"model.weight": torch.ones(1, 1), "model.bias": torch.ones(1)}, rules
        )
        assert report.plan.unused_rules == rules
        saved = save_weights(model, tmp_path, rules, like=report)
        assert load_file(saved).keys() == {"model.weight", "model.bias"}
        assert load_file(save_weights(model, tmp_path, rules)).keys() == {
            "transformer.weight",
            "transformer.bias",
        }


@pytest.mark.parametrize("mmap", [True, False])
def test_over_the_file_that_is_mapped(tmp_path, mmap):
    """What a load or another process has mapped is another file from then on."""
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)
    with closing(open_source(path, mmap=mmap)) as source:
        mapped = source.read("weight")
        model = nn.Linear(2, 2)
        # As transformers leaves a model: its memory is the file's.
        model.weight = nn.Parameter(mapped)
        load_weights(model, {"bias": torch.full((2,), 3.0)}, strict=False)
        assert save_weights(model, path) == path
        with torch.no_grad():
            model.weight.add_(1)
        save_weights(model, path)
    assert load_file(path)["weight"].tolist() == [[2, 2], [2, 2]]
    assert load_file(path)["bias"].tolist() == [3, 3]
    again = nn.Linear(2, 2)
    load_weights(again, path)
    assert again.weight.tolist() == [[2, 2], [2, 2]]


@pytest.mark.parametrize("name", ["x" * 300 + ".safetensors", "x" * 5000, "x\0.safetensors"])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(CheckpointError) as caught:
        save_weights(nn.Linear(1, 1), tmp_path / name)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
