"""What is loaded and by which rules: mappings, converters, prefixes, and wrong arguments."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import torch
from loaded_models import Model, filled, octets, refused, small
from safetensors.torch import save_file
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    LoadError,
    Stack,
    Transpose,
    Unstack,
    WeightConverter,
    WeightRenaming,
    load_weights,
)


class Doubled:
    """An operation that changes values, and says how to undo that."""

    gives_views = False

    def convert(self, columns, targets):
        return [[one * 2 for one in column] for column in columns]

    def reverse(self):
        return self

    def __repr__(self):
        return "Doubled()"


class TestMappings:
    def test_futures_and_callables_are_resolved_once_and_when_needed(self):
        calls = []

        def promised(name, value):
            return lambda: calls.append(name) or value

        model = Model({"p": torch.zeros(2), "q": torch.zeros(2, 1)})
        with ThreadPoolExecutor(1) as pool:
            source = {
                "p": pool.submit(lambda: torch.ones(2)),
                "e.1": promised("e.1", torch.full((1,), 5.0)),
                "e.0": promised("e.0", torch.full((1,), 4.0)),
                "unexpected": promised("unexpected", torch.ones(1)),
            }
            rule = WeightConverter([r"e\.(?P<index>\d+)"], ["q"], [Stack(0)])
            report = load_weights(model, source, [rule], strict=False)
        assert calls == ["e.0", "e.1"]
        assert report.loaded == 2
        assert report.unexpected_keys == ["unexpected"]
        assert model.q.tolist() == [[4], [5]]

    def test_errors_name_the_key(self):
        failed: Future = Future()
        failed.set_exception(OSError("the network is down"))
        cancelled: Future = Future()
        cancelled.cancel()
        model = Model({name: torch.zeros(1) for name in ("a", "c", "d", "e", "f")})
        rule = WeightConverter(["^e1", "^e2"], ["e"], [Concatenate(0)])
        report = refused(
            model,
            {
                "a": failed,
                "c": cancelled,
                "d": lambda: "text",
                "e1": failed,
                "e2": torch.zeros(1),
                "f": [1.0],
            },
            [rule],
        )
        assert [str(one) for one in report.errors] == [
            "a: OSError: the network is down",
            "c: CancelledError",
            "d: a tensor was promised, and str came",
            "f: a tensor was promised, and list came",
            "e1: OSError: the network is down",
        ]

    def test_a_mapping_is_asked_once_for_each(self):
        class Asked(dict):
            def __getitem__(self, key):
                asked.append(key)
                return super().__getitem__(key)

        asked: list[str] = []
        model = small()
        load_weights(model, Asked(filled(model, 1)))
        assert sorted(asked) == sorted(model.state_dict())


class TestConverting:
    def test_experts_in_shuffled_order(self, tmp_path):
        torch.manual_seed(0)
        experts = [torch.randn(2, 3) for _ in range(12)]
        order = torch.randperm(12).tolist()
        source = {f"l.e.{n}.w": experts[n] for n in order}
        rule = WeightConverter([r"e\.(?P<index>\d+)\.w"], ["experts"], [Stack(0), Transpose(1, 2)])
        model = nn.ModuleDict({"l": Model({"experts": torch.zeros(12, 3, 2)})})
        for dtype in (torch.float32, torch.bfloat16):
            load_weights(model, source, [rule], dtype=dtype)
            expected = torch.stack([one.t() for one in experts]).to(dtype)
            assert octets(model.l.experts) == octets(expected)
            assert model.l.experts.is_contiguous()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize(
        "operations",
        [
            [Stack(0), Concatenate(1)],
            [Concatenate(0), Stack(0)],
            [Stack(2), Concatenate(0), Transpose(0, 2)],
            [Transpose(0, 1), Stack(-1), Concatenate(0, sizes=(3, 3))],
            [Stack(1), Stack(0), Concatenate(0)],
            [Stack(0), Concatenate(0), Doubled()],
            [Doubled(), Stack(0), Concatenate(0)],
        ],
        ids=repr,
    )
    def test_from_files_as_from_memory(self, tmp_path, operations, device, dtype):
        torch.manual_seed(0)
        source = {f"{what}.{n}": torch.randn(2, 3) for n in (2, 0, 1) for what in ("a", "b")}
        save_file(source, tmp_path / "x.safetensors")
        columns = [[source[f"{what}.{n}"] for n in range(3)] for what in ("a", "b")]
        rule = WeightConverter([r"a\.(?P<index>\d+)", r"b\.(?P<index>\d+)"], ["w"], operations)
        try:
            for operation in operations:
                columns = operation.convert(columns, 1)
            ((expected,),) = columns
        except (ValueError, DtypeSamplerError):
            # What can't be done at all is told of both.
            shapes = torch.zeros(2)
            reports = [refused(Model({"w": shapes}), given, [rule]) for given in (source, tmp_path)]
            assert reports[0].errors == reports[1].errors != []
            return
        for given in (source, tmp_path):
            with torch.device(device):
                model = Model({"w": torch.empty(expected.shape)})
            load_weights(model, given, [rule], dtype=dtype)
            assert octets(model.w) == octets(expected.to(dtype))
            assert model.w.is_contiguous()
        for one in source.values():
            one.zero_()
        assert octets(model.w) == octets(expected.to(dtype))

    def test_a_part_that_can_not_be_read(self, tmp_path):
        save_file(
            {"e.0": torch.ones(2), "e.1": torch.ones(2).to(torch.complex64)},
            tmp_path / "x.safetensors",
        )
        rule = WeightConverter([r"e\.(?P<index>\d+)"], ["w"], [Stack(0)])
        report = refused(Model({"w": torch.zeros(2, 2)}), tmp_path, [rule])
        told = "torch.complex64 in the checkpoint can't become torch.float32"
        assert report.errors == [("e.1", told)]
        save_file({"e.0": torch.ones(2), "e.1": torch.ones(3)}, tmp_path / "x.safetensors")
        report = refused(Model({"w": torch.zeros(2, 2)}), tmp_path, [rule])
        assert "stack expects each tensor to be equal size" in report.errors[0].message

    def test_one_to_many_and_part_of_it(self):
        model = nn.Sequential(*(Model({"w": torch.zeros(2)}) for _ in range(3)))
        rule = WeightConverter(["all"], [r"\g<index>.w"], [Unstack(0)])
        load_weights(model, {"all": torch.arange(6.0).reshape(3, 2)}, [rule])
        assert [one.w.tolist() for one in model] == [[0, 1], [2, 3], [4, 5]]
        report = refused(model, {"all": torch.zeros(4, 2)}, [rule])
        assert report.errors[0].message == "4 tensors come out for 3 names"
        assert report.errors[0].where.startswith("0.w, by WeightConverter(['all']")
        # A target that the model lacks is left out.
        rule = WeightConverter(["all"], ["0.w", "lost.w"], [Chunk(0)])
        load_weights(model, {"all": torch.arange(4.0)}, [rule], strict=False)
        assert model[0].w.tolist() == [0, 1]

    def test_an_operation_of_ones_own(self):
        class Add:
            """Changes values, so it wants the checkpoint's own."""

            def __init__(self, what):
                self.what = what

            def convert(self, columns, targets):
                seen.extend(one.dtype for column in columns for one in column)
                return [[one + self.what for one in column] for column in columns]

            def reverse(self):
                return Add(-self.what)

        seen: list[torch.dtype] = []
        model = Model({"p": torch.zeros(2)})
        rule = WeightConverter(["p"], ["p"], [Add(1.0)])
        load_weights(
            model, {"p": torch.tensor([1e-3, 1.0], dtype=torch.float64)}, [rule], dtype="float16"
        )
        assert seen == [torch.float64]
        expected = (torch.tensor([1e-3, 1.0], dtype=torch.float64) + 1).half()
        assert torch.equal(model.p, expected)

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            ([], "0 lists of tensors come out for 1 targets"),
            ([[], []], "2 lists of tensors come out for 1 targets"),
            ([[]], "0 tensors come out for 1 names"),
            ([["text"]], "AttributeError: 'str' object has no attribute 'shape'"),
            (None, "TypeError: object of type 'NoneType' has no len()"),
        ],
    )
    def test_operations_that_give_something_else(self, result, message):
        class Odd:
            def convert(self, columns, targets):
                return result

        report = refused(
            Model({"p": torch.zeros(2)}), {"p": torch.ones(2)}, [WeightConverter("p", "p", Odd())]
        )
        (problem,) = report.errors
        assert problem.message == message
        assert problem.where.startswith("p, by WeightConverter(['p'], ['p'], [")

    def test_shapes_that_do_not_fit(self):
        rule = WeightConverter([r"e\.(?P<index>\d+)"], ["p"], [Stack(0)])
        model = Model({"p": torch.zeros(2, 3)})
        report = refused(model, {"e.0": torch.ones(2), "e.1": torch.ones(2)}, [rule])
        assert report.mismatched_keys == [("p", (2, 2), (2, 3))]
        report = refused(model, {"e.0": torch.ones(2), "e.1": torch.ones(3)}, [rule])
        assert "stack expects each tensor to be equal size" in report.errors[0].message

    def test_targets_of_two_dtypes(self):
        model = Model({"p": torch.zeros(2), "q": torch.zeros(2, dtype=torch.float64)})
        value = torch.tensor([1.1, 1.2, 1.3, 1.4], dtype=torch.float64)
        load_weights(model, {"x": value}, [WeightConverter("x", ["p", "q"], Chunk(0))])
        assert torch.equal(model.p, value[:2].float())
        assert torch.equal(model.q, value[2:])


