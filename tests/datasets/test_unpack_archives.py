"""Archives as publishers ship them, made here with the standard library alone."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from wholescene.datasets.prepare import archives
from wholescene.datasets.prepare.archives import unpack_archives
from wholescene.datasets.public.recipe import Recipe
from wholescene.errors import DatasetError, OutputError

NOISE = bytes(hashlib.shake_256(b"noise").digest(50_000))


def toy(*published: str | dict[str, str], **layout: Any) -> Recipe:
    """A recipe whose images are PNG files in ``images`` and masks those in ``masks``."""
    return Recipe.model_validate(
        {
            "name": "toy",
            "title": "Toy",
            "homepage": "https://example.org",
            "licence": "none",
            "about": "Made up.",
            "size": "few",
            "classes": [{"id": 0, "name": "land"}],
            "sources": {"rgb": {}},
            "targets": ["label"],
            "layouts": {
                "publisher": {
                    "images": {"rgb": r"images/(?P<scene>p\d+)\.png"},
                    "labels": {"label": r"masks/(?P<scene>p\d+)\.png"},
                    "lists": {"official": {"train": r"lists/train\.txt"}},
                    **layout,
                }
            },
            "archives": [{"name": a} if isinstance(a, str) else a for a in published],
        }
    )


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Files below a folder but for markers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".done" not in path.parts
    }


class Case:
    """A source folder and where its archives go."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out = folder / "source", folder / "out" / "unpacked"
        self.source.mkdir()

    def put(self, name: str, content: bytes) -> Path:
        return put(self.source / name, content)

    def run(self, recipe: Recipe | None = None, **more: Any) -> dict[str, bytes]:
        """What lies in ``out`` afterwards."""
        unpack_archives(recipe or toy(), self.source, self.out, **more)
        return tree(self.out)

    def refused(self, recipe: Recipe | None = None) -> str:
        """The error; nothing may have been written."""
        with pytest.raises(DatasetError) as caught:
            unpack_archives(recipe or toy(), self.source, self.out)
        assert tree(self.out) == {}
        return str(caught.value)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


PAIR = {"images/P1.png": b"one", "masks/P1.png": b"mask"}


# What is unpacked, and where to


def test_without_an_archive_there_is_nothing_to_search(case: Case) -> None:
    case.put("images/P1.png", b"one")
    assert unpack_archives(toy(), case.source, case.out) == ([], ())
    assert not case.out.exists()


def test_with_an_archive_the_folder_is_to_be_searched(case: Case) -> None:
    case.put("data.zip", zipped(PAIR))
    assert unpack_archives(toy(), case.source, case.out) == ([case.out], ())


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        (".zip", ""),
        (".ZIP", ""),
        (".tar", "w"),
        (".tar.gz", "w:gz"),
        (".Tar.Gz", "w:gz"),
        (".tgz", "w:gz"),
        (".tar.bz2", "w:bz2"),
        (".tar.xz", "w:xz"),
    ],
)
def test_every_format_is_unpacked_into_a_folder_of_its_name(
    case: Case, suffix: str, mode: str
) -> None:
    files = {**PAIR, "images/P2.png": NOISE}
    case.put(f"deep/er/v1.0{suffix}", tarred(files, mode) if mode else zipped(files))
    assert case.run() == {f"deep/er/v1.0/{name}": content for name, content in files.items()}


def test_only_files_that_a_layout_can_use_are_unpacked(case: Case) -> None:
    others = dict.fromkeys(
        ["readme.pdf", "images/P1.txt", "__MACOSX/images/P1.png", ".cache/images/P1.png"], b"x"
    )
    wanted = {"a/b/images/P1.png": b"1", "MASKS/p2.PNG": b"2", "lists/train.txt": b"3"}
    case.put("data.zip", zipped({**others, **wanted}))
    assert case.run() == {f"data/{name}": content for name, content in wanted.items()}


def test_the_name_of_the_archive_counts_as_a_folder(case: Case) -> None:
    case.put("images.zip", zipped({"P1.png": b"one"}))
    case.put("train/Images.tar", tarred({"P2.png": b"two"}))
    case.put("other.zip", zipped({"P3.png": b"three"}))
    assert case.run() == {"images/P1.png": b"one", "train/Images/P2.png": b"two"}


def test_only_listed_archives_are_taken_whatever_their_case(case: Case) -> None:
    case.put("5_LABELS.zip", zipped(PAIR))
    case.put("5_labels_all.zip", zipped(PAIR))
    case.put("other.zip", b"no archive at all")
    assert {name.split("/")[0] for name in case.run(toy(r"5_labels\.zip"))} == {"5_LABELS"}


