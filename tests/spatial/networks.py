"""Networks that people use, by name, with random weights and statistics."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torchvision.models.segmentation as tv
from torch import nn

ENCODER: dict[str, Any] = {"encoder_weights": None, "classes": 6}
TORCHVISION: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 6}


def _transformers(name: str) -> nn.Module:
    import transformers

    if name == "segformer":
        config = transformers.SegformerConfig(
            num_labels=6, depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], decoder_hidden_size=64
        )
        return transformers.SegformerForSemanticSegmentation(config)
    backbone = transformers.ConvNextConfig(
        depths=[1, 1, 2, 1],
        hidden_sizes=[16, 32, 48, 64],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=32, auxiliary_in_channels=48, num_labels=6
    )
    return transformers.UperNetForSemanticSegmentation(config)


SWIN, SWIN_V2 = "tu-swin_tiny_patch4_window7_224", "tu-swinv2_tiny_window8_256"
VIT = "tu-vit_tiny_patch16_224.augreg_in21k"
SIZE = {"img_size": (224, 224)}

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
    "DPT ViT-Ti": lambda: smp.DPT(VIT, dynamic_img_size=True, **ENCODER),
    "torchvision FCN ResNet-50": lambda: tv.fcn_resnet50(**TORCHVISION),
    "torchvision DeepLabV3 ResNet-50": lambda: tv.deeplabv3_resnet50(**TORCHVISION),
    "torchvision LRASPP": lambda: tv.lraspp_mobilenet_v3_large(**TORCHVISION),
    "transformers SegFormer": lambda: _transformers("segformer"),
    "transformers UPerNet ConvNeXt": lambda: _transformers("upernet"),
}

OUTPUTS = {name: "out" for name in NETWORKS if name.startswith("torchvision")} | {
    name: "logits" for name in NETWORKS if name.startswith("transformers")
}
"""What to pick from networks that return more than a tensor."""

SHAPES: dict[str, tuple[int, int, int, int]] = {
    "UPerNet Swin-T": (1, 3, 224, 224),
    "UPerNet SwinV2-T": (1, 3, 256, 256),
}
"""Sizes that a network insists on; the others take 192 x 256."""


def is_available(name: str) -> bool:
    """Whether the library of a network is installed."""
    return not name.startswith("transformers") or find_spec("transformers") is not None


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
