"""Every family that transformers converts: the same checkpoint, loaded by transformers and by us.

`python tests/realworld/conversion.py [FAMILY ...]` compares them and prints the table of the
reference, docs/reference/weights-families.md.
"""

from __future__ import annotations

import os

# Before transformers is imported: models come from configurations, and nothing is downloaded.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import small_models
import torch
import transformers
from round_trip import fill
from transformers import conversion_mapping, core_model_loading

from dtype_sampler.weights import Rule, RuleError, from_transformers, load_weights, plan_load
from dtype_sampler.weights.families import families, translated
from dtype_sampler.weights.planned import Numbered

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
CLASSES = 2

# Families in which we give another tensor than transformers, and why that is right.
DIFFERENT = {
    "pixio": (
        "`PixioBackbone`: transformers swaps its two last norms when it loads what it saved; ours"
        " are as they were saved"
    ),
}

HEAD = """\
# Families of transformers

What `from_transformers` gives was compared with transformers {version} for every entry of its
`conversion_mapping`: small models with random weights, saved by transformers and loaded by both, in
float32, float16 and bfloat16: every tensor bit by bit, and what is missing, unexpected, or of
another shape. Where no small model could be made, or transformers itself could not load what it had
saved, the names alone were compared, of keys made from the rules.

Made by `python tests/realworld/conversion.py`.

| family | rules | compared |
| --- | --- | --- |
"""


@dataclass
class Outcome:
    """What came of a family. same: classes that were equal. unmade: those without a model."""

    same: list[str] = field(default_factory=list)
    unmade: dict[str, str] = field(default_factory=dict)
    different: list[str] = field(default_factory=list)


def classes_of(family: str) -> tuple[list[Any], str]:
    """The classes to compare for an entry of the mapping, and their model type."""
    if family in transformers.CONFIG_MAPPING:
        return small_models.classes(family)[:CLASSES], family
    found = getattr(transformers, family, None)
    kind = getattr(getattr(found, "config_class", None), "model_type", "")
    return ([found], kind) if kind in transformers.CONFIG_MAPPING else ([], kind)


def compare(family: str) -> Outcome:
    """Compare the classes of a family."""
    outcome = Outcome()
    classes, model_type = classes_of(family)
    for model_class in classes:
        name = model_class.__name__
        with tempfile.TemporaryDirectory() as folder:
            try:
                _, model = _small(model_class, model_type)
                fill(model)
                model.save_pretrained(folder)
                theirs = [_theirs(model_class, folder, dtype) for dtype in DTYPES]
            except Exception as error:  # noqa: BLE001 -- theirs, of any kind
                text = f"{type(error).__name__}: {error}"
                outcome.unmade[name] = " ".join(text.split())[:100]
                continue
            try:
                differences = [
                    f"{name} in {dtype}: {one}"
                    for dtype, their in zip(DTYPES, theirs, strict=True)
                    for one in _differences(model_class, Path(folder), dtype, *their)
                ]
            except RuleError as error:
                # Of a newer transformers: refused, and never loaded wrongly.
                outcome.unmade[name] = str(error)
                continue
        outcome.different += differences
        if not differences:
            outcome.same.append(name)
    return outcome


def _small(model_class: Any, model_type: str) -> tuple[Any, Any]:
    made = small_models.small(model_class, model_type)
    if isinstance(made, str):
        raise TypeError(made)
    return made


