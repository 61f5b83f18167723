"""What a dataset's archives hold, unpacked as far as the dataset needs it."""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from wholescene.datasets.prepare.match import compile_pattern, find_files
from wholescene.datasets.public.recipe import Recipe
from wholescene.errors import DatasetError
from wholescene.progress import Progress
from wholescene.raster.aside import free_disk_check, written_aside

__all__ = ["unpack_archives"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_ANY_SUFFIX = "|".join(map(re.escape, _SUFFIXES))
_ARCHIVE = re.compile(rf"(?P<stem>.+?)(?:{_ANY_SUFFIX})", re.IGNORECASE)
_BY_HAND = {
    r"(?P<stem>.+?)(?:\.part\d+)?\.(?:rar|r\d\d)": "unrar x {name}",
    r"(?P<stem>.+)\.7z(?:\.\d{3})?": "7z x {name}",
    r"(?P<stem>.+)\.z\d\d": "7z x {stem}.zip",
    rf"(?P<whole>(?P<stem>.+?)(?:{_ANY_SUFFIX}))(?:\.\d{{2,3}}|\.?a[a-z])": (
        "cat {whole}?* > {whole} (it joins the parts)"
    ),
}
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, struct.error),
    *(EOFError, NotImplementedError, OSError, ValueError),
)
_MAX_DEPTH = 3
_CHUNK = 1 << 20


def unpack_archives(
    recipe: Recipe, source: Path, out: Path, *, progress: Progress | None = None
) -> tuple[list[Path], tuple[str, ...]]:
    """Unpack the archives of a dataset that lie below a folder.

    Of each archive, only files that a layout of the recipe can use are unpacked, and only those
    that do not lie unpacked beside it. What was done before is not done again.

    Args:
        recipe: The dataset.
        source: Folder with the archives.
        out: Folder for what they hold.
        progress: Called with bytes written and in all, anew for each archive.

    Returns:
        Folders to search besides ``source`` (none, or ``out``), and notes on archives that are
        whole but have not the published checksum.

    Raises:
        DatasetError: If an archive is damaged, unsafe, encrypted or of an unknown kind.
        OutputError: If something cannot be written.
    """
    inside = out.absolute()
    files = [f for _, f in find_files([source]) if not f.absolute().is_relative_to(inside)]
    unpacker = _Unpacker(recipe, out, progress)
    for path in files:
        unpacker.refuse_foreign(path)
    found = [path for path in files if unpacker.takes_archive(path.name)]
    for path in found:
        status = path.stat()
        archive = _Archive(
            path=path,
            title=str(path),
            below=PurePosixPath(path.relative_to(source).as_posix()),
            beside=(path.parent / _stem(path.name), path.parent),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
        )
        unpacker.unpack(archive)
    return ([out] if found else []), tuple(unpacker.notes)


@dataclass(frozen=True)
class _Member:
    """A file or folder in an archive."""

    name: str
    size: int  # as declared
    is_folder: bool
    fault: str | None  # why it cannot be unpacked, as the end of a sentence
    open: Callable[[], IO[bytes]]


_Members = Mapping[PurePosixPath, _Member]


@dataclass(frozen=True)
class _Archive:
    """An archive, be it in the source folder or in another archive."""

    path: Path
    title: str  # what errors call it
    below: PurePosixPath  # its path below the source folder, or below that of the other archive
    beside: tuple[Path, ...]  # folders where a user may have unpacked it
    size: int
    mtime_ns: int  # of the file in the source folder
    depth: int = 1

    @property
    def folder(self) -> PurePosixPath:
        """Where its files go, below ``out``."""
        return self.below.with_name(_stem(self.below.name))

    def nested(self, path: PurePosixPath, member: _Member, out: Path) -> _Archive:
        """An archive that this one holds."""
        parents = [folder / path.parent for folder in self.beside]
        return _Archive(
            path=out / self.folder / path,
            title=f"{self.title}, in it {path}",
            below=self.folder / path,
            beside=tuple(f for p in parents for f in (p / _stem(path.name), p)),
            size=member.size,
            mtime_ns=self.mtime_ns,
            depth=self.depth + 1,
        )


