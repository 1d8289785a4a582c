"""What stays in float32 whatever dtype is asked for."""

from __future__ import annotations

import torch
from holders import holder, parameter
from torch import nn

from dtype_sampler.weights import load_weights


class TestFloat32:
    def test_buffers_that_are_kept(self):
        """DeepSeek-V3's routers: in bfloat16 their biases fall together."""
        biases = 1 + torch.arange(12.0) / 4096
        for dtype in (None, "bfloat16"):
            model = holder(
                w=parameter(torch.zeros(2).bfloat16()),
                e_score_correction_bias=torch.zeros(12).bfloat16(),
            )
            source = {"w": torch.ones(2), "e_score_correction_bias": biases}
            load_weights(model, source, dtype=dtype, keep_in_float32=["e_score_correction_bias"])
            assert model.w.dtype == torch.bfloat16
            assert torch.equal(model.e_score_correction_bias, biases)

    def test_what_is_float32_on_purpose(self):
        """Of a model that was made in bfloat16."""
        names = ("in_proj", "out_proj", "A_log")
        model = holder(**{name: parameter(torch.zeros(2).bfloat16()) for name in names})
        model.A_log = parameter(torch.zeros(2))
        value = torch.tensor([1.001, 2.002])
        report = load_weights(model, dict.fromkeys(names, value), dtype="bfloat16")
        assert torch.equal(model.A_log, value)
        assert model.in_proj.dtype == torch.bfloat16
        assert report.notes == [
            "of a model that is torch.bfloat16 already, what is wider stays so: A_log"
        ]
        assert "A_log" in str(report)
        # A model that is float32 becomes bfloat16 as a whole: nothing tells what is on purpose.
        model = holder(**{name: parameter(torch.zeros(2)) for name in names})
        load_weights(model, dict.fromkeys(names, value), dtype="bfloat16")
        assert model.A_log.dtype == torch.bfloat16

    def test_a_pattern_that_matches_nothing_is_told(self):
        model = nn.Linear(2, 2)
        source = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
        report = load_weights(model, source, keep_in_float32=["weight", "wieght", "x"])
        assert report.notes == [
            f"keep_in_float32: the pattern {pattern!r} matches no name of the model"
            for pattern in ("wieght", "x")
        ]
        assert not report.problems

    def test_what_is_wider_or_of_one_byte_stays(self):
        kept = {
            "of_eight": torch.zeros(2).double(),
            "whole": torch.zeros(2, dtype=torch.int16),
            "of_one": torch.zeros(2).to(torch.float8_e4m3fn),
            "of_two": torch.zeros(2).half(),
        }
        model = holder(**kept)
        load_weights(model, kept, keep_in_float32=[""])
        assert {name: getattr(model, name).dtype for name in kept} == {
            "of_eight": torch.float64,
            "whole": torch.int16,
            "of_one": torch.float8_e4m3fn,
            "of_two": torch.float32,
        }
