"""The reference lazy-regex weight loader: rules that rename and convert, a plan, a load.

Rules and plans know neither torch nor safetensors; those are imported when something is loaded or
saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dtype_sampler.weights.families import from_transformers
from dtype_sampler.weights.header import CheckpointError
from dtype_sampler.weights.operations import (
    Chunk,
    Concatenate,
    Operation,
    OperationError,
    Split,
    Stack,
    Transpose,
    Unstack,
)
from dtype_sampler.weights.plan import plan_load
from dtype_sampler.weights.planned import LoadPlan
from dtype_sampler.weights.problems import Collision, Incomplete, Mismatch, Problem
from dtype_sampler.weights.reordering import (
    Interleave,
    Pad,
    PermuteForRope,
    RegroupExperts,
    Reshape,
    Scale,
    UngroupExperts,
    Unpad,
)
from dtype_sampler.weights.report import LoadError, LoadReport
from dtype_sampler.weights.reversal import reverse
from dtype_sampler.weights.rules import (
    ReversedRules,
    Rule,
    RuleError,
    WeightConverter,
    WeightRenaming,
)

if TYPE_CHECKING:
    from dtype_sampler.weights.check import check_dtype_loading
    from dtype_sampler.weights.compare import Comparison, compare_weights
    from dtype_sampler.weights.load import load_weights
    from dtype_sampler.weights.save import save_weights

__all__ = [
    "CheckpointError",
    "Chunk",
    "Collision",
    "Comparison",
    "Concatenate",
    "Incomplete",
    "Interleave",
    "LoadError",
    "LoadPlan",
    "LoadReport",
    "Mismatch",
    "Operation",
    "OperationError",
    "Pad",
    "PermuteForRope",
    "Problem",
    "RegroupExperts",
    "Reshape",
    "ReversedRules",
    "Rule",
    "RuleError",
    "Scale",
    "Split",
    "Stack",
    "Transpose",
    "UngroupExperts",
    "Unpad",
    "Unstack",
    "WeightConverter",
    "WeightRenaming",
    "check_dtype_loading",
    "compare_weights",
    "from_transformers",
    "load_weights",
    "plan_load",
    "reverse",
    "save_weights",
]

_LAZY = {
    "Comparison": "compare",
    "check_dtype_loading": "check",
    "compare_weights": "compare",
    "load_weights": "load",
    "save_weights": "save",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        from importlib import import_module

        module = import_module(f"dtype_sampler.weights.{_LAZY[name]}")
        value = globals()[name] = getattr(module, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
