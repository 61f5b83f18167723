"""Which file is the image and which the label of a scene, in a folder of one's own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

from wholescene.datasets.prepare.folder_names import (
    RASTERS,
    VECTORS,
    NamedFile,
    is_vector,
    matching,
    read_name,
)
from wholescene.datasets.prepare.match import FoundScene, find_files
from wholescene.errors import DatasetError, InputError

__all__ = ["Pairs", "pair_files"]

_SHOWN = 5


@dataclass(frozen=True)
class Pairs:
    """Images with the label of each.

    Args:
        scenes: One for each image, in natural order; ``fields`` holds ``split`` where folders
            tell it.
        stray: Labels without an image.
        notes: What was left out.
        image_pattern: How images are named.
        label_pattern: How labels are named.
    """

    scenes: tuple[FoundScene, ...]
    stray: tuple[Path, ...]
    notes: tuple[str, ...]
    image_pattern: str
    label_pattern: str

    @property
    def are_polygons(self) -> bool:
        """Whether labels are vector files."""
        return any(is_vector(path) for scene in self.scenes for path in scene.labels.values())


def pair_files(
    source: Path, out: Path, *, images: str | None = None, labels: str | None = None
) -> Pairs:
    """Find images and their labels.

    Args:
        source: Folder to look in.
        out: Folder not to look in.
        images: Pattern of images below ``source``; ``*`` stands for the scene.
        labels: Pattern of labels, or a vector file for all images.

    Raises:
        DatasetError: If there is no image or no label, or a file could be several things.
        InputError: If a pattern cannot be used.
    """
    files = [read_name(text, path) for text, path in _below(source, out)]
    shared = _shared_file(source, images, labels)
    if shared is not None:
        files = [file for file in files if not file.path.samefile(shared)]
        labels = None
    _check_stars(images, labels, shared)
    pictures = _images(source, files, images, labels)
    marks = [] if shared else _labels(source, files, images, labels)
    # Folders without a usual name ('photos') may stand for images and labels as well.
    matched = _match(pictures, marks) or _match(_up(pictures), _up(marks))
    if not matched and shared is None:
        shared = _the_only_vector(marks)
    if not matched and shared is None:
        raise DatasetError(_no_label(source, pictures, marks))
    _check_one_kind(matched.values())
    used = {shared, *(file.path for file in (*pictures, *matched.values()))}
    stray = tuple(mark.path for mark in marks if mark.path not in used)
    left = [f.text for f in files if f.path not in {*used, *stray} and f.role != "label"]
    return Pairs(
        tuple(_scenes(pictures, matched, shared)),
        stray,
        (f"{len(left)} other rasters are left out ({_some(left)})",) if left else (),
        pictures[0].regex,
        next(iter(matched.values()), pictures[0]).regex,
    )


def _below(source: Path, out: Path) -> Iterator[tuple[str, Path]]:
    """Rasters and vector files with their path below the source, except what was made before."""
    made = out.resolve()
    if made == source.resolve():
        raise InputError(
            f"--out {out} is the source folder itself; choose another one, so that the labels made "
            "are not taken for labels given"
        )
    for _, path in find_files([source]):
        if path.suffix.lower() in RASTERS | VECTORS and made not in path.resolve().parents:
            yield path.relative_to(source).as_posix(), path


def _shared_file(source: Path, images: str | None, labels: str | None) -> Path | None:
    """A vector file named as the label of all images."""
    if labels is None or "*" in labels:
        return None
    path = next((p for p in (source / labels, Path(labels)) if p.is_file()), None)
    if path is None:
        raise InputError(
            f"--labels {labels!r} is no file, here or in {source}; give a vector file, or a "
            "pattern such as 'masks/*.png' with * for the scene's name"
        )
    if is_vector(path):
        return path
    if images is None or "*" in images:
        raise InputError(
            f"--labels {labels!r} names one raster for all images; write * where the scene's name "
            f"stands, or give a vector file ({', '.join(sorted(VECTORS))})"
        )
    return None


def _check_stars(images: str | None, labels: str | None, shared: Path | None) -> None:
    """Patterns without ``*`` are fine for a single scene, or if all have one label."""
    plain = {"images": images, "labels": labels}
    lacking = [name for name, text in plain.items() if text is not None and "*" not in text]
    if len(lacking) == 1 and shared is None:
        raise InputError(
            f"--{lacking[0]} {plain[lacking[0]]!r} has no *; write * where the scene's name "
            f"stands, such as '{lacking[0]}/*.tif'"
        )


def _images(
    source: Path, files: Sequence[NamedFile], images: str | None, labels: str | None
) -> list[NamedFile]:
    rasters = [file for file in files if not is_vector(file.path)]
    if images is not None:
        found = matching(rasters, images, "image", joint=labels is not None)
    else:
        taken = {f.path for f in matching(files, labels, "label")} if labels else set()
        rest = [file for file in rasters if file.path not in taken]
        # Where folders are named for images, pictures outside them are something else.
        found = [file for file in rest if file.role == "image"]
        found = found or [file for file in rest if file.role == "plain"]
        if labels and not found:
            found = [replace(file, role="image") for file in rest]
    if not found:
        asked = f"that fits --images {images!r}" if images else "for a scene"
        raise DatasetError(
            f"no image {asked} among {len(files)} rasters and vector files in {source} "
            f"({_some(file.text for file in files) or 'none'}); give the folder with images and "
            "labels as --source, or a pattern such as --images 'photos/*.tif', * standing for the "
            "scene's name"
        )
    return sorted(found, key=lambda file: file.order)


def _labels(
    source: Path, files: Sequence[NamedFile], images: str | None, labels: str | None
) -> list[NamedFile]:
    if labels is None:
        taken = {file.path for file in matching(files, images, "image")} if images else set()
        return [file for file in files if file.role == "label" and file.path not in taken]
    found = matching(files, labels, "label", joint=images is not None)
    if not found:
        raise DatasetError(
            f"no label in {source} fits --labels {labels!r}; there are "
            f"{_some(file.text for file in files)}"
        )
    return found


def _match(images: Sequence[NamedFile], labels: Sequence[NamedFile]) -> dict[Path, NamedFile]:
    """The label of each image that has one."""
    by_name: dict[tuple[tuple[str, ...], str], list[NamedFile]] = defaultdict(list)
    for label in labels:
        for stem in label.stems:
            by_name[label.place, stem].append(label)
    first: dict[tuple[tuple[str, ...], str], NamedFile] = {}
    owner: dict[Path, NamedFile] = {}
    found = {}
    for image in images:
        twin = first.setdefault((image.place, image.stem), image)
        if twin is not image:
            raise DatasetError(
                f"{twin.path} and {image.path} are both the image {image.stem!r}; remove one, or "
                "say which are meant with --images"
            )
        names = [by_name[image.place, stem] for stem in image.stems]
        candidates = next((each for each in names if each), [])
        if len(candidates) > 1:
            raise DatasetError(
                f"image {image.path} has two labels, {candidates[0].path} and "
                f"{candidates[1].path}; remove one, or say which are meant with --labels, such as "
                f"{candidates[0].glob!r}"
            )
        if candidates:
            label = candidates[0]
            _check_single(image, label, owner)
            found[image.path] = label
    return found


def _up(files: Sequence[NamedFile]) -> list[NamedFile]:
    """The same files, less the folders that all of them are in."""
    folders = [file.place[1:] for file in files]
    levels = zip(*folders, strict=False)  # as deep as the shallowest
    shared = len([*takewhile(lambda level: len(set(level)) == 1, levels)])
    return [replace(file, place=(*file.place[:1], *file.place[1 + shared :])) for file in files]


def _check_single(image: NamedFile, label: NamedFile, owner: dict[Path, NamedFile]) -> None:
    if label.path.samefile(image.path):
        raise DatasetError(
            f"{image.path} fits --images and is the label {label.path} too; write patterns that "
            "tell images from labels"
        )
    other = owner.setdefault(label.path, image)
    if other is not image:
        raise DatasetError(
            f"{label.path} would be the label of both {other.path} and {image.path}; say which "
            "images are meant with --images"
        )


def _check_one_kind(labels: Iterable[NamedFile]) -> None:
    kinds = {is_vector(label.path): label for label in labels}
    if len(kinds) > 1:
        raise DatasetError(
            f"some images have masks ({kinds[False].path}) and some vector files "
            f"({kinds[True].path}); say which labels are meant with --labels"
        )


def _the_only_vector(labels: Iterable[NamedFile]) -> Path | None:
    """One vector file that is named after no image labels them all."""
    vectors = [file for file in labels if is_vector(file.path)]
    if len(vectors) > 1:
        raise DatasetError(
            f"{vectors[0].path} and {vectors[1].path} are named after no image, and either could "
            "label all of them; say which with --labels FILE"
        )
    return vectors[0].path if vectors else None


def _scenes(
    images: Sequence[NamedFile], labels: dict[Path, NamedFile], shared: Path | None
) -> Iterator[FoundScene]:
    repeated = Counter(image.stem for image in images)
    by_id: dict[str, NamedFile] = {}
    for image in images:
        name = image.stem or image.path.stem
        if repeated[name] > 1:
            name = "_".join([*filter(None, image.place), name])
        twin = by_id.setdefault(name, image)
        if twin is not image:
            raise DatasetError(
                f"{twin.path} and {image.path} would both be scene {name!r}; rename one"
            )
        label = labels[image.path].path if image.path in labels else shared
        yield FoundScene(
            name,
            {"split": image.split} if image.split else {},
            {"image": image.path},
            {} if label is None else {"label": label},
        )


def _no_label(source: Path, images: Sequence[NamedFile], labels: Sequence[NamedFile]) -> str:
    there = ""
    if labels:
        there = (
            f"; labels found are {_some(file.text for file in labels)}, where the scene is "
            f"{labels[0].stem!r} and not {images[0].stem!r}"
        )
    return (
        f"none of the {len(images)} images in {source} ({_some(file.text for file in images)}) has "
        f"a label{there}. A label has its image's name, in a folder masks or labels beside images, "
        "or with a suffix such as _mask; say where labels are with --labels 'FOLDER/*.png', * "
        "standing for the scene's name, or give one vector file for all"
    )


def _some(texts: Iterable[str]) -> str:
    listed = list(texts)
    return ", ".join(listed[:_SHOWN]) + (" ..." if len(listed) > _SHOWN else "")
