import pytest
import timm
import torch
from torch import nn

from wholescene.errors import ConfigError
from wholescene.models.build import build_segmenter
from wholescene.models.encoder import build_encoder
from wholescene.models.files import load_model, save_model


def dilations(encoder: nn.Module) -> list[list[int]]:
    """Dilation of the last 3 x 3 convolution of each block of the last two stages."""
    return [
        [block.conv2.dilation[0] for block in stage]
        for stage in (encoder.net.layer3, encoder.net.layer4)
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"output_stride": 8}, [[1, 2, 2, 2, 2, 2], [2, 4, 4]]),  # timm
        ({"output_stride": 8, "dilation": "published"}, [[2] * 6, [4] * 3]),
        ({"output_stride": 16, "dilation": "published"}, [[1] * 6, [2] * 3]),
        ({"dilation": "published"}, [[1] * 6, [1] * 3]),
        (
            {"output_stride": 8, "dilation": "published", "multi_grid": [1, 2, 4]},
            [[2] * 6, [4, 8, 16]],
        ),
        (
            {"output_stride": 16, "dilation": "published", "multi_grid": [1, 2, 4]},
            [[1] * 6, [2, 4, 8]],
        ),
    ],
)
def test_plan_of_a_resnet_50_d(options: dict, expected: list[list[int]]) -> None:
    encoder = build_encoder("resnet50d", num_bands=3, options=options)
    assert dilations(encoder) == expected
    stride = options.get("output_stride", 32)
    assert encoder.stride == stride
    for stage in (encoder.net.layer3, encoder.net.layer4):
        for block in stage:
            assert block.conv2.padding == block.conv2.dilation
    pooled = isinstance(encoder.net.layer4[0].downsample[0], nn.Identity)
    assert pooled == (options.get("dilation") == "published" and stride < 32)


def test_both_convolutions_of_a_basic_block() -> None:
    options = {"output_stride": 8, "dilation": "published"}
    net = build_encoder("resnet18", num_bands=3, options=options).net
    for stage, expected in ((net.layer2, 1), (net.layer3, 2), (net.layer4, 4)):
        for block in stage:
            assert {block.conv1.dilation[0], block.conv2.dilation[0]} == {expected}


@pytest.mark.parametrize(("name", "options", "side"), [("resnet50", {}, 16), ("resnet50d", 8, 64)])
def test_side_of_the_coarsest_map_of_512_pixels(name: str, options: object, side: int) -> None:
    options = {"output_stride": options, "dilation": "published"} if options else {}
    encoder = build_encoder(name, num_bands=3, options=options).to("meta")
    maps = encoder(torch.empty(1, 3, 512, 512, device="meta"))
    assert maps[-1].shape == (1, 2048, side, side)


def test_the_first_dilated_block_is_what_the_paper_writes() -> None:
    """Against a block written out: 3 x 3 with dilation 2, and a shortcut without pooling."""
    torch.manual_seed(0)
    options = {"output_stride": 16, "dilation": "published"}
    block = build_encoder("resnet50d", num_bands=3, options=options).eval().net.layer4[0]
    x = torch.randn(1, 1024, 5, 7)
    with torch.no_grad():
        inner = torch.relu(block.bn1(block.conv1(x)))
        wide = nn.functional.conv2d(inner, block.conv2.weight, padding=2, dilation=2)
        outer = block.bn3(block.conv3(torch.relu(block.bn2(wide))))
        shortcut = block.downsample[2](block.downsample[1](x))
        torch.testing.assert_close(block(x), torch.relu(outer + shortcut))


def test_weights_keep_their_names_and_a_file_its_plan(make_spec, tmp_path) -> None:
    options = {"output_stride": 8, "dilation": "published", "multi_grid": [1, 2]}
    plain = timm.create_model("resnet18d", features_only=True, in_chans=4, output_stride=8)
    model = build_segmenter(make_spec("resnet18d", encoder_options=options)).eval()
    assert model.encoder.net.state_dict().keys() == plain.state_dict().keys()
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert dilations(again.encoder) == [[2, 2], [4, 8]]
    image = torch.randn(1, 4, 24, 40)
    with torch.no_grad():
        torch.testing.assert_close(again(image), model(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnext_atto", {"dilation": "published"}, r"'convnext_atto' has no blocks of a ResNet"),
        ("resnet18", {"dilation": "publshed"}, r"'dilation': .*'timm' or 'published'"),
        ("resnet18", {"multi_grid": [1, 2]}, r"multi_grid needs dilation = 'published'"),
        (
            "resnet18",
            {"dilation": "published", "output_stride": 8, "multi_grid": [1, 2, 4]},
            r"lists 3 factors \[1, 2, 4\].*'resnet18' has 2 blocks",
        ),
        (
            "resnet18",
            {"dilation": "published", "multi_grid": [1, 2]},
            r"none at output stride 32; set output_stride to 8 or 16",
        ),
        ("resnet18", {"dilation": "published", "multi_grid": [0, 2]}, r"greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_encoder(name, num_bands=3, options=options)