def test_archives_of_an_earlier_output_in_the_source_folder_are_left_alone(case: Case) -> None:
    case.put("data.zip", zipped(PAIR))
    case.out = case.source / "prepared" / "unpacked"
    put(case.out / "data" / "rest.zip", b"unfinished")
    assert set(case.run()) == {"data/rest.zip", "data/images/P1.png", "data/masks/P1.png"}


def test_nothing_but_content_is_kept(case: Case) -> None:
    info = zipfile.ZipInfo("images/P1.png", (1990, 1, 1, 0, 0, 0))
    info.external_attr = (stat.S_IFREG | 0o4755) << 16
    with zipfile.ZipFile(case.source / "data.zip", "w") as archive:
        archive.writestr(info, b"one")
    case.run()
    status = (case.out / "data/images/P1.png").stat()
    assert not status.st_mode & 0o7111
    assert status.st_mtime > 1e9


# Archives in archives


def test_parts_as_isaid_ships_them(case: Case) -> None:
    for split in ("train", "val"):
        case.put(f"{split}/images/part1.zip", zipped({"images/P0000.png": split.encode()}))
        case.put(f"{split}/Semantic_masks/images.zip", zipped({"images/P0000_mask.png": b"m"}))
    recipe = toy(
        r"part\d+\.zip",
        r"images\.zip",
        images={"rgb": r"(?P<split>train|val)/images/(?:.*/)?(?P<scene>P\d+)\.png"},
        labels={"label": r"(?P<split>train|val)/semantic_masks/(?:.*/)?(?P<scene>P\d+)_mask\.png"},
    )
    assert case.run(recipe) == {
        "train/images/part1/images/P0000.png": b"train",
        "val/images/part1/images/P0000.png": b"val",
        "train/Semantic_masks/images/images/P0000_mask.png": b"m",
        "val/Semantic_masks/images/images/P0000_mask.png": b"m",
    }


def test_an_archive_in_an_archive_is_unpacked_and_removed(case: Case) -> None:
    inner = zipped({"images/P1.png": b"one"})
    case.put("Toy.zip", zipped({"Toy/1_Ortho.zip": inner, "Toy/unlisted.zip": inner, **PAIR}))
    assert case.run(toy(r"toy\.zip", r"1_ortho\.zip")) == {
        "Toy/Toy/1_Ortho/images/P1.png": b"one",
        **{f"Toy/{name}": content for name, content in PAIR.items()},
    }


def test_archives_are_unpacked_three_deep(case: Case) -> None:
    content = tarred(PAIR, "w:gz")
    case.put("a.zip", zipped({"b.tar": tarred({"c.tgz": content})}))
    assert set(case.run()) == {"a/b/c/images/P1.png", "a/b/c/masks/P1.png"}


def test_a_fourth_archive_is_refused(case: Case) -> None:
    case.put("a.zip", zipped({"b.zip": zipped({"c.zip": zipped({"d.zip": zipped(PAIR)})})}))
    message = case.refused()
    assert "a.zip, in it b.zip, in it c.zip, in it d.zip" in message
    assert "3 deep" in message


def test_a_damaged_archive_in_an_archive_does_not_stay(case: Case) -> None:
    case.put("a.zip", zipped({"b.zip": zipped(PAIR)[:-30]}))
    assert "a.zip, in it b.zip is damaged" in case.refused()
    case.put("a.zip", zipped({"b.zip": zipped(PAIR)}))
    assert set(case.run()) == {"a/b/images/P1.png", "a/b/masks/P1.png"}


# What is not done again


def test_a_second_run_does_not_open_a_finished_archive(case: Case) -> None:
    path = case.put("a.zip", zipped({"b.zip": zipped(PAIR)}))
    first = case.run()
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert unpack_archives(toy(), case.source, case.out) == ([case.out], ())
    assert tree(case.out) == first


