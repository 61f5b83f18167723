"""Networks that people use, by name, with random weights and statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torchvision.models.segmentation as tv
import transformers
from torch import nn

from wholescene.models import Architecture, ClassSpec, ModelSpec, build_segmenter
from wholescene.raster.source import BandSpec, SourceSpec

ENCODER: dict[str, Any] = {"encoder_weights": None, "classes": 6}
TORCHVISION: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 6}


def _ours(
    encoder: str, decoder: str, encoder_options: dict[str, Any] | None = None, **options: Any
) -> nn.Module:
    spec = ModelSpec(
        architecture=Architecture(
            encoder=encoder,
            decoder=decoder,
            decoder_options=options,
            encoder_options=encoder_options or {},
        ),
        sources=(
            SourceSpec(bands=tuple(BandSpec(name=name) for name in ("red", "green", "blue"))),
        ),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=tuple(ClassSpec(id=i, name=f"class {i}", color=(i, 0, 0)) for i in range(6)),
    )
    return build_segmenter(spec)


def _segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        num_labels=6, depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=64
    )
    return transformers.SegformerForSemanticSegmentation(config)


STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}


def _upernet(backbone: Any) -> nn.Module:
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=32, auxiliary_in_channels=48, num_labels=6
    )
    return transformers.UperNetForSemanticSegmentation(config)


def _convnext() -> Any:
    return transformers.ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[16, 32, 48, 64], **STAGES)


def _swin() -> Any:
    return transformers.SwinConfig(
        embed_dim=12, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4, **STAGES
    )


SMALL_VIT: dict[str, Any] = {
    "image_size": 192,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 6,
}


def _beit() -> nn.Module:
    config = transformers.BeitConfig(
        use_relative_position_bias=True, out_indices=[1, 2, 3, 4], **SMALL_VIT
    )
    return transformers.BeitForSemanticSegmentation(config)


def _dpt() -> nn.Module:
    config = transformers.DPTConfig(
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 32, 48, 64],
        fusion_hidden_size=32,
        **SMALL_VIT,
    )
    return transformers.DPTForSemanticSegmentation(config)


DILATED = {"output_stride": 8, "dilation": "published"}
HRNET = {"feature_location": "", "out_indices": [1, 2, 3, 4]}


def _danet() -> nn.Module:
    """Attention starts as the identity; here it has its say."""
    module = _ours("test_resnet", "danet", DILATED)
    for name, parameter in module.named_parameters():
        if name.endswith(".scale"):
            nn.init.constant_(parameter, 0.7)
    return module


SWIN, SWIN_V2 = "tu-swin_tiny_patch4_window7_224", "tu-swinv2_tiny_window8_256"
VIT = "tu-vit_tiny_patch16_224.augreg_in21k"
SIZE = {"img_size": (224, 224)}
QUERIES = {"channels": 32, "queries": 12, "layers": 3, "hidden": 64}
NARROW = {"depth": 4, "embed_dim": 48, "num_heads": 2}

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "Unet ResNet-18": lambda: smp.Unet("resnet18", **ENCODER),
    "Unet ResNet-18 scse": lambda: smp.Unet("resnet18", decoder_attention_type="scse", **ENCODER),
    "Unet++ ResNet-18": lambda: smp.UnetPlusPlus("resnet18", **ENCODER),
    "MAnet ResNet-18": lambda: smp.MAnet("resnet18", **ENCODER),
    "Linknet ResNet-18": lambda: smp.Linknet("resnet18", **ENCODER),
    "FPN ResNet-18": lambda: smp.FPN("resnet18", **ENCODER),
    "PSPNet ResNet-18": lambda: smp.PSPNet("resnet18", **ENCODER),
    "PAN ResNet-18": lambda: smp.PAN("resnet18", **ENCODER),
    "DeepLabV3 ResNet-18": lambda: smp.DeepLabV3("resnet18", **ENCODER),
    "DeepLabV3+ ResNet-18": lambda: smp.DeepLabV3Plus("resnet18", **ENCODER),
    "UPerNet ResNet-18": lambda: smp.UPerNet("resnet18", **ENCODER),
    "Unet EfficientNet-B0": lambda: smp.Unet("efficientnet-b0", **ENCODER),
    "Unet MobileNetV3": lambda: smp.Unet("tu-mobilenetv3_large_100", **ENCODER),
    "UPerNet ConvNeXt-T": lambda: smp.UPerNet("tu-convnext_tiny", **ENCODER),
    "UPerNet ConvNeXtV2-A": lambda: smp.UPerNet("tu-convnextv2_atto", **ENCODER),
    "UPerNet HRNet-W18": lambda: smp.UPerNet("tu-hrnet_w18", **ENCODER),
    "UPerNet MobileViT-XS": lambda: smp.UPerNet("tu-mobilevit_xs", **ENCODER),
    "UPerNet Swin-T": lambda: smp.UPerNet(SWIN, **SIZE, **ENCODER),
    "UPerNet SwinV2-T": lambda: smp.UPerNet(SWIN_V2, img_size=(256, 256), **ENCODER),
    "SegFormer MiT-B0": lambda: smp.Segformer("mit_b0", **ENCODER),
    "Unet MiT-B0": lambda: smp.Unet("mit_b0", **ENCODER),
    "Unet++ ConvNeXt-A": lambda: smp.UnetPlusPlus("tu-convnext_atto", **ENCODER),
    "Unet MaxViT-Pico": lambda: smp.Unet("tu-maxvit_rmlp_pico_rw_256", **ENCODER),
    "Unet Twins-SVT-S": lambda: smp.Unet("tu-twins_svt_small", **ENCODER),
    "DPT DINOv3 ViT-S": lambda: smp.DPT(
        "tu-vit_small_patch16_dinov3", dynamic_img_size=True, **ENCODER
    ),
    "DPT ViT-Ti": lambda: smp.DPT(VIT, dynamic_img_size=True, **ENCODER),
    "torchvision FCN ResNet-50": lambda: tv.fcn_resnet50(**TORCHVISION),
    "torchvision DeepLabV3 ResNet-50": lambda: tv.deeplabv3_resnet50(**TORCHVISION),
    "torchvision LRASPP": lambda: tv.lraspp_mobilenet_v3_large(**TORCHVISION),
    "transformers SegFormer": _segformer,
    "transformers UPerNet ConvNeXt": lambda: _upernet(_convnext()),
    "transformers UPerNet Swin": lambda: _upernet(_swin()),
    "transformers BEiT": _beit,
    "transformers DPT": _dpt,
    "wholescene FCN ResNet": lambda: _ours("test_resnet", "fcn"),
    "wholescene UNet ResNet": lambda: _ours("test_resnet", "unet"),
    "wholescene UPerNet ConvNeXt": lambda: _ours("test_convnext", "upernet", channels=64),
    "wholescene FCN HRNet": lambda: _ours(
        "hrnet_w18_small", "fcn", HRNET, levels="all", kernel_size=1
    ),
    "wholescene PSPNet ResNet": lambda: _ours("test_resnet", "pspnet", DILATED),
    "wholescene DANet ResNet": _danet,
    "wholescene DeepLabV3 ResNet": lambda: _ours("test_resnet", "deeplabv3", channels=32),
    "wholescene DeepLabV3+ ResNet-d": lambda: _ours(
        "resnet18d", "deeplabv3plus", {**DILATED, "multi_grid": [1, 2]}, channels=32
    ),
    "wholescene OCRNet ResNet": lambda: _ours("test_resnet", "ocrnet", DILATED),
    "wholescene OCRNet HRNet": lambda: _ours("hrnet_w18_small", "ocrnet", HRNET, levels="all"),
    "wholescene Contrast HRNet": lambda: _ours("hrnet_w18_small", "contrast", HRNET),
    "wholescene UPerNet published": lambda: _ours(
        "test_resnet", "upernet", channels=32, faithful=True
    ),
    "wholescene SegFormer ResNet": lambda: _ours("test_resnet", "segformer", channels=64),
    "wholescene PointRend ResNet": lambda: _ours("test_resnet", "pointrend", channels=32),
    "wholescene Mask2Former ResNet": lambda: _ours("test_resnet", "mask2former", **QUERIES),
    "wholescene Mask2Former ViT": lambda: _ours(
        "test_vit3", "mask2former", {"pyramid": True}, **QUERIES
    ),
    "wholescene SegViT ViT": lambda: _ours("test_vit3", "segvit", channels=32, hidden=64),
    "wholescene SETR ViT": lambda: _ours("test_vit3", "setr", channels=32),
    "wholescene DPT ViT": lambda: _ours(
        "test_vit3", "dpt", {"out_indices": [2, 4, 6, 8]}, channels=32, neck=(8, 16, 24, 32)
    ),
    "wholescene UPerNet DINOv3 ViT": lambda: _ours(
        "vit_small_patch16_dinov3", "upernet", {"pyramid": True, **NARROW}, channels=32
    ),
    "wholescene STDC ResNet": lambda: _ours("test_resnet", "stdc"),
    "wholescene smp U-Net++ ConvNeXt": lambda: _ours("test_convnext", "smp-unetplusplus"),
    "wholescene smp MA-Net ResNet": lambda: _ours("resnet18", "smp-manet"),
    "wholescene smp LinkNet ConvNeXt": lambda: _ours("test_convnext", "smp-linknet"),
    "wholescene smp FPN ResNet": lambda: _ours("test_resnet", "smp-fpn"),
    "wholescene smp PAN ResNet": lambda: _ours("test_resnet", "smp-pan"),
    "wholescene smp DeepLabV3+ ResNet": lambda: _ours(
        "resnet18", "smp-deeplabv3plus", {"output_stride": 16}, channels=32
    ),
}

OUTPUTS = {name: "out" for name in NETWORKS if name.startswith("torchvision")} | {
    name: "logits" for name in NETWORKS if name.startswith("transformers")
}
"""What to pick from networks that return more than a tensor."""

SHAPES: dict[str, tuple[int, int, int, int]] = {
    "UPerNet Swin-T": (1, 3, 224, 224),
    "UPerNet SwinV2-T": (1, 3, 256, 256),
    "Unet MaxViT-Pico": (1, 3, 256, 256),
    "transformers DPT": (1, 3, 192, 192),
    "wholescene smp PAN ResNet": (1, 3, 256, 320),
}
"""Sizes that a network insists on; the others take 192 x 256."""


def build(name: str) -> nn.Module:
    """Build a network whose batch norms and biases are not trivial."""
    torch.manual_seed(0)
    module = NETWORKS[name]().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return module
