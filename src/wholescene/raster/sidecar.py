"""Files beside a label map that tell GDAL and QGIS what its ids mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml
from xml.etree.ElementTree import Element

from wholescene.errors import RasterError
from wholescene.labels import ClassTable
from wholescene.raster.gdal import gdal_env, open_dataset

__all__ = [
    "CLASSES_TAG",
    "aux_path",
    "aux_xml",
    "class_tag",
    "qml_path",
    "qml_xml",
    "read_class_names",
    "read_palette",
]

CLASSES_TAG = "WHOLESCENE_CLASSES"
"""Tag inside the map with the names again, for when the sidecar gets lost."""


def aux_path(map_path: Path) -> Path:
    """GDAL's sidecar: ``map.tif.aux.xml``."""
    return map_path.with_name(map_path.name + ".aux.xml")


def qml_path(map_path: Path) -> Path:
    """QGIS' style: ``map.qml``."""
    return map_path.with_suffix(".qml")


def aux_xml(classes: ClassTable, description: str) -> str:
    """Category names as GDAL's persistent auxiliary metadata; an id is a place in the list."""
    root = Element("PAMDataset")
    band = Xml.SubElement(root, "PAMRasterBand", band="1")
    Xml.SubElement(band, "Description").text = description
    categories = Xml.SubElement(band, "CategoryNames")
    names = dict(zip(classes.ids, classes.names, strict=True))
    for class_id in range(max(names) + 1):
        Xml.SubElement(categories, "Category").text = names.get(class_id, "")
    return _text(root)


def qml_xml(classes: ClassTable) -> str:
    """QGIS style with a name and colour for each class."""
    root = Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = Xml.SubElement(root, "pipe")
    renderer = Xml.SubElement(
        pipe, "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    Xml.SubElement(renderer, "rasterTransparency")
    palette = Xml.SubElement(renderer, "colorPalette")
    for one in classes.classes:
        color = "#{:02x}{:02x}{:02x}".format(*one.color)
        entry = {"value": str(one.id), "color": color, "alpha": "255", "label": one.name}
        Xml.SubElement(palette, "paletteEntry", entry)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def class_tag(classes: ClassTable) -> str:
    """Names by id as JSON."""
    return json.dumps(dict(zip(map(str, classes.ids), classes.names, strict=True)))


def read_class_names(map_path: str | Path) -> dict[int, str]:
    """Names of the classes of a map by id; empty if the file tells none.

    Raises:
        RasterError: If the map or its sidecar cannot be read.
    """
    path = Path(map_path)
    with gdal_env():
        dataset = open_dataset(str(path))
        try:
            tag = dataset.tags().get(CLASSES_TAG)
        finally:
            dataset.close()
    names = _names_in_aux(aux_path(path))
    if not names and tag:
        names = {int(key): str(name) for key, name in json.loads(tag).items()}
    return names


def read_palette(map_path: str | Path) -> dict[int, tuple[int, int, int]]:
    """Colours of a map's palette by id; empty if it has none."""
    with gdal_env():
        dataset = open_dataset(str(map_path))
        try:
            palette: dict[int, Any] = dataset.colormap(1)
        except ValueError:  # rasterio's word for no palette
            return {}
        finally:
            dataset.close()
    return {key: (color[0], color[1], color[2]) for key, color in palette.items()}


def _names_in_aux(path: Path) -> dict[int, str]:
    if not path.exists():
        return {}
    try:
        root = Xml.parse(path).getroot()  # noqa: S314 (a local file next to the user's map)
    except (Xml.ParseError, OSError) as error:
        raise RasterError(f"{path}: is no readable sidecar ({error}); delete it") from error
    found = root.findall("./PAMRasterBand[@band='1']/CategoryNames/Category")
    return {i: category.text for i, category in enumerate(found) if category.text}


def _text(root: Element) -> str:
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode") + "\n"
