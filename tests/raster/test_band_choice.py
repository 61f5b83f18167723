"""Bands are found by index, name, wavelength or position, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from toy_rasters import MakeRaster, ramp

from wholescene.errors import RasterError
from wholescene.geometry import Window
from wholescene.raster import SceneReader, open_info
from wholescene.raster.source import BandSpec, SourceSpec

NAMES = ("Blue", "Green", "Red", "NIR")


def first_pixels(reader: SceneReader) -> list[float]:
    """Value of the corner pixel in each band; band i of the test rasters holds i there."""
    values = reader.read(Window(row_off=0, col_off=0, height=1, width=1)).values
    return [float(value) for value in values.ravel()]


def bands(*names: str) -> list[SourceSpec]:
    return [SourceSpec(bands=tuple(BandSpec(name=name) for name in names))]


def waves(*wavelengths: float) -> list[SourceSpec]:
    specs = tuple(BandSpec(name=f"w{i}", wavelength_nm=w) for i, w in enumerate(wavelengths))
    return [SourceSpec(bands=specs)]


def numbered(count: int) -> np.ndarray:
    return np.broadcast_to(np.arange(1, count + 1, dtype=np.uint8)[:, None, None], (count, 2, 3))


def test_by_name_whatever_the_case_and_order(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(4), names=NAMES)
    with SceneReader(path, bands("red", "NIR", "blue")) as reader:
        assert first_pixels(reader) == [3, 4, 1]
        assert reader.band_names == ("red", "NIR", "blue")


def test_names_from_colours_where_descriptions_are_missing(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(3), colors=("blue", "green", "red"))
    with SceneReader(path, bands("red", "green", "blue")) as reader:
        assert first_pixels(reader) == [3, 2, 1]


@pytest.mark.parametrize(
    "tags",
    [
        {"wavelength": "{nm}"},
        {"WAVELENGTH": "{nm}", "WAVELENGTH_UNIT": "nm"},
        {"wavelength": "{um}", "wavelength_units": "Micrometers"},
        {"wavelength": "{um}"},
    ],
)
def test_by_wavelength_from_band_tags(make_raster: MakeRaster, tags: dict[str, str]) -> None:
    held = {
        i: {k: v.format(nm=nm, um=nm / 1000) for k, v in tags.items()}
        for i, nm in enumerate((490, 560, 665, 842), 1)
    }
    with SceneReader(make_raster(numbered(4), band_tags=held), waves(835, 650)) as reader:
        assert first_pixels(reader) == [4, 3]
        assert [band.wavelength_nm for band in reader.band_specs] == [835, 650]


def test_by_wavelength_from_the_imagery_domain(make_raster: MakeRaster) -> None:
    held = {i: {"CENTRAL_WAVELENGTH_UM": str(um)} for i, um in enumerate((0.56, 0.665), 1)}
    path = make_raster(numbered(2), imagery_tags=held)
    assert [band.wavelength_nm for band in open_info(path).bands] == [560, 665]
    with SceneReader(path, waves(665)) as reader:
        assert first_pixels(reader) == [2]


def test_wavelength_tolerance_is_30_nm(make_raster: MakeRaster) -> None:
    held = {i: {"wavelength": str(nm)} for i, nm in enumerate((500, 600, 700), 1)}
    path = make_raster(numbered(3), band_tags=held)
    with SceneReader(path, waves(530, 670)) as reader:
        assert first_pixels(reader) == [1, 3]
    with pytest.raises(RasterError, match="w0 531 nm"):
        SceneReader(path, waves(531))


def test_two_bands_never_share_one_wavelength(make_raster: MakeRaster) -> None:
    held = {i: {"wavelength": str(nm)} for i, nm in enumerate((500, 600, 700), 1)}
    with pytest.raises(RasterError, match="--bands"):
        SceneReader(make_raster(numbered(3), band_tags=held), waves(490, 510))


def test_position_when_nothing_else_is_known(make_raster: MakeRaster) -> None:
    with SceneReader(make_raster(numbered(3)), bands("red", "green", "blue")) as reader:
        assert first_pixels(reader) == [1, 2, 3]
        assert reader.band_names == ("red", "green", "blue")


def test_position_leaves_alpha_out(make_raster: MakeRaster) -> None:
    colors = ("red", "green", "blue", "alpha")
    path = make_raster(numbered(4), photometric="RGB", alpha="YES", colors=colors)
    with SceneReader(path, bands("x", "y", "z")) as reader:
        assert first_pixels(reader) == [1, 2, 3]


def test_index_wins_over_name(make_raster: MakeRaster) -> None:
    spec = SourceSpec(bands=(BandSpec(name="red", index=4), BandSpec(name="blue")))
    with SceneReader(make_raster(numbered(4), names=NAMES), [spec]) as reader:
        assert first_pixels(reader) == [4, 1]


def test_override_by_number_name_and_wavelength(make_raster: MakeRaster) -> None:
    held = {3: {"wavelength": "665"}}
    path = make_raster(numbered(4), names=NAMES, band_tags=held)
    with SceneReader(path, bands=[4, "2", 1]) as reader:
        assert first_pixels(reader) == [4, 2, 1]
        assert reader.band_names == ("NIR", "Green", "Blue")
    with SceneReader(path, bands=["nir", "RED"]) as reader:
        assert first_pixels(reader) == [4, 3]
    for text in ("650nm", "0.65um"):
        with SceneReader(path, bands=[text]) as reader:
            assert first_pixels(reader) == [3]


def test_override_keeps_the_names_of_the_model(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(4), names=NAMES)
    with SceneReader(path, bands("red", "green"), bands=[1, 2]) as reader:
        assert first_pixels(reader) == [1, 2]
        assert reader.band_names == ("red", "green")


def test_override_of_another_number_is_refused(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(4), names=NAMES)
    with pytest.raises(
        RasterError, match=r"--bands names 1 bands \(4\), but source 'image' needs 2"
    ):
        SceneReader(path, bands("red", "green"), bands=[4])


@pytest.mark.parametrize("band", [0, "-1"])
def test_bands_count_from_one(make_raster: MakeRaster, band: int | str) -> None:
    with pytest.raises(RasterError, match="counted from 1"):
        SceneReader(make_raster(numbered(2)), bands=[band])


def test_index_beyond_the_file_is_refused(make_raster: MakeRaster) -> None:
    with pytest.raises(RasterError, match=r"band 5 .* there are 4 bands; choose 1\.\.4"):
        SceneReader(make_raster(numbered(4)), bands=[5])


def test_the_error_lists_what_is_there_and_what_was_asked(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(2), names=("red", "nir"), band_tags={2: {"wavelength": "842"}})
    with pytest.raises(RasterError) as caught:
        SceneReader(path, bands("red", "green", "blue"))
    text = str(caught.value)
    for part in (str(path), "red, green, blue", "1 red, 2 nir 842 nm", "--bands"):
        assert part in text


def test_equal_names_in_the_file_are_no_names(make_raster: MakeRaster) -> None:
    path = make_raster(numbered(3), names=("band", "band", "band"))
    with pytest.raises(RasterError, match="--bands"):
        SceneReader(path, bands("band", "other"))
    with SceneReader(path) as reader:
        assert reader.band_names == ("band_1", "band_2", "band_3")


def test_a_palette_is_explained(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(2, 2), palette={1: (255, 0, 0, 255)})
    with pytest.raises(RasterError, match="palette"):
        SceneReader(path, bands("red", "green", "blue"))


def test_per_band_files_are_found_by_their_names(make_raster: MakeRaster) -> None:
    paths = [make_raster(numbered(1) * i, f"T32_B0{i}_10m.tif") for i in (4, 2, 3)]
    with SceneReader(paths, bands("b02", "B03", "B04")) as reader:
        assert first_pixels(reader) == [2, 3, 4]
    with SceneReader(paths, bands("x", "y", "z")) as reader:
        assert first_pixels(reader) == [4, 2, 3]
    with SceneReader(paths) as reader:
        assert reader.band_names == ("B04", "B02", "B03")


def test_indices_count_through_several_files(make_raster: MakeRaster) -> None:
    paths = [make_raster(numbered(2), "a.tif"), make_raster(numbered(1) * 9, "b.tif")]
    with SceneReader(paths, bands=[3, 1]) as reader:
        assert first_pixels(reader) == [9, 1]


def test_info_tells_everything(make_raster: MakeRaster) -> None:
    path = make_raster(
        ramp(2, 40, 50, dtype="uint16"),
        names=("red", ""),
        scales=(0.5, 1),
        offsets=(0, 3),
        nodata=7,
        band_tags={1: {"wavelength": "665"}},
        tiled=True,
        blockxsize=16,
        blockysize=32,
        compress="deflate",
    )
    info = open_info(path)
    red, other = info.bands
    assert (red.name, red.wavelength_nm, red.scale, red.offset) == ("red", 665, 0.5, 0)
    assert (other.name, other.is_named, other.scale, other.offset) == ("band_2", False, 1, 3)
    assert (red.dtype, red.nodata, info.driver) == ("uint16", 7, "GTiff")
    assert info.size == (40, 50)
    assert info.block == (32, 16)
    assert (info.gsd_m, info.compression) == (10, "DEFLATE")
    assert not info.has_alpha and not info.has_mask and info.overviews == ()
