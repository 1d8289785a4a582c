"""Configurations of real models of transformers that make small ones."""

from __future__ import annotations

import transformers


def d_fine() -> transformers.DFineConfig:
    """The model whose test started all this, with its HGNetV2 backbone."""
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


def llama() -> transformers.LlamaConfig:
    return transformers.LlamaConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )


def vit() -> transformers.ViTConfig:
    return transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