def test_an_archive_that_changed_is_opened_again(case: Case) -> None:
    path = case.put("a.zip", zipped({"b.zip": zipped(PAIR)}))
    case.run()
    path.write_bytes(zipped({"b.zip": zipped({**PAIR, "images/P2.png": b"two"})}))
    assert case.run()["a/b/images/P2.png"] == b"two"


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_archive_that_changed_but_not_in_size_is_opened_again(case: Case, wrapped: bool) -> None:
    contents = [tarred({f"images/P{i}.png": b"one"}) for i in (1, 2)]
    if wrapped:
        contents = [tarred({"b.tar": content}) for content in contents]
    path = case.put("a.tar", contents[0])
    case.run()
    path.write_bytes(contents[1])
    os.utime(path, (1e9, 1e9))
    folder = "a/b" if wrapped else "a"
    assert set(case.run()) == {f"{folder}/images/P1.png", f"{folder}/images/P2.png"}


def test_a_recipe_that_wants_more_opens_a_finished_archive_again(case: Case) -> None:
    case.put("a.zip", zipped({**PAIR, "more.txt": b"list"}))
    case.run()
    assert "a/more.txt" in case.run(toy(lists={"official": {"train": r"more\.txt"}}))


@pytest.mark.parametrize("folder", ["data", "."])
def test_what_lies_unpacked_beside_the_archive_is_not_unpacked_again(
    case: Case, folder: str
) -> None:
    case.put("train/data.zip", zipped({**PAIR, "images/P2.png": b"two"}))
    case.put(f"train/{folder}/images/P1.png", b"eno")  # other content shows that it is not touched
    case.put(f"train/{folder}/masks/P1.png", b"cut")
    assert case.run() == {"train/data/images/P2.png": b"two", "train/data/masks/P1.png": b"mask"}
    assert (case.source / "train" / folder / "images/P1.png").read_bytes() == b"eno"


@pytest.mark.parametrize("folder", ["a/b", "b", "a", "."])
def test_beside_holds_for_archives_in_archives(case: Case, folder: str) -> None:
    case.put("a.zip", zipped({"b.zip": zipped(PAIR)}))
    case.put(f"{folder}/images/P1.png", b"one")
    assert case.run() == {"a/b/masks/P1.png": b"mask"}


def test_an_inner_archive_unpacked_beside_is_taken_from_there(case: Case) -> None:
    case.put("a.zip", zipped({"b.zip": zipped(PAIR)}))
    case.put("a/b.zip", zipped(PAIR))
    assert set(case.run()) == {"a/b/images/P1.png", "a/b/masks/P1.png"}
    assert (case.source / "a/b.zip").is_file()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("make", [zipped, tarred, lambda files: tarred(files, "w:gz")])
def test_a_killed_run_goes_on_where_it_stopped(case: Case, make: Any) -> None:
    files = {f"images/P{i}.png": NOISE[: 1000 + i] for i in range(5)}
    case.put("data.zip" if make is zipped else "data.tar", make(files))

    def kill(done: int, total: int) -> None:
        if done > 2500:
            raise Killed

    with pytest.raises(Killed):
        case.run(progress=kill)
    assert set(tree(case.out)) == {"data/images/P0.png", "data/images/P1.png"}
    # A process that is killed outright leaves the unfinished file.
    put(case.out / "data/images/P2.png.part", NOISE[:10])
    put(case.out / "data/images/P1.png", bytes(1001))  # shows that it is not written again
    seen: list[tuple[int, int]] = []
    found = case.run(progress=lambda done, total: seen.append((done, total)))
    assert found.pop("data/images/P1.png") == bytes(1001)
    assert found == {f"data/{n}": c for n, c in files.items() if n != "images/P1.png"}
    assert seen == [(1002, 3009), (2005, 3009), (3009, 3009)]


def test_a_run_killed_in_an_inner_archive_goes_on_there(case: Case) -> None:
    inner = [zipped({f"images/P{i}.png": NOISE[i:]}) for i in range(3)]
    case.put("a.zip", zipped({f"b{i}.zip": content for i, content in enumerate(inner)}))
    calls: list[int] = []

    def kill(done: int, total: int) -> None:
        calls.append(total)
        if len(calls) == 5:  # three inner archives, the file of the first, that of the second
            raise Killed

    with pytest.raises(Killed):
        case.run(progress=kill)
    assert set(tree(case.out)) == {"a/b0/images/P0.png", "a/b1.zip", "a/b2.zip"}
    seen: list[int] = []
    found = case.run(progress=lambda done, total: seen.append(total))
    assert found == {f"a/b{i}/images/P{i}.png": NOISE[i:] for i in range(3)}
    assert seen == [len(NOISE) - 1, len(NOISE) - 2]


