"""Real models of transformers, made small, in each dtype of the sample."""

from __future__ import annotations

import unittest

import pytest
from round_trip import DtypeRoundTripMixin

transformers = pytest.importorskip("transformers", reason="tox run -e realworld brings it")
configs = pytest.importorskip("configs")


class DFineTest(DtypeRoundTripMixin, unittest.TestCase):
    model_classes = (transformers.DFineModel, transformers.DFineForObjectDetection)

    def get_config(self):
        return configs.d_fine()


class LlamaTest(DtypeRoundTripMixin, unittest.TestCase):
    model_classes = (transformers.LlamaModel, transformers.LlamaForCausalLM)

    def get_config(self):
        return configs.llama()


class ViTTest(DtypeRoundTripMixin, unittest.TestCase):
    model_classes = (transformers.ViTModel, transformers.ViTForImageClassification)

    def get_config(self):
        return configs.vit()
