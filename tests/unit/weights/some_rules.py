"""Rules that several files plan with."""

from __future__ import annotations

from dtype_sampler.weights import Stack, WeightConverter

EXPERTS = WeightConverter([r"e\.(?P<index>\d+)\.w"], ["e.w"], [Stack(0)])