def test_progress_counts_bytes_of_each_archive(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_CHUNK", 20_000)
    case.put("a.zip", zipped({"images/P1.png": NOISE, "images/P2.png": b"two"}))
    case.put("b.tar", tarred({"images/P3.png": b"three"}))
    seen: list[tuple[int, int]] = []
    case.run(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20_000, 50_003), (40_000, 50_003), (50_000, 50_003), (50_003, 50_003), (5, 5)]


# Checksums and damage


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_checksum_that_is_not_the_published_one_is_noted(case: Case, kind: str) -> None:
    content = zipped(PAIR)
    case.put("data.zip", content)
    digest = hashlib.new(kind, content).hexdigest()
    wrong = hashlib.new(kind, b"another").hexdigest()
    recipe = toy({"name": r"data\.zip", kind: wrong})
    _, (note,) = unpack_archives(recipe, case.source, case.out.parent / "noted")
    assert digest in note
    assert wrong in note
    assert "packed again" in note
    _, notes = unpack_archives(toy({"name": r"data\.zip", kind: digest}), case.source, case.out)
    assert notes == ()
    assert len(case.run(toy({"name": r"data\.zip", kind: digest.upper()}))) == 2


def test_files_of_one_name_may_have_several_checksums(case: Case) -> None:
    contents = [zipped(PAIR), zipped({"images/P2.png": b"two"})]
    entries = [{"name": r"part1\.zip", "md5": hashlib.md5(c).hexdigest()} for c in contents]
    for split, content in zip(("train", "val"), contents, strict=True):
        case.put(f"{split}/part1.zip", content)
    assert len(case.run(toy(*entries))) == 3


FILES = {"images/P1.png": NOISE, "images/P2.png": NOISE[::-1]}