class TestPrefixes:
    def test_of_the_model_or_given(self):
        model = nn.ModuleDict({"model": nn.Linear(1, 1)})
        source = {"weight": torch.ones(1, 1), "bias": torch.ones(1)}
        assert refused(model, source).unexpected_keys == ["weight", "bias"]
        assert load_weights(model, source, base_model_prefix="model").loaded == 2
        model.base_model_prefix = "model"
        assert load_weights(model, source).loaded == 2
        model.base_model_prefix = 5
        assert len(refused(model, source).unexpected_keys) == 2


@pytest.mark.parametrize(
    ("model", "said"),
    [(None, "a NoneType"), (nn.Linear, "Linear"), (torch.ones(3), "a Tensor")],
)
def test_what_is_no_model(model, said):
    with pytest.raises(
        DtypeSamplerError, match=f"^a model is a torch.nn.Module, and {said} is none"
    ):
        load_weights(model, {})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": None}, "^the mapping: rules=None: give a list"),
        ({"rules": WeightRenaming("a", "b")}, r"rules=WeightRenaming\('a', 'b'\): give a list"),
        ({"keep_in_float32": None}, "^keep_in_float32=None: give a list of patterns$"),
        ({"base_model_prefix": 5}, "^base_model_prefix=5: give a name"),
        (
            {"dtype": "bflaot16"},
            "^dtype=bflaot16: torch has no such dtype: did you mean 'bfloat16'",
        ),
        ({"dtype": "auto"}, "^dtype=auto: torch has no such dtype: write, say, 'bfloat16'$"),
        ({"dtype": "floating"}, "^dtype=floating: torch has no such dtype"),
        ({"device": 1.5}, "^device=1.5: can't be used here: "),
        # Built without it, or without so many.
        ({"device": "cuda:99"}, "^device=cuda:99: can't be used here: .+$"),
    ],
)
def test_arguments_that_are_wrong(options, message):
    with pytest.raises(DtypeSamplerError, match=message) as caught:
        load_weights(small(), filled(small(), 1), **options)
    assert "\n" not in str(caught.value)


