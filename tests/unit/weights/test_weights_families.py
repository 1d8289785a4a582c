"""Rules of transformers, as objects that look like them, become rules of ours."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from torch import nn

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import (
    Chunk,
    Concatenate,
    Interleave,
    Pad,
    PermuteForRope,
    RegroupExperts,
    Reshape,
    RuleError,
    Split,
    Stack,
    Transpose,
    UngroupExperts,
    Unpad,
    Unstack,
    WeightConverter,
    WeightRenaming,
    from_transformers,
    plan_load,
)
from dtype_sampler.weights.families import families, translated


def like(kind, **members):
    """An object of a class of that name."""
    made = type(kind, (), {})()
    made.__dict__.update(members)
    return made


def rule(sources, targets, kind="WeightRenaming", scope=None, **more):
    return like(kind, source_patterns=sources, target_patterns=targets, scope_prefix=scope, **more)


def converter(sources, targets, *operations, scope=None):
    return rule(sources, targets, "WeightConverter", scope, operations=list(operations))


CONFIG = SimpleNamespace(
    num_attention_heads=4,
    num_hidden_layers=2,
    vision_config=SimpleNamespace(num_attention_heads=8),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (rule(["a.b"], ["c.d"]), WeightRenaming(r"a.b(?!\w)", "c.d")),
        (rule([r"a\."], ["c."], scope="v"), WeightRenaming(r"a\.", "c.", scope="v")),
        (rule([r"l.(\d+).x"], [r"h.\1.y"]), WeightRenaming(r"l.(\d+).x(?!\w)", r"h.\g<1>.y")),
        (
            rule([r"(a)\.", r"long(b)\."], [r"x\1"]),
            WeightRenaming(r"(?:long(b)\.|(a)\.)", r"x\g<1>\g<2>"),
        ),
        (rule(["a_"], [r"b\s"]), WeightRenaming("a_", r"b\\s")),
        (rule([r"^(.+)"], [r"m.\1"], "PrefixChange"), WeightRenaming("^(.+)", r"m.\g<1>")),
    ],
)
def test_renames(given, expected):
    assert translated([given], None) == [expected]


def test_renames_of_several_kinds():
    group = rule([r"n0", "n1"], ["n1", "n2"], "GroupWeightRename")
    guard = r"n0(?!\w)"
    assert translated([group], None) == [
        WeightRenaming(r"n1(?!\w)", "n2", only_if=guard),
        WeightRenaming(guard, "n1", only_if=guard),
    ]
    counted = rule([r"q\.(\d+)\."], [r"l.\1."], "Inkling2IndexOffsetWeightRename", offset=1)
    assert translated([counted], CONFIG) == [
        WeightRenaming(r"q\.0\.", "l.1."),
        WeightRenaming(r"q\.1\.", "l.2."),
    ]
    assert len(translated([counted], None)) == 128
    pairs = translated([rule([r"layers\.(\d+)"], [r"layers.\1"], "LayerPairCollapse")], CONFIG)
    keys = ["layers.2.mixer.q", "layers.3.mixer.up", "layers.3.mlp_alpha", "layers.2.attn_alpha"]
    assert list(plan_load([*keys, "layers.9.x", "layers.2.mixers"], None, pairs).direct) == [
        *("layers.1.self_attn.q", "layers.1.mlp.up", "layers.1.lambda_2", "layers.1.lambda_1"),
        *("layers.9.x", "layers.2.mixers"),
    ]


NUMBER = r"(?P<index>\d+)"
MERGE, SPLIT = like("MergeModulelist", dim=0), like("SplitModulelist", dim=0)
ROPE = {"subconfig_key": None, "inverse": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            converter(["e.*.a.w", "e.*.b.w"], ["e.ab"], MERGE, like("Concatenate", dim=1)),
            WeightConverter(
                [rf"e.{NUMBER}\.a.w(?!\w)", rf"e.{NUMBER}\.b.w(?!\w)"],
                ["e.ab"],
                [Stack(0), Concatenate(1)],
            ),
        ),
        (
            converter(["x"], ["e.*.w"], SPLIT),
            WeightConverter([r"x(?!\w)"], [r"e.\g<index>.w"], [Unstack(0)]),
        ),
        (
            converter(
                ["qkv"],
                ["q", "k", "v"],
                like("Chunk", dim=0),
                like("PermuteForRope", permute_layer_names=["q", "k"], **ROPE),
                scope="v",
            ),
            WeightConverter(
                [r"qkv(?!\w)"], ["q", "k", "v"], [Chunk(0), PermuteForRope(4, [0, 1])], scope="v"
            ),
        ),
        *(
            (converter(["a"], ["b"], given), WeightConverter([r"a(?!\w)"], ["b"], [expected]))
            for given, expected in (
                (like("Split", dim=1), Split(None, 1)),
                (like("Inkling2UnpadVocab", inverse=False), Unpad()),
                (like("Inkling2UnpadVocab", inverse=True), Pad()),
                (like("Interleave", dim=1, inverse=True), Interleave(1, inverse=True)),
                (like("Transpose", dim0=1, dim1=2, check_dims=True), Transpose(1, 2, True)),
                (
                    like("Conv3dToLinear", in_channels=3, kernel_size=(1, 2, 2)),
                    Reshape(None, (-1, 3, 1, 2, 2)),
                ),
                (
                    like("LinearToConv3d", in_channels=3, kernel_size=(1, 2, 2)),
                    Reshape((-1, 3, 1, 2, 2)),
                ),
                (
                    like("ErnieFuseAndSplitTextVisionExperts", stack_dim=0, concat_dim=1),
                    RegroupExperts(0, 1),
                ),
                (
                    like("ErnieSplitAndDecoupleTextVisionExperts", stack_dim=0, concat_dim=1),
                    UngroupExperts(0, 1),
                ),
                (
                    like(
                        "PermuteForRope",
                        permute_layer_names=None,
                        subconfig_key="vision_config",
                        inverse=True,
                    ),
                    PermuteForRope(8, None, inverse=True),
                ),
            )
        ),
    ],
)
def test_converters(given, expected):
    assert translated([given], CONFIG) == [expected]


@pytest.mark.parametrize(
    ("given", "config", "message"),
    [
        (rule(["a"], ["b"], "NewRename"), CONFIG, "of a kind that is not understood"),
        (converter(["a"], ["b"], like("New")), CONFIG, "operation of transformers that is not"),
        (
            converter(["a"], ["b"], like("PermuteForRope", permute_layer_names=None, **ROPE)),
            None,
            "it needs the number of heads: give from_transformers a model, not a type",
        ),
    ],
)
def test_what_is_not_understood_is_told(given, config, message):
    with pytest.raises(RuleError, match=message):
        translated([given], config)


@pytest.fixture
def installed(monkeypatch):
    """A transformers that has rules for one type."""
    package, mapping = ModuleType("transformers"), ModuleType("transformers.conversion_mapping")
    rules = {"moe": [rule(["a"], ["b"])], "legacy": [rule(["gamma"], ["weight"])]}
    mapping.get_checkpoint_conversion_mapping = rules.get
    mapping._build_checkpoint_conversion_mapping = lambda: rules
    mapping.get_model_conversion_mapping = lambda model, add_legacy: [
        *rules["moe"],
        *(rules["legacy"] if add_legacy else ()),
    ]
    package.conversion_mapping = mapping
    package.CONFIG_MAPPING = {"moe": 1, "llama": 2}
    monkeypatch.setitem(sys.modules, "transformers", package)
    monkeypatch.setitem(sys.modules, "transformers.conversion_mapping", mapping)


OWN, SHARED = WeightRenaming(r"a(?!\w)", "b"), WeightRenaming(r"gamma(?!\w)", "weight")


def test_by_the_type(installed):
    assert families() == ["moe"]
    assert from_transformers("moe") == [OWN, SHARED]
    assert from_transformers("moe", legacy=False) == [OWN]
    assert from_transformers("llama") == [SHARED]
    with pytest.raises(DtypeSamplerError, match="no model type 'lama': did you mean 'llama'"):
        from_transformers("lama")
    with pytest.raises(DtypeSamplerError, match=r"no model type 'zzzzzzz'$"):
        from_transformers("zzzzzzz")


def test_of_a_model(installed):
    model = nn.Linear(1, 1)
    with pytest.raises(DtypeSamplerError, match="a model of transformers, not a Linear"):
        from_transformers(model)
    model.config, model.base_model_prefix = CONFIG, "model"
    assert from_transformers(model) == [OWN, SHARED]
    assert from_transformers(model, legacy=False) == [OWN]


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DtypeSamplerError, match="transformers 5 or newer is needed"):
        from_transformers("llama")