@pytest.mark.parametrize("keep", [0, 10, 512, 30_000, -1100, -8, -1])
@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".zip", zipped(FILES)),
        (".tar", tarred(FILES)[:103_000]),  # without the padding to whole records
        (".tar.gz", tarred(FILES, "w:gz")),
        (".tar.bz2", tarred(FILES, "w:bz2")),
        (".tar.xz", tarred(FILES, "w:xz")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_truncated_archive_is_refused_by_name(
    case: Case, suffix: str, content: bytes, keep: int
) -> None:
    if suffix == ".tar" and keep in (-1, -8):
        keep *= 1000  # of the end, one block of zeros is enough
    path = case.put(f"data{suffix}", content[:keep])
    message = case.refused()
    assert f"{path} is damaged or incomplete" in message
    assert "download it again" in message


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_what_is_no_archive_is_refused_by_name(case: Case, suffix: str) -> None:
    path = case.put(f"data{suffix}", b"<html>Please log in</html>" * 100)
    assert f"{path} is damaged or incomplete" in case.refused()


def test_a_flipped_bit_in_a_zip_is_seen(case: Case) -> None:
    content = bytearray(zipped(FILES))
    content[20_000] ^= 1
    case.put("data.zip", bytes(content))
    assert "damaged or incomplete" in case.refused()


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_flipped_bit_in_a_compressed_tar_is_seen(case: Case, mode: str) -> None:
    content = bytearray(tarred(FILES, mode))
    content[20_000] ^= 1
    case.put("data.tgz", bytes(content))
    assert "damaged or incomplete" in case.refused()


def test_a_damaged_header_in_a_tar_is_not_taken_for_its_end(case: Case) -> None:
    content = bytearray(tarred(FILES))
    second = content.index(b"images/P2.png")
    content[second] ^= 1
    case.put("data.tar", bytes(content))
    assert "its end is missing" in case.refused()


# Unsafe archives


UNSAFE = [
    "/images/P1.png",
    "../images/P1.png",
    "images/../../P1.png",
    "C:/images/P1.png",
    "images\\P1.png",
    "..\\images\\P1.png",
]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_paths_that_lead_elsewhere_are_refused(case: Case, make: Any, name: str) -> None:
    suffix = "zip" if make is zipped else "tar"
    path = case.put(f"data.{suffix}", make({**PAIR, name: b"evil"}))
    message = case.refused()
    assert str(path) in message
    assert repr(name) in message
    assert not list(case.out.parent.parent.rglob("*.png"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "neither file nor folder"),
        (tarfile.BLKTYPE, "neither file nor folder"),
        (tarfile.FIFOTYPE, "neither file nor folder"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(case: Case, kind: bytes, said: str) -> None:
    with tarfile.open(case.source / "data.tar", "w") as archive:
        info = tarfile.TarInfo("images/P1.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"one"))
        special = tarfile.TarInfo("elsewhere")
        special.type, special.linkname = kind, "images/P1.png"
        archive.addfile(special)
    message = case.refused()
    assert "'elsewhere'" in message
    assert said in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(case: Case, kind: int) -> None:
    info = zipfile.ZipInfo("elsewhere")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(case.source / "data.zip", "w") as archive:
        archive.writestr("images/P1.png", b"one")
        archive.writestr(info, "/etc")
    assert "'elsewhere'" in case.refused()


def patched(content: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """A zip with a field changed in each header of a kind."""
    changed = bytearray(content)
    for match in re.finditer(re.escape(signature), content):
        changed[match.start() + offset : match.start() + offset + len(value)] = value
    return bytes(changed)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


def test_an_encrypted_zip_is_refused(case: Case) -> None:
    content = patched(zipped(PAIR), CENTRAL, 8, b"\x01\x00")
    case.put("data.zip", content)
    assert "'images/P1.png' is encrypted" in case.refused()


def test_a_method_that_is_not_supported_is_refused(case: Case) -> None:
    case.put("data.zip", patched(zipped(PAIR), CENTRAL, 10, struct.pack("<H", 9)))  # Deflate64
    assert "compressed by a method that is not supported (9)" in case.refused()


@pytest.mark.parametrize("declared", [10, len(NOISE) - 1, len(NOISE) + 1])
def test_a_member_of_another_size_than_it_declares_is_refused(case: Case, declared: int) -> None:
    content = zipped({"images/P1.png": NOISE})
    size = struct.pack("<I", declared)
    case.put("data.zip", patched(patched(content, CENTRAL, 24, size), LOCAL, 22, size))
    assert "data.zip" in case.refused()


@pytest.mark.parametrize(("real", "said"), [(b"x" * 11, "more"), (b"x" * 9, "less")])
def test_no_more_is_written_than_declared(
    case: Case, monkeypatch: pytest.MonkeyPatch, real: bytes, said: str
) -> None:
    # Should a reader not keep to the declared size itself.
    case.put("data.zip", zipped({"images/P1.png": bytes(10)}))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: io.BytesIO(real))
    assert f"'images/P1.png' holds {said} than the 10 bytes" in case.refused()


def test_a_full_disk_is_told_before_anything_is_written(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.put("data.zip", zipped({**PAIR, "images/P2.png": NOISE}))
    case.put("images/P1.png", b"one")
    asked: list[tuple[Path, int, int | None]] = []

    def full(folder: Path, needed: int, *, file_bytes: int | None) -> None:
        asked.append((folder, needed, file_bytes))
        raise OutputError("full")

    monkeypatch.setattr(archives, "free_disk_check", full)
    with pytest.raises(OutputError, match="full"):
        case.run()
    assert asked == [(case.out, 50_004, 50_000)]
    assert tree(case.out) == {}


def test_a_file_in_the_way_is_no_damage(case: Case) -> None:
    case.put("data.zip", zipped(PAIR))
    put(case.out / "data" / "images", b"a file")
    with pytest.raises(OutputError, match="--out"):
        case.run()


# Formats that are unpacked by hand


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("DATA.rar", "unrar x DATA.rar"),
        ("data.part1.rar", "unrar x data.part1.rar"),
        ("data.7z", "7z x data.7z"),
        ("data.7z.001", "7z x data.7z.001"),
        ("data.z01", "7z x data.zip"),
        ("data.zip.001", "cat data.zip?* > data.zip"),
        ("data.tar.gz.aa", "cat data.tar.gz?* > data.tar.gz"),
        ("data.tar.gzab", "cat data.tar.gz?* > data.tar.gz"),
    ],
)
def test_foreign_formats_are_refused_with_what_to_do(case: Case, name: str, command: str) -> None:
    path = case.put(f"train/{name}", b"whatever")
    case.put("other.zip", zipped(PAIR))
    message = case.refused(toy(r"data\.zip", r"data\.tar\.gz", r"other\.zip"))
    assert str(path) in message
    assert f"run {command}" in message
    assert f"in {path.parent}" in message


@pytest.mark.parametrize("name", ["data.rar", "data.zip.md5", "data.zip.txt", "data.zip.part"])
def test_files_that_are_none_of_the_dataset_s_are_left_alone(case: Case, name: str) -> None:
    case.put(name, b"whatever")
    assert case.run(toy(r"labels\.zip")) == {}
    assert case.run(toy(r"data\.tar") if name != "data.rar" else toy()) == {}
