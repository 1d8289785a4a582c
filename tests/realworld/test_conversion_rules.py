"""What transformers loads by its own rules, we load by `from_transformers`, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtype_sampler.errors import DtypeSamplerError
from dtype_sampler.weights import RuleError, from_transformers, reverse

transformers = pytest.importorskip("transformers", reason="tox run -e realworld brings it")
# It imports transformers.
conversion = pytest.importorskip("conversion")

FAMILIES = conversion.families()
TABLE = Path(__file__).parents[2] / "docs" / "reference" / "weights-families.md"


@pytest.mark.parametrize("family", FAMILIES)
def test_loads_the_same_bits(family: str) -> None:
    outcome = conversion.compare(family)
    if family in conversion.DIFFERENT:
        assert outcome.different, "it differs no more: take it out of the list"
        return
    assert outcome.different == []
    if not outcome.same:
        pytest.skip(f"no model to compare: {outcome.unmade or 'no class'}")


@pytest.mark.parametrize("family", FAMILIES)
def test_gives_the_same_names(family: str) -> None:
    count = 0
    for key in conversion.keys_for(family):
        try:
            theirs, ours = conversion.named_by_both(family, key)
        except RuleError as error:
            # Of a newer transformers than the table's: refused, and never loaded wrongly.
            assert transformers.__version__ not in TABLE.read_text("utf-8")
            pytest.skip(str(error))
        count += 1
        assert ours == theirs, key
    assert count


def test_most_families_have_a_model() -> None:
    """The table was made of real comparisons, and is of the families that there are."""
    rows = [line.split("|")[1:4] for line in TABLE.read_text("utf-8").splitlines() if "| `" in line]
    named = [cells[0].strip(" `") for cells in rows]
    if f"transformers {transformers.__version__} " in TABLE.read_text("utf-8"):
        assert named == FAMILIES
    assert sum(cells[2].strip() != "names" for cells in rows) > 150
    assert not any("differs" in cells[2] for cells in rows)


def test_most_families_can_be_saved() -> None:
    config = transformers.PretrainedConfig()
    refused = []
    for family in FAMILIES:
        rules = conversion.conversion_mapping.get_checkpoint_conversion_mapping(family)
        try:
            reverse(conversion.translated(rules, config))
        except RuleError as error:
            refused.append(f"{family}: {error}")
    assert len(FAMILIES) - len(refused) >= 223, refused


def test_names_that_transformers_does_not_know() -> None:
    with pytest.raises(DtypeSamplerError, match="has no model type 'qwen3_mo': did you mean"):
        from_transformers("qwen3_mo")
    with pytest.raises(DtypeSamplerError, match="give a model type or a model of transformers"):
        from_transformers(conversion.torch.nn.Linear(1, 1))
    # Known, and without rules of its own.
    assert from_transformers("llama", legacy=False) == []
    assert from_transformers("llama")
    with pytest.raises(RuleError, match="give from_transformers a model, not a type"):
        from_transformers("kimi_k25")
