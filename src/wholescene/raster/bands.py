"""Which bands of the files a model or dataset means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wholescene.errors import RasterError
from wholescene.raster.info import BandInfo, SceneInfo
from wholescene.raster.source import BandSpec, SourceSpec

__all__ = ["WAVELENGTH_TOLERANCE_NM", "Band", "parse_bands", "resolve_bands"]

WAVELENGTH_TOLERANCE_NM = 30.0


@dataclass(frozen=True)
class Band:
    """A band of one of a source's files.

    Args:
        file: Position of the file in the source.
        info: The band within it.
        names: What it may be called, in lower case.
    """

    file: int
    info: BandInfo
    names: frozenset[str]


def parse_bands(bands: Sequence[int | str]) -> tuple[BandSpec, ...]:
    """Read a user's list of bands: ``3``, ``"3"``, ``"red"``, ``"665nm"`` or ``"0.665um"``."""
    return tuple(_parse_band(band) for band in bands)


def _parse_band(band: int | str) -> BandSpec:
    text = str(band).strip()
    if re.fullmatch(r"-?\d+", text):
        if int(text) < 1:
            raise RasterError(f"band {text} in --bands; bands are counted from 1")
        return BandSpec(name=f"band_{int(text)}", index=int(text))
    wavelength = re.fullmatch(r"(\d*\.?\d+) ?(nm|um)", text.lower())
    if wavelength and float(wavelength[1]) > 0:
        factor = 1 if wavelength[2] == "nm" else 1000
        return BandSpec(name=text, wavelength_nm=float(wavelength[1]) * factor)
    if not text:
        raise RasterError("an empty name in --bands; give 1-based numbers, names or '665nm'")
    return BandSpec(name=text)


def resolve_bands(
    spec: SourceSpec, infos: Sequence[SceneInfo], *, by_position: bool = True
) -> tuple[tuple[BandSpec, ...], tuple[Band, ...]]:
    """Find the bands of a source in its files.

    An explicit index wins. The other bands are looked up by name if all their names are found,
    else by wavelength if all are within 30 nm, else by position if there are as many data bands
    and none of the names is found: a file that has some of the bands lacks the others.
    With several files, indices and positions count through them in order. With ``grey_as_color``
    a single data band stands for all.

    Args:
        spec: What is asked for; ``bands=None`` takes every data band.
        infos: The files of the source.
        by_position: Whether bands may be found by position at all.

    Returns:
        The bands as specified, with names and wavelengths from the files where the spec gives
        none, and where they were found.

    Raises:
        RasterError: If a band cannot be found.
    """
    everything = _list_bands(infos)
    data = [band for band in everything if not band.info.is_alpha]
    if spec.bands is None:
        names = _names(data, infos)
        specs = zip(names, data, strict=True)
        return tuple(BandSpec(name=n, wavelength_nm=b.info.wavelength_nm) for n, b in specs), tuple(
            data
        )
    if spec.grey_as_color and len(data) == 1:
        return spec.bands, (data[0],) * len(spec.bands)
    chosen: dict[int, Band] = {}
    for i, asked in enumerate(spec.bands):
        if asked.index is not None:
            chosen[i] = _by_index(asked.index, everything, spec, infos)
    rest = [i for i in range(len(spec.bands)) if i not in chosen]
    wanted = [spec.bands[i] for i in rest]
    found = _by_name(wanted, data) or _by_wavelength(wanted, data)
    known = {name for band in data for name in band.names}
    is_foreign = by_position and not any(_plain(asked.name) in known for asked in wanted)
    if found is None and is_foreign and not chosen and len(wanted) == len(data):
        found = data
    if found is None:
        raise RasterError(_not_found(spec, infos, everything))
    chosen.update(zip(rest, found, strict=True))
    bands = tuple(chosen[i] for i in range(len(spec.bands)))
    return tuple(map(_complete, spec.bands, bands)), bands


