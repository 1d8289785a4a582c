"""transformers' own `ModelTesterMixin` for three models: a module of its tests package.

`adoption.unpack` puts it there. What the mixin wants of a model is its classes and an object that
makes a small configuration, with inputs for it.
"""

from __future__ import annotations

import unittest

import torch
import transformers

from . import configs
from .test_modeling_common import ModelTesterMixin, floats_tensor, ids_tensor


class ModelTester:
    """What the mixin asks for a configuration and inputs."""

    batch_size = 3
    seq_length = 7
    is_training = False

    def __init__(self, make_config, make_inputs):
        self.get_config = make_config
        self.make_inputs = make_inputs

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        return config, self.make_inputs(config)


def images(config):
    size = getattr(config, "image_size", 64)
    return {"pixel_values": floats_tensor([ModelTester.batch_size, 3, size, size])}


def tokens(config):
    shape = [ModelTester.batch_size, ModelTester.seq_length]
    return {
        "input_ids": ids_tensor(shape, config.vocab_size),
        "attention_mask": torch.ones(shape, dtype=torch.long),
    }


class DFineModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (transformers.DFineModel, transformers.DFineForObjectDetection)
    is_encoder_decoder = True

    def setUp(self):
        self.model_tester = ModelTester(configs.d_fine, images)


class LlamaModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (transformers.LlamaModel, transformers.LlamaForCausalLM)

    def setUp(self):
        self.model_tester = ModelTester(configs.llama, tokens)


class ViTModelTest(ModelTesterMixin, unittest.TestCase):
    all_model_classes = (transformers.ViTModel, transformers.ViTForImageClassification)

    def setUp(self):
        self.model_tester = ModelTester(configs.vit, images)