class _Unpacker:
    """Unpacks archives of one dataset into one folder."""

    def __init__(self, recipe: Recipe, out: Path, progress: Progress | None) -> None:
        self.recipe, self.out, self.progress = recipe, out, progress
        self.notes: list[str] = []
        texts = [text for layout in recipe.layouts.values() for text in layout.patterns]
        self.patterns = [compile_pattern(text) for text in dict.fromkeys(texts)]
        wanted = json.dumps([texts, [entry.name for entry in recipe.archives]])
        self.wanted = hashlib.sha256(wanted.encode()).hexdigest()

    def refuse_foreign(self, path: Path) -> None:
        """Refuse an archive of the dataset that Python cannot unpack."""
        for pattern, command in _BY_HAND.items():
            match = re.fullmatch(pattern, path.name, re.IGNORECASE)
            if match is not None and self._is_published(path.name, match["stem"]):
                by_hand = command.format(name=path.name, **match.groupdict())
                raise DatasetError(
                    f"{path} is one of {self.recipe.title}, but only {', '.join(_SUFFIXES)} in one "
                    f"piece are unpacked; run {by_hand} in {path.parent}, then move what it is "
                    "packed in out of the source folder"
                )

    def takes_archive(self, name: str) -> bool:
        """Whether a file is an archive that belongs to the dataset."""
        if _ARCHIVE.fullmatch(name) is None:
            return False
        return not self.recipe.archives or self._is_published(name)

    def unpack(self, archive: _Archive) -> None:
        """Unpack an archive and the archives in it, as far as that was not done."""
        if self._is_done(archive):
            return
        if archive.depth > _MAX_DEPTH:
            raise DatasetError(
                f"{archive.title}: archives in archives are unpacked {_MAX_DEPTH} deep; unpack the "
                "outermost one by hand and move it out of the source folder"
            )
        self._verify(archive)
        with _opened(archive) as members:
            lacking = self._lacking(archive, self._usable(archive, members))
            self._write(archive, lacking)
        for path, member in lacking.items():
            if self.takes_archive(path.name):
                self._unpack_nested(archive.nested(path, member, self.out))
        self._mark_done(archive)

    def _unpack_nested(self, archive: _Archive) -> None:
        try:
            self.unpack(archive)
        except DatasetError:
            # Once its archive is downloaded again, it must not be taken for unpacked.
            archive.path.unlink()
            raise

    def _verify(self, archive: _Archive) -> None:
        """Note an archive whose checksum is not as published: it may have been packed again.

        Damage shows when it is unpacked, as every kind of archive has checksums of its own.
        """
        entries = [e for e in self.recipe.archives if _matches(e.name, archive.path.name)]
        for kind, published in (
            ("md5", [e.md5.lower() for e in entries if e.md5]),
            ("sha256", [e.sha256.lower() for e in entries if e.sha256]),
        ):
            if not published:
                continue
            found = _digest(archive, kind)
            if found not in published:
                self.notes.append(
                    f"{archive.title}: its {kind} is {found}, published is "
                    f"{' or '.join(published)}; it was packed again or is another release"
                )

    def _usable(self, archive: _Archive, members: Sequence[_Member]) -> _Members:
        """Files the recipe has a use for, by path; refuses the archive if any member is unsafe."""
        for member in members:
            fault = _path_fault(member.name) or member.fault
            if fault is not None:
                raise DatasetError(
                    f"{archive.title}: its member {member.name!r} {fault}, so nothing of it is "
                    "unpacked; if you trust it, unpack it by hand and move it out of the source "
                    "folder"
                )
        files = {PurePosixPath(m.name): m for m in members if not m.is_folder}
        return {path: m for path, m in files.items() if self._is_useful(archive, path)}

    def _is_useful(self, archive: _Archive, path: PurePosixPath) -> bool:
        if any(part.startswith((".", "__MACOSX")) for part in path.parts):
            return False  # as in a search of folders
        text = f"{self.out.absolute().name}/{archive.folder / path}"
        return self.takes_archive(path.name) or any(p.fullmatch(text) for p in self.patterns)

    def _lacking(self, archive: _Archive, members: _Members) -> _Members:
        """Members that do not lie beside the archive, and whose own members are not all there."""
        return {
            path: member
            for path, member in members.items()
            if not any(_is_there(folder / path, member) for folder in archive.beside)
            and not (
                self.takes_archive(path.name)
                and self._is_done(archive.nested(path, member, self.out))
            )
        }

    def _write(self, archive: _Archive, members: _Members) -> None:
        """Write members that an earlier run did not."""
        folder = self.out / archive.folder
        members = {p: m for p, m in members.items() if not _is_there(folder / p, m)}
        sizes = [member.size for member in members.values()]
        done, total = 0, sum(sizes)
        free_disk_check(self.out, total, file_bytes=max(sizes, default=0))
        for path, member in members.items():
            target = folder / path
            aside = target.with_name(f"{target.name}.part")
            with written_aside(target, aside=aside) as part, part.open("wb") as file:
                for chunk in _chunks(archive, member):
                    file.write(chunk)
                    done += len(chunk)
                    if self.progress is not None:
                        self.progress(done, total)

    def _is_published(self, name: str, stem: str | None = None) -> bool:
        """Whether the recipe lists the name; with a stem, whether it lists it with any suffix."""
        names = [name] if stem is None else [name, *(stem + suffix for suffix in _SUFFIXES)]
        return any(_matches(entry.name, n) for entry in self.recipe.archives for n in names)

    def _marker(self, archive: _Archive) -> Path:
        return self.out / ".done" / f"{archive.below}.json"

    def _state(self, archive: _Archive) -> str:
        state = {"size": archive.size, "mtime_ns": archive.mtime_ns, "wanted": self.wanted}
        return json.dumps(state)

    def _is_done(self, archive: _Archive) -> bool:
        marker = self._marker(archive)
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._state(archive)

    def _mark_done(self, archive: _Archive) -> None:
        if archive.depth > 1:
            archive.path.unlink()
        with written_aside(self._marker(archive)) as part:
            part.write_text(self._state(archive), encoding="utf-8")


