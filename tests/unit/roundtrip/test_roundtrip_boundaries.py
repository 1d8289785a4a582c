"""Which formats hold all of another, and where the results of a conversion change."""

from __future__ import annotations

import pytest
import torch
from exact_formats import LARGE, MAGNITUDE, NARROW, both, every_nth, exact

from dtype_sampler.roundtrip.boundaries import boundaries, inside, steps
from dtype_sampler.roundtrip.formats import FORMATS, embeds
from dtype_sampler.roundtrip.rounding import Narrowing, convert


@pytest.mark.parametrize("source", NARROW)
def test_embeds_as_sets_of_values(source):
    for target in NARROW:
        values = [
            {str(exact(name, p)) for p in range(1 << FORMATS[name].bits)}
            for name in (source, target)
        ]
        assert embeds(FORMATS[source], FORMATS[target]) == (values[0] <= values[1]), target
    for wide in LARGE:
        assert embeds(FORMATS[source], FORMATS[wide])
        assert not embeds(FORMATS[wide], FORMATS[source])


@pytest.mark.parametrize("source", NARROW)
def test_what_embeds_comes_back(source):
    form = FORMATS[source]
    patterns = form.patterns()
    wider = [target for target in FORMATS.values() if embeds(form, target)]
    assert len(wider) >= 3
    for target in wider:
        back = convert(convert(patterns, form, target), target, form)
        assert form.same(patterns, back).all(), target.name


def test_float32_in_float64_and_back():
    patterns = boundaries(FORMATS["float16"], FORMATS["float32"])
    there = convert(patterns, FORMATS["float32"], FORMATS["float64"])
    assert (
        FORMATS["float32"]
        .same(convert(there, FORMATS["float64"], FORMATS["float32"]), patterns)
        .all()
    )


def test_through_float32_is_not_the_same_as_directly():
    form = FORMATS["float16"]
    patterns = boundaries(form, FORMATS["float64"])
    directly = convert(patterns, FORMATS["float64"], form)
    through = convert(
        convert(patterns, FORMATS["float64"], FORMATS["float32"]), FORMATS["float32"], form
    )
    differ = ~form.same(directly, through)
    assert 10_000 < int(differ.sum()) < len(patterns) / 2
    both("float64", every_nth(patterns[differ], 500), "float16", Narrowing())


@pytest.mark.parametrize("name", NARROW)
def test_boundaries_are_where_results_change(name):
    """Between two neighbouring boundaries every number rounds as one of them does."""
    form, wide = FORMATS[name], FORMATS["float32"]
    found = boundaries(form, wide)
    assert torch.equal(found, found.unique())
    inner = found[(found >= 0) & (found <= wide.largest)]
    given = convert(inner, wide, form, MAGNITUDE)
    gap = (inner[1:] - inner[:-1]) > 1
    assert (form.same(given[1:], given[:-1]) | ~gap).all()
    for special in (0, 1 << 31, wide.infinity, wide.nan, wide.largest, 1):
        assert special in found


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("how", [Narrowing(), MAGNITUDE, Narrowing(overflow="saturate")])
def test_steps_say_what_convert_does(name, how):
    form, wide = FORMATS[name], FORMATS["float32"]
    edges = steps(form, wide, how)
    assert len(edges) == form.largest + 2
    chunk = torch.cat([boundaries(form, wide), torch.arange(0, 2**31, 104_729)])
    chunk = chunk[(chunk >= 0) & (chunk <= wide.largest)]
    if not form.zero:
        chunk = chunk[chunk > 0]
    place = torch.searchsorted(edges, chunk, right=True) - 1
    given = convert(chunk, wide, form, how)
    below = place <= form.largest
    assert torch.equal(given[below], place[below])
    over = given[~below]
    assert len(over)
    assert (over == over[0]).all()


@pytest.mark.parametrize("name", ["float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz"])
@pytest.mark.parametrize("wide", LARGE)
def test_points_inside_are_between_boundaries(name, wide):
    source, target = FORMATS[wide], FORMATS[name]
    near = inside(target, source)
    assert len(torch.unique(near)) == len(near)
    marks = boundaries(target, source)
    positive = near[(near > 0) & (near <= source.largest)]
    assert len(positive) >= target.largest
    # Some are no neighbours of a number or a tie.
    far = ~torch.isin(positive, torch.cat([marks - 1, marks, marks + 1]))
    assert far.sum() > target.largest