def test_errors_are_told_in_one_line():
    promised = Future()
    promised.set_exception(OSError("the disk\nis full"))
    gone = Future()
    gone.cancel()
    report = load_weights(nn.Linear(2, 2), {"weight": promised, "bias": gone}, strict=False)
    assert {str(one) for one in report.errors} == {
        "weight: OSError: the disk",
        "bias: CancelledError",
    }


class TestHint:
    """A prefix is what most often differs: of DDP, of torch.compile, of a base model."""

    def refused(self, model, tensors, rules=()):
        with pytest.raises(LoadError) as caught:
            load_weights(model, tensors, rules)
        hint = caught.value.report.hint
        assert (hint in str(caught.value)) if hint else "prefix" not in str(caught.value)
        return hint

    @pytest.mark.parametrize(
        ("model", "checkpoint", "rules"),
        [
            ("", "model.", ()),
            ("model.", "", ()),
            ("", "a.b.", ()),
            ("", "x.", [WeightRenaming("^x", "model")]),
        ],
    )
    def test_a_prefix(self, model, checkpoint, rules):
        names = ["weight", "head.weight", "head.bias"]
        made = nn.Module()
        for name in names:
            place = made
            *path, last = f"{model}{name}".split(".")
            for one in path:
                if not hasattr(place, one):
                    place.add_module(one, nn.Module())
                place = place.get_submodule(one)
            place.register_parameter(last, nn.Parameter(torch.zeros(2)))
        tensors = {f"{checkpoint}{name}": torch.ones(2) for name in names}
        hint = self.refused(made, {**tensors, "another": torch.ones(1)}, rules)
        prefix = re.search(r"base_model_prefix='(.+)'$", hint)[1]
        load_weights(made, tensors, rules, base_model_prefix=prefix)
        assert all((one == 1).all() for one in made.parameters())

    def test_none(self):
        model = nn.Linear(2, 2)
        assert self.refused(model, {}) is None
        assert self.refused(model, {"m.weight": torch.ones(2, 2)}) is None
        assert self.refused(model, {"m.weight": torch.ones(2, 2), "n.bias": torch.ones(2)}) is None
        assert self.refused(model, {**filled(model, 1), "m.weight": torch.ones(2, 2)}) is None
