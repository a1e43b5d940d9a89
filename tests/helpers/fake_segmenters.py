"""Promptable segmenters with random weights, saved in transformers' own form."""

from pathlib import Path

import torch
from transformers import (
    PreTrainedModel,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamImageProcessor,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

SIDE_PX = 64


def write_sam_folder(folder: Path) -> None:
    """A SAM of a few thousand parameters, in the layout that its authors' repositories have."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=16,
            output_channels=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=SIDE_PX,
            patch_size=8,
            window_size=4,
            num_pos_feats=8,
            global_attn_indexes=[0],
            mlp_dim=16,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=16, image_size=SIDE_PX, patch_size=8, mask_input_channels=4, image_embedding_size=SIDE_PX // 8
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    _shaken(SamModel(config)).save_pretrained(folder)
    square = {"height": SIDE_PX, "width": SIDE_PX}
    SamImageProcessor(size={"longest_edge": SIDE_PX}, pad_size=square).save_pretrained(folder)


def write_sam2_folder(folder: Path) -> None:
    """The same for SAM 2."""
    torch.manual_seed(0)
    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE_PX, SIDE_PX],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[SIDE_PX // 4] * 2, [SIDE_PX // 8] * 2, [SIDE_PX // 16] * 2],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=SIDE_PX, mask_input_channels=4),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    _shaken(Sam2Model(config)).save_pretrained(folder)
    Sam2ImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX}).save_pretrained(folder)


def _shaken(model: PreTrainedModel) -> PreTrainedModel:
    """Random weights large enough that masks differ from one half and from each other."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model
