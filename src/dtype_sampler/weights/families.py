r"""The rules of transformers' own model families, as rules of this loader.

transformers keeps them in `conversion_mapping.py`, in a language of its own: `*` for a number, a
`\1` that counts from the pattern that matched, dots that are not escaped. They are read from the
transformers that is installed, by its public names and by the attributes that its rules have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dtype_sampler.errors import DtypeSamplerError, nearest
from dtype_sampler.weights.operations import (
    Chunk,
    Concatenate,
    Operation,
    Split,
    Stack,
    Transpose,
    Unstack,
)
from dtype_sampler.weights.reordering import (
    Interleave,
    Pad,
    PermuteForRope,
    RegroupExperts,
    Reshape,
    UngroupExperts,
    Unpad,
)
from dtype_sampler.weights.rules import Rule, RuleError, WeightConverter, WeightRenaming

if TYPE_CHECKING:
    from torch import nn

# How many layers a rename that counts on is made for, if no configuration tells.
_LAYERS = 128
_NUMBER = r"(?P<index>\d+)"


def from_transformers(model: str | nn.Module, *, legacy: bool = True) -> list[Rule]:
    """The rules by which transformers loads a model, for `load_weights`, `plan_load` and others.

    model: a model type, such as `qwen3_moe`, or the name of a class that has rules of its own; or
    a model of transformers, whose submodels and configuration count then too. A type that needs no
    rules has none. legacy: with those that all types share, for names that old checkpoints have;
    without them the rules are for saving, as transformers does it.

    Raises DtypeSamplerError if transformers is not installed, or too old to have rules, or does not
    know the type; RuleError for a rule of a kind that is not understood.
    """
    if isinstance(model, str):
        return translated(_of_type(model, legacy=legacy), None)
    mapping = _mapping()
    config = getattr(model, "config", None)
    if config is None or not hasattr(model, "base_model_prefix"):
        raise DtypeSamplerError(
            f"from_transformers: give a model type or a model of transformers, not a"
            f" {type(model).__name__}"
        )
    return translated(mapping.get_model_conversion_mapping(model, add_legacy=legacy), config)


def families() -> list[str]:
    """The model types and classes that the installed transformers has rules for."""
    mapping = _mapping()
    built = mapping._build_checkpoint_conversion_mapping()  # noqa: SLF001 -- it has no public list
    return sorted(name for name in built if name != "legacy")


def _mapping() -> Any:
    try:
        from transformers import conversion_mapping  # type: ignore[import-not-found,unused-ignore]  # it may be missing
    except ImportError as error:
        raise DtypeSamplerError(
            f"from_transformers: transformers 5 or newer is needed, which has rules: {error}"
        ) from None
    return conversion_mapping


def _of_type(name: str, *, legacy: bool) -> list[Any]:
    mapping = _mapping()
    shared = mapping.get_checkpoint_conversion_mapping("legacy") if legacy else None
    rules = mapping.get_checkpoint_conversion_mapping(name)
    if rules is None:
        from transformers import CONFIG_MAPPING

        known = tuple(sorted({*families(), *CONFIG_MAPPING.keys()}))
        if name not in known:
            guess = nearest(name, known)
            hint = f": did you mean {guess!r}?" if guess else ""
            raise DtypeSamplerError(f"transformers has no model type {name!r}{hint}")
    return [*(rules or []), *(shared or [])]


def translated(rules: Iterable[Any], config: Any) -> list[Rule]:
    """Rules of transformers as ours. config: of the model that they are for; None: not known."""
    found: list[Rule] = []
    for rule in rules:
        kind = type(rule).__name__
        if hasattr(rule, "operations"):
            found.append(_converter(rule, config))
        elif kind == "GroupWeightRename":
            found += _group(rule)
        elif kind == "LayerPairCollapse":
            found += _pairs(rule, config)
        elif hasattr(rule, "offset"):
            found += _counted(rule, config)
        elif kind in ("WeightRenaming", "PrefixChange"):
            found.append(_renaming(rule))
        else:
            raise RuleError(f"{rule!r}: a rule of transformers of a kind that is not understood")
    return found


def _scope(rule: Any) -> str | None:
    scope: str | None = rule.scope_prefix
    return scope


def _renaming(rule: Any) -> WeightRenaming:
    sources: list[str] = rule.source_patterns
    # The first that matches is meant, the longest before others.
    ordered = sorted(sources, key=len, reverse=True)
    pattern = "|".join(map(_pattern, ordered))
    groups = sum(re.compile(one).groups for one in ordered)
    if len(ordered) > 1:
        pattern = f"(?:{pattern})"
    return WeightRenaming(pattern, _target(rule.target_patterns[0], groups), scope=_scope(rule))


def _group(rule: Any) -> list[Rule]:
    """Renames of which one makes the name that another takes: in the order that none is twice."""
    pairs = list(zip(rule.source_patterns, rule.target_patterns, strict=True))
    guard = _pattern(pairs[0][0])
    return [
        WeightRenaming(_pattern(source), _escaped(target), scope=_scope(rule), only_if=guard)
        for source, target in reversed(pairs)
    ]


def _pairs(rule: Any, config: Any) -> list[Rule]:
    """Renames of two layers each, one for attention and one for the rest, to one layer."""
    kinds = (("mixer", None), ("attn_alpha", "lambda_1"), ("mlp_alpha", "lambda_2"))
    return [
        WeightRenaming(
            rf"layers\.{index}\.{name}(?=\.|$)",
            f"layers.{index // 2}.{new or ('self_attn', 'mlp')[index % 2]}",
            scope=_scope(rule),
        )
        for index in range(2 * _layers(config))
        for name, new in kinds
    ]


def _layers(config: Any) -> int:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(text, "num_hidden_layers", _LAYERS))


def _counted(rule: Any, config: Any) -> list[Rule]:
    """A rename that counts on: one for each number there may be."""
    count = _layers(config)
    found: list[Rule] = []
    for source in rule.source_patterns:
        for index in range(count):
            pattern = re.sub(r"\(\\d\+\)", str(index), source, count=1)
            target = rule.target_patterns[0].replace(r"\1", str(index + rule.offset))
            found.append(WeightRenaming(_pattern(pattern), _escaped(target), scope=_scope(rule)))
    return found


def _converter(rule: Any, config: Any) -> WeightConverter:
    sources, targets = list(rule.source_patterns), list(rule.target_patterns)
    operations: list[Operation] = []
    names = sources
    for operation in rule.operations:
        made = _operation(operation, names, config)
        operations += made
        if any(isinstance(one, Chunk | Split) for one in made):
            names = targets
    several = any("*" in one for one in sources)
    return WeightConverter(
        [_pattern(one).replace("*", _NUMBER) if several else _pattern(one) for one in sources],
        [_target(one, 1).replace("*", r"\g<index>") for one in targets],
        operations,
        scope=_scope(rule),
    )


def _operation(given: Any, names: Sequence[str], config: Any) -> list[Operation]:
    kind = type(given).__name__
    if kind in ("MergeModulelist", "SplitModulelist"):
        return [Stack(given.dim) if kind == "MergeModulelist" else Unstack(given.dim)]
    if kind == "Concatenate":
        return [Concatenate(given.dim)]
    if kind == "Chunk":
        return [Chunk(given.dim)]
    if kind == "Split":
        return [Split(None, given.dim)]
    if kind == "Interleave":
        return [Interleave(given.dim, given.inverse)]
    if kind == "Transpose":
        return [Transpose(given.dim0, given.dim1, given.check_dims)]
    if kind == "Conv3dToLinear":
        return [Reshape(None, (-1, given.in_channels, *given.kernel_size))]
    if kind == "LinearToConv3d":
        return [Reshape((-1, given.in_channels, *given.kernel_size))]
    if kind == "PermuteForRope":
        return [_permute(given, names, config)]
    if kind == "Inkling2UnpadVocab":
        return [Pad() if given.inverse else Unpad()]
    if kind == "ErnieFuseAndSplitTextVisionExperts":
        return [RegroupExperts(given.stack_dim, given.concat_dim)]
    if kind == "ErnieSplitAndDecoupleTextVisionExperts":
        return [UngroupExperts(given.stack_dim, given.concat_dim)]
    raise RuleError(f"{given!r}: an operation of transformers that is not understood")


def _permute(given: Any, names: Sequence[str], config: Any) -> PermuteForRope:
    wanted = given.permute_layer_names
    only = None
    if wanted is not None:
        only = [at for at, name in enumerate(names) if any(one in name for one in wanted)]
    if config is None:
        raise RuleError(
            f"{given!r}: it needs the number of heads: give from_transformers a model, not a type"
        )
    if given.subconfig_key is not None:
        config = getattr(config, given.subconfig_key, config)
    return PermuteForRope(getattr(config, "num_attention_heads", 1), only, given.inverse)


def _pattern(source: str) -> str:
    """A source as a regular expression: as transformers makes one, but for `*`."""
    pattern = source.replace("*.", r"*\.")
    # A name must not go on behind it.
    return pattern + r"(?!\w)" if re.search(r"[a-zA-Z0-9]$", pattern) else pattern


def _target(target: str, groups: int) -> str:
    r"""A replacement, in which `\1` is the group of whichever source matched."""
    one = "".join(rf"\g<{number}>" for number in range(1, groups + 1))
    return one.join(map(_escaped, target.split(r"\1")))


def _escaped(target: str) -> str:
    """A replacement in which nothing but references has a meaning."""
    return re.sub(r"\\(?![0-9g])", r"\\\\", target)
