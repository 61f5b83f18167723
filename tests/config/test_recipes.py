"""Every recipe in ``configs/<table>/`` loads, says where it comes from, and fits its protocol."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from wholescene.config import RunConfig, load_config
from wholescene.datasets.public.recipe import Recipe, load_recipe
from wholescene.evaluate.protocol import Protocol, load_protocol
from wholescene.models import Architecture
from wholescene.models.decoders import build_decoder
from wholescene.models.encoder import build_encoder

ROOT = Path(__file__).parents[2]
FOUND = sorted((ROOT / "configs").glob("*/*.yaml"))
ELSEWHERE = {"pretrain", "studies"}  # tested in tests/pretrain and tests/study
RECIPES = [path for path in FOUND if path.parent.name not in ELSEWHERE]
NAMES = [path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in RECIPES]
COUNTS = {"rsseg": 18, "rsseg-ssl": 18, "c2fnet": 4, "rest": 36, "modern": 10, "interaction": 3}

each_recipe = pytest.mark.parametrize("path", RECIPES, ids=NAMES)


def header(path: Path) -> str:
    """The comment at the head of a file, as one line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip().removesuffix("\\"))
    return re.sub(r"\s+", " ", " ".join(lines))


def found(pattern: str, path: Path) -> str:
    match = re.search(pattern, header(path))
    assert match is not None, f"{path.name}: no {pattern!r} in the header"
    return match[1]


@cache
def named_protocol(path: Path) -> Protocol:
    return load_protocol(found(r"Protocol: ([\w-]+)", path))


def described(path: Path) -> Recipe:
    return load_recipe(named_protocol(path).dataset)


@cache
def config_of(path: Path) -> RunConfig:
    return load_config(path)


def test_every_row_has_its_recipe() -> None:
    tables = [path.parent.name for path in RECIPES]
    assert {table: tables.count(table) for table in sorted(set(tables))} == dict(
        sorted(COUNTS.items())
    )


@each_recipe
def test_it_loads_under_its_own_name(path: Path) -> None:
    assert config_of(path).name == f"{path.parent.name}-{path.stem}"


@each_recipe
def test_header_has_commands_source_and_figure(path: Path) -> None:
    protocol, name = named_protocol(path), config_of(path).name
    place = path.relative_to(ROOT).as_posix()
    assert f" wholescene train {place} " in header(path)
    assert f"--protocol {protocol.name} " in header(path)
    assert f"--model runs/{name} --out runs/{name}/eval " in header(path)
    assert len(found(r"Source: (.+?) Published: ", path)) > 10
    figure = found(r"Published: (.+?) Protocol: ", path)
    assert re.match(r"\d\d\.\d+ % |none; |not in any public text", figure), figure


@each_recipe
def test_dataset_is_prepared_as_the_protocol_says(path: Path) -> None:
    protocol, recipe = named_protocol(path), described(path)
    prepared = found(r"wholescene data prepare (.+?) wholescene ", path)
    dataset, *_ = prepared.split()
    folder = found(r"wholescene data prepare .+? --out (\S+)", path)
    assert dataset == protocol.dataset
    assert f"--dataset {folder} " in header(path)
    assert config_of(path).data.dataset == ROOT / folder
    split = re.search(r"--split (\S+)", prepared)
    assert (split[1] if split else "official") == protocol.split_way
    variant = re.search(r"--variant (\S+)", prepared)
    assert protocol.variant in (None, variant[1] if variant else next(iter(recipe.ways)))


@each_recipe
def test_selection_and_labels_follow_the_protocol(path: Path) -> None:
    protocol, data = named_protocol(path), config_of(path).data
    # Labels of its test split are not public.
    assert data.val_split == (None if protocol.name == "rest-uavid" else protocol.select_on)
    assert protocol.split not in data.train_split.split("+")
    assert (data.target or described(path).targets[0]) == (
        protocol.target or described(path).targets[0]
    )


@each_recipe
def test_numbers_of_bands_and_classes_fit_the_dataset(path: Path) -> None:
    config, recipe = config_of(path), described(path)
    variant = re.search(r"--variant (\S+)", header(path))
    keys = recipe.ways[variant[1] if variant else next(iter(recipe.ways))]
    bands = [band.name for key in keys for band in recipe.sources[key].bands or ()]
    for listed in (config.data.mean, config.data.std, config.model.weights_bands):
        assert listed is None or len(listed) == len(bands)
    if config.data.color_distortion is not None:
        assert len(bands) == 3
    if config.model.refine is not None:
        assert {*config.model.refine.classes} <= {c.name for c in recipe.classes}


@each_recipe
def test_published_rows_have_the_published_course(path: Path) -> None:
    config, table = config_of(path), path.parent.name
    if table in ("rsseg", "rsseg-ssl", "c2fnet"):
        optim = config.optim
        assert (optim.name, optim.lr, optim.momentum, optim.power) == ("sgd", 0.01, 0.9, 0.9)
        assert optim.weight_decay == (4e-5 if table == "c2fnet" else 5e-4)
        assert optim.decay_all
        assert (config.train.steps, config.data.batch_size) == (80_000, 4)
        assert config.data.zooms == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)


def test_refined_rows_start_from_the_row_they_refine() -> None:
    for path in (ROOT / "configs" / "c2fnet").glob("*.yaml"):
        config = config_of(path)
        coarse = ROOT / "configs" / "rsseg" / path.name
        made = config_of(coarse).model.architecture
        mine = config.model.architecture
        assert config.train.init_from == ROOT / "runs" / f"rsseg-{path.stem}"
        assert (mine.encoder, mine.encoder_options) == (made.encoder, made.encoder_options)
        assert (mine.decoder, mine.decoder_options) == (made.decoder, made.decoder_options)


def test_the_index_lists_every_recipe_with_its_figure() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .+ \| (.+) \| `(.+)` \| \[.+\]\(\.\./(configs/.+)\) \|$", text, re.M)
    files = sorted(path.relative_to(ROOT).as_posix() for path in RECIPES)
    assert sorted(file for _, _, file in rows) == files
    for figure, protocol, file in rows:
        assert protocol == named_protocol(ROOT / file).name
        published = found(r"Published: (.+?) Protocol: ", ROOT / file)
        assert published.startswith(figure.split("%")[0] if "%" in figure else ("none", "not"))


def networks() -> dict[str, tuple[Architecture, int]]:
    """Each different pair of encoder and decoder, with the classes of a dataset it is for."""
    made: dict[str, tuple[Architecture, int]] = {}
    for path in RECIPES:
        model, classes = config_of(path).model.architecture, len(described(path).classes)
        pair = (model.encoder, model.encoder_options, model.decoder, model.decoder_options)
        made.setdefault(repr(pair), (model, classes))
    return made


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_encoders_and_decoders_fit() -> None:
    for made, classes in networks().values():
        encoder = build_encoder(made.encoder, num_bands=3, options=made.encoder_options)
        build_decoder(made.decoder, encoder.levels, made.decoder_options, classes)
