"""Real models of transformers, made small, in each dtype of the sample."""

from __future__ import annotations

import unittest

import pytest
from round_trip import DtypeRoundTripMixin

transformers = pytest.importorskip("transformers", reason="tox run -e realworld brings it")


class DFineTest(DtypeRoundTripMixin, unittest.TestCase):
    """The model whose test started all this, with its HGNetV2 backbone."""

    model_classes = (transformers.DFineModel, transformers.DFineForObjectDetection)

    def get_config(self):
        backbone = transformers.HGNetV2Config(
            stem_channels=[3, 16, 16],
            stage_in_channels=[16, 64, 128, 256],
            stage_mid_channels=[16, 32, 64, 128],
            stage_out_channels=[64, 128, 256, 512],
            stage_num_blocks=[1, 1, 2, 1],
            stage_numb_of_layers=[3, 3, 3, 3],
            hidden_sizes=[64, 128, 256, 512],
            depths=[1, 1, 2, 1],
            out_indices=[2, 3, 4],
            use_learnable_affine_block=True,
        )
        return transformers.DFineConfig(
            backbone_config=backbone,
            encoder_in_channels=[128, 256, 512],
            encoder_hidden_dim=32,
            encoder_ffn_dim=64,
            encoder_attention_heads=2,
            d_model=32,
            decoder_in_channels=[32, 32, 32],
            decoder_ffn_dim=64,
            decoder_n_points=[3, 6, 3],
            decoder_layers=2,
            decoder_attention_heads=2,
            num_queries=30,
            num_denoising=0,
            depth_mult=0.34,
            hidden_expansion=0.5,
        )


class LlamaTest(DtypeRoundTripMixin, unittest.TestCase):
    model_classes = (transformers.LlamaModel, transformers.LlamaForCausalLM)

    def get_config(self):
        return transformers.LlamaConfig(
            vocab_size=99,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )


class ViTTest(DtypeRoundTripMixin, unittest.TestCase):
    model_classes = (transformers.ViTModel, transformers.ViTForImageClassification)

    def get_config(self):
        return transformers.ViTConfig(
            image_size=32,
            patch_size=8,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