def _theirs(model_class: Any, folder: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    model, info = model_class.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    return model, info


def _differences(
    model_class: Any, folder: Path, dtype: torch.dtype, theirs: Any, info: dict[str, Any]
) -> Iterator[str]:
    ours = small_models.make(model_class, theirs.config, dtype)
    kept = [pattern.replace("*", ".*") for pattern in ours._get_dtype_plan(dtype)]
    report = load_weights(
        ours, folder, from_transformers(ours), dtype=dtype, strict=False, keep_in_float32=kept
    )
    for problem in (*report.errors, *report.collisions, *report.incomplete):
        yield str(problem)
    found = tensors(ours)
    # What is tied, we tell once, and they by each name.
    first: dict[int, str] = {}
    for name, tensor in found.items():
        first.setdefault(id(tensor), name)
    missing = {first[id(found[name])] for name in info["missing_keys"]}
    if set(report.missing_keys) != missing:
        yield f"missing {sorted(set(report.missing_keys) ^ missing)}"
    if len(report.unexpected_keys) != len(info["unexpected_keys"]):
        yield f"unexpected {report.unexpected_keys}, not {sorted(info['unexpected_keys'])}"
    mismatched = {one[0] for one in info["mismatched_keys"]}
    if {one.target for one in report.mismatched_keys} != mismatched:
        yield f"of another shape {report.mismatched_keys}, not {sorted(mismatched)}"
    for name, tensor in tensors(theirs).items():
        if name not in info["missing_keys"] and not _same(found[name], tensor):
            yield f"{name}: {found[name].dtype}, {tensor.dtype}"


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers under all their names."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    octets = [t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    return torch.equal(*octets)


def keys_for(family: str) -> Iterator[str]:
    """Keys that the rules of a family are for, made from their patterns."""
    seen: dict[str, None] = {}
    for rule in conversion_mapping.get_checkpoint_conversion_mapping(family):
        for source in rule.source_patterns:
            for text in _examples(source):
                longer = text if text.endswith(".weight") else f"{text}.weight"
                for key in (text, f"model.{text}", longer, f"a.{text}", f"{text}2"):
                    seen[re.sub(r"\.\.+", ".", key).strip(".")] = None
    yield from seen


def _examples(pattern: str) -> Iterator[str]:
    """Texts that a pattern matches, more or less: both sides must make the same of them anyhow."""
    text = re.sub(r"\(\?[!<=][^()]*(\([^()]*\))?[^()]*\)", "", pattern)
    text = re.sub(r"\(\?:\)", "", text)
    text = re.sub(r"\[0-9\]|\[\^\.\]\+|\\d\+?|\\d|\*(?=\.)", "1", text)
    text = re.sub(r"\.[+*]", "x.y", text).replace("\\.", ".").replace("[123]", "2")
    text = text.replace("^", "").replace("$", "").replace("\\w+", "w")
    todo = [text]
    for one in todo:
        inner = re.search(r"\((?:\?:)?([^()]*)\)\??", one)
        if inner is None:
            if not set(one) & set("()|?+*\\[]"):
                yield one
            continue
        todo += (
            f"{one[: inner.start()]}{branch}{one[inner.end() :]}" for branch in inner[1].split("|")
        )


@cache
def _ours(family: str) -> list[Rule]:
    kind = classes_of(family)[1]
    config = transformers.CONFIG_MAPPING[kind]() if kind in transformers.CONFIG_MAPPING else None
    rules = conversion_mapping.get_checkpoint_conversion_mapping(family)
    return translated(rules, config or transformers.PretrainedConfig())


def named_by_both(family: str, key: str) -> tuple[str, str]:
    """What transformers and we make of a key, by the rules of a family. See `_differences`."""
    rules = conversion_mapping.get_checkpoint_conversion_mapping(family)
    renames = [rule for rule in rules if not hasattr(rule, "operations")]
    converters = [rule for rule in rules if hasattr(rule, "operations")]
    theirs, _ = core_model_loading.rename_source_key(key, renames, converters)
    plan = plan_load([key], None, _ours(family))
    if plan.direct:
        return theirs, next(iter(plan.direct))
    for group in plan.groups:
        names = group.targets[0]
        return theirs, names.name("*") if isinstance(names, Numbered) else str(names[0])
    if plan.incomplete:
        return theirs, plan.incomplete[0].targets[0]
    return theirs, f"{plan.errors or plan.collisions}"


def row(family: str, outcome: Outcome) -> str:
    """A row of the table."""
    rules = conversion_mapping.get_checkpoint_conversion_mapping(family) or ()
    same = ", ".join(f"`{name}`" for name in outcome.same)
    if outcome.different:
        reason = DIFFERENT.get(family, f"differs: {outcome.different[0]}")
        said = f"{same}; {reason}" if same else reason
    elif outcome.same:
        said = same
    else:
        said = "names"
    return f"| `{family}` | {len(rules)} | {said} |"


def main(wanted: list[str]) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity(50)
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(HEAD.format(version=transformers.__version__), end="")
    for family in wanted or families():
        outcome = compare(family)
        print(row(family, outcome), flush=True)
        for what in (*outcome.unmade.items(), *outcome.different):
            print(f"{family}: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