@contextmanager
def _reading(archive: _Archive) -> Iterator[None]:
    """Say which archive cannot be read."""
    try:
        yield
    except _DAMAGE as error:
        raise DatasetError(
            f"{archive.title} is damaged or incomplete ({error or type(error).__name__}); "
            "download it again"
        ) from error


@contextmanager
def _opened(archive: _Archive) -> Iterator[list[_Member]]:
    """Everything an archive holds; its members can be opened until the end of the block."""
    with ExitStack() as stack:
        with _reading(archive):
            if archive.path.name.casefold().endswith(".zip"):
                members = _zip_members(stack.enter_context(zipfile.ZipFile(archive.path)))
            else:
                members = _tar_members(stack.enter_context(tarfile.open(archive.path)))
        yield members


def _zip_members(archive: zipfile.ZipFile) -> list[_Member]:
    return [
        _Member(i.filename, i.file_size, i.is_dir(), _zip_fault(i), partial(archive.open, i))
        for i in archive.infolist()
    ]


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.flag_bits & 1:
        return "is encrypted"
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither file nor folder"
    if info.compress_type not in _ZIP_METHODS:
        return f"is compressed by a method that is not supported ({info.compress_type})"
    return None


def _tar_members(archive: tarfile.TarFile) -> list[_Member]:
    members = [
        _Member(i.name, i.size, i.isdir(), _tar_fault(i), partial(_open_in_tar, archive, i))
        for i in archive
    ]
    file = archive.fileobj
    assert file is not None
    # A damaged header looks like the end; the true end is a block of zeros. What follows is read
    # because compressed files have their checksum there.
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    while file.read(_CHUNK):
        pass
    return members


def _tar_fault(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "is a link"
    return None if info.isreg() or info.isdir() else "is neither file nor folder"


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None
    return file


def _path_fault(name: str) -> str | None:
    """What makes a path in an archive unsafe."""
    if name.startswith("/") or name[1:2] == ":":
        return "has an absolute path"
    if ".." in name.split("/"):
        return "leads out of the archive's folder"
    return "has a path with a forbidden character" if {*"\\\0"} & {*name} else None


def _chunks(archive: _Archive, member: _Member) -> Iterator[bytes]:
    """Content of a member; it ends with an error where there is more than it declares."""
    left = member.size
    with _reading(archive), member.open() as file:
        while left >= 0 and (chunk := file.read(_CHUNK)):
            left -= len(chunk)
            yield chunk
    if left:
        raise DatasetError(
            f"{archive.title}: its member {member.name!r} holds "
            f"{'more' if left < 0 else 'less'} than the {member.size:,} bytes it declares; "
            "download it again"
        )


def _digest(archive: _Archive, kind: str) -> str:
    with _reading(archive), archive.path.open("rb") as file:
        start = partial(hashlib.new, kind, usedforsecurity=False)
        return hashlib.file_digest(file, start).hexdigest()


def _is_there(path: Path, member: _Member) -> bool:
    return path.is_file() and path.stat().st_size == member.size


def _matches(pattern: str, name: str) -> bool:
    return re.fullmatch(pattern, name, re.IGNORECASE) is not None


def _stem(name: str) -> str:
    """Name of an archive without its suffix."""
    match = _ARCHIVE.fullmatch(name)
    assert match is not None
    return match["stem"]