def _list_bands(infos: Sequence[SceneInfo]) -> list[Band]:
    bands = []
    for file, info in enumerate(infos):
        # One file per band: the band is often named by the file alone (T32_B04_10m.jp2).
        alone = len(infos) > 1 and len(info.data_bands) == 1
        stem = re.split(r"[_\-. ]+", Path(info.path).stem.lower()) if alone else []
        for band in info.bands:
            names = {*stem, Path(info.path).stem.lower()} if alone else set()
            if band.is_named:
                names.add(_plain(band.name))
            bands.append(Band(file, band, frozenset(names)))
    return bands


def _plain(name: str) -> str:
    return name.strip().lower()


def _names(bands: Sequence[Band], infos: Sequence[SceneInfo]) -> list[str]:
    """Names from the files; of unnamed ones with a band each, the part in which they differ."""
    stems = [re.split(r"[_\-. ]+", Path(info.path).stem) for info in infos]
    tokens = list(zip(*stems, strict=True)) if len(set(map(len, stems))) == 1 else []
    different = [token for token in tokens if len(set(token)) == len(infos)]
    own = different[0] if len(infos) == len(bands) > 1 and len(different) == 1 else None
    return [
        band.info.name if band.info.is_named else own[i] if own else f"band_{i + 1}"
        for i, band in enumerate(bands)
    ]


def _complete(asked: BandSpec, band: Band) -> BandSpec:
    update: dict[str, object] = {}
    if asked.wavelength_nm is None and band.info.wavelength_nm is not None:
        update["wavelength_nm"] = band.info.wavelength_nm
    if asked.index is not None and asked.name == f"band_{asked.index}" and band.info.is_named:
        update["name"] = band.info.name
    return asked.model_copy(update=update)


def _by_index(
    index: int, bands: Sequence[Band], spec: SourceSpec, infos: Sequence[SceneInfo]
) -> Band:
    if index > len(bands):
        raise RasterError(
            f"{_files(infos)}: band {index} of source {spec.name!r} asked for, but there are "
            f"{len(bands)} bands; choose 1..{len(bands)} in --bands or 'index' of the band"
        )
    return bands[index - 1]


def _by_name(wanted: Sequence[BandSpec], bands: Sequence[Band]) -> list[Band] | None:
    found = []
    for asked in wanted:
        matches = [band for band in bands if _plain(asked.name) in band.names]
        exact = [band for band in matches if _plain(band.info.name) == _plain(asked.name)]
        matches = exact if len(exact) == 1 else matches
        if len(matches) != 1:
            return None
        found += matches
    return found


def _by_wavelength(wanted: Sequence[BandSpec], bands: Sequence[Band]) -> list[Band] | None:
    placed = [(band.info.wavelength_nm, band) for band in bands if band.info.wavelength_nm]
    found = []
    for asked in wanted:
        if asked.wavelength_nm is None or not placed:
            return None
        nearest = min((abs(have - asked.wavelength_nm), i) for i, (have, _) in enumerate(placed))
        if nearest[0] > WAVELENGTH_TOLERANCE_NM:
            return None
        found.append(placed[nearest[1]][1])
    return found if len({(b.file, b.info.index) for b in found}) == len(found) else None


def _files(infos: Sequence[SceneInfo]) -> str:
    more = f" and {len(infos) - 1} more" if len(infos) > 1 else ""
    return f"{infos[0].path}{more}"


def _not_found(spec: SourceSpec, infos: Sequence[SceneInfo], bands: Sequence[Band]) -> str:
    asked = ", ".join(_say(band.name, band.wavelength_nm) for band in spec.bands or ())
    shown = [_say(f"{i} {b.info.name}", b.info.wavelength_nm) for i, b in enumerate(bands, 1)]
    listed = ", ".join(shown[:20]) + (f" ... {len(shown)} in all" if len(shown) > 20 else "")
    palette = " (its one band is a palette: gdal_translate -expand rgb makes colours of it)"
    return (
        f"{_files(infos)}: source {spec.name!r} needs {len(spec.bands or ())} bands ({asked}), but "
        f"the file has {len(bands)}: {listed}{palette if infos[0].has_palette else ''}; names, "
        "wavelengths or the number of bands do not fit. Say which to take with --bands, as "
        "1-based numbers, names or wavelengths such as 665nm"
    )


def _say(name: str, wavelength_nm: float | None) -> str:
    return f"{name} {wavelength_nm:g} nm" if wavelength_nm else name
