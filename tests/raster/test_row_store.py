"""Rows that were committed survive anything; rows that were not are never promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wholescene.errors import InputError, OutputError, ResumeError
from wholescene.geometry import Size
from wholescene.raster import RowStore

SIZE = Size(40, 30)
PRODUCTS = {"labels": (1, "uint8"), "probabilities": (3, "float32")}
KEY = {"scene": "a", "model": "b", "settings": {"block": 512, "tta": ["flips"]}}


def open_store(folder: Path, *, resume: bool = False, **changes: Any) -> RowStore:
    options = {"products": PRODUCTS, "size": SIZE, "key": KEY, **changes}
    return RowStore(folder, resume=resume, **options)


def rows(product: str, start: int, stop: int) -> np.ndarray:
    """Rows ``start:stop`` of a raster that is all different numbers."""
    bands, dtype = PRODUCTS[product]
    values = np.arange(bands * SIZE.area).reshape(bands, *SIZE) % 251
    return values[:, start:stop].astype(dtype)


def held(store: RowStore, product: str) -> np.ndarray:
    bands, dtype = PRODUCTS[product]
    return np.fromfile(store.path(product), dtype).reshape(bands, *SIZE)


def test_rows_lie_band_by_band(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        for product in PRODUCTS:
            store.write_rows(product, 10, rows(product, 10, 40))
            store.write_rows(product, 0, rows(product, 0, 10))
            np.testing.assert_array_equal(held(store, product), rows(product, 0, 40))


def test_resuming_continues_after_the_last_commit(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        assert store.rows_done == 0
        for product in PRODUCTS:
            store.write_rows(product, 0, rows(product, 0, 25))
        store.commit(20)
    with open_store(tmp_path / "s", resume=True) as store:
        assert store.rows_done == 20
        for product in PRODUCTS:
            np.testing.assert_array_equal(held(store, product)[:, :20], rows(product, 0, 20))


def test_without_resume_it_starts_afresh(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        store.write_rows("labels", 0, rows("labels", 0, 40))
        store.commit(40)
    with open_store(tmp_path / "s") as store:
        assert store.rows_done == 0
        assert not held(store, "labels").any()
    with open_store(tmp_path / "s", resume=True) as store:
        assert store.rows_done == 0


def test_resuming_nothing_starts(tmp_path: Path) -> None:
    with open_store(tmp_path / "s", resume=True) as store:
        assert store.rows_done == 0


def test_killed_before_the_journal_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "labels.raw").write_bytes(b"left over")
    with open_store(tmp_path / "s", resume=True) as store:
        assert store.rows_done == 0
        assert not held(store, "labels").any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": {**KEY, "model": "c"}}, "'model' was 'b' and is now 'c'"),
        (
            {"key": {**KEY, "settings": {"block": 256, "tta": ["flips"]}}},
            r"'settings\.block' was 512 and is now 256",
        ),
        ({"key": {"scene": "a"}}, "'model' was 'b' and is now None"),
        ({"size": Size(41, 30)}, r"'size' was \[40, 30\] and is now \[41, 30\]"),
        ({"products": {"labels": (1, "uint16")}}, r"'products.labels' was \[1, '\|u1'\]"),
    ],
)
def test_another_plan_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with open_store(tmp_path / "s") as store:
        store.commit(10)
    with pytest.raises(ResumeError, match=f"cannot resume, {words}"):
        open_store(tmp_path / "s", resume=True, **changes)
    # The refusal let go of the folder and kept the rows.
    with open_store(tmp_path / "s", resume=True) as store:
        assert store.rows_done == 10


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows_done": null}'])
def test_a_damaged_journal_is_refused(tmp_path: Path, text: str) -> None:
    open_store(tmp_path / "s").close()
    (tmp_path / "s" / "journal.json").write_text(text)
    with pytest.raises(ResumeError, match="is damaged; run again without --resume"):
        open_store(tmp_path / "s", resume=True)


def test_a_shortened_raw_file_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path / "s").close()
    os.truncate(tmp_path / "s" / "labels.raw", 100)
    with pytest.raises(ResumeError, match=r"labels\.raw: has not the 1200 bytes"):
        open_store(tmp_path / "s", resume=True)


def test_wrong_rows_are_refused(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        for row, block in (
            (0, rows("labels", 0, 5)[:, :, 1:]),
            (0, rows("labels", 0, 5).astype(np.int16)),
            (36, rows("labels", 0, 5)),
            (-1, rows("labels", 0, 5)),
            (0, rows("probabilities", 0, 5)),
        ):
            with pytest.raises(InputError, match="do not fit into"):
                store.write_rows("labels", row, block)


def test_commits_never_go_back(tmp_path: Path) -> None:
    with open_store(tmp_path / "s") as store:
        store.commit(20)
        for count in (19, 41):
            with pytest.raises(InputError, match=f"cannot commit {count} rows after 20 of 40"):
                store.commit(count)


def test_remove_leaves_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s")
    store.commit(40)
    store.remove()
    assert not list(tmp_path.iterdir())


def test_two_stores_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    with open_store(tmp_path / "s"), pytest.raises(OutputError, match="another process is writing"):
        open_store(tmp_path / "s", resume=True)
    open_store(tmp_path / "s").close()


HEADER = """
    import os, sys, time
    import numpy as np
    from wholescene.errors import OutputError
    from wholescene.geometry import Size
    from wholescene.raster import RowStore
    folder = sys.argv[1]
    def store(resume=True, height=4000):
        return RowStore(folder, {"labels": (1, "uint16")}, Size(height, 50), {"k": 1}, resume)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(HEADER) + textwrap.dedent(code),
            *map(str, arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_exclude_each_other_and_a_dead_one_does_not(tmp_path: Path) -> None:
    holder = start("held = store(); print('ready', flush=True); time.sleep(60)", tmp_path / "s")
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
        other = start("try: store()\nexcept OutputError as error: print(error)", tmp_path / "s")
        said, complained = other.communicate(timeout=60)
        assert "another process is writing it" in said and complained == ""
    finally:
        holder.kill()
        holder.communicate()
    done = start("print(store().rows_done)", tmp_path / "s")
    assert done.communicate(timeout=60) == ("0\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_orphaned_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    code = """
        held = store()
        if os.fork() == 0:
            os.close(1); os.close(2)
            time.sleep(5)
            os._exit(0)
        os._exit(0)
    """
    assert start(code, tmp_path / "s").communicate(timeout=60)[1] == ""
    assert start("store(); print('free')", tmp_path / "s").communicate(timeout=60)[0] == "free\n"


def test_kill_at_any_moment_keeps_what_was_committed(tmp_path: Path) -> None:
    writer = """
        held = store(height=600)
        print(held.rows_done, flush=True)
        for row in range(held.rows_done, 600, 10):
            block = np.arange(row * 50, (row + 10) * 50).reshape(1, 10, 50).astype(np.uint16)
            held.write_rows("labels", row, block)
            held.commit(row + 10)
        print("end", flush=True)
    """
    whole = np.arange(600 * 50).reshape(600, 50).astype(np.uint16)
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(3):
        process = start(writer, tmp_path / "s")
        assert process.stdout is not None
        done = int(process.stdout.readline())
        held_rows = np.fromfile(tmp_path / "s" / "labels.raw", np.uint16).reshape(600, 50)
        np.testing.assert_array_equal(held_rows[:done], whole[:done])
        assert done >= reached
        reached = done
        time.sleep(rng.uniform(0.005, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        journal = json.loads((tmp_path / "s" / "journal.json").read_text())
        assert journal["rows_done"] >= done
    assert reached > 0
    process = start(writer, tmp_path / "s")
    assert process.communicate(timeout=100)[0].endswith("end\n")
    np.testing.assert_array_equal(
        np.fromfile(tmp_path / "s" / "labels.raw", np.uint16), whole.ravel()
    )


def test_the_journal_is_written_after_the_rows_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    names: dict[int, str] = {}
    real_open, real_fsync, real_replace = os.open, os.fsync, Path.replace

    def note_open(path: Any, *rest: Any, **more: Any) -> int:
        handle = real_open(path, *rest, **more)
        names[handle] = Path(path).name
        return handle

    def note_fsync(handle: int) -> None:
        order.append(names[handle])
        real_fsync(handle)

    def note_replace(path: Path, target: Path) -> Path:
        order.append(f"{path.name} -> {target.name}")
        return real_replace(path, target)

    monkeypatch.setattr("os.open", note_open)
    monkeypatch.setattr("os.fsync", note_fsync)
    monkeypatch.setattr("pathlib.Path.replace", note_replace)
    with open_store(tmp_path / "s") as store:
        order.clear()
        store.commit(5)
    assert sorted(order[:2]) == ["labels.raw", "probabilities.raw"]
    assert order[2:] == ["journal.json.new", "journal.json.new -> journal.json", "s"]


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_no_room_for_the_rows(tmp_path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000,) * 2)
        try: store()
        except OutputError as error: print(error)
    """
    said, complained = start(code, tmp_path / "s").communicate(timeout=60)
    assert f"{tmp_path / 's'}: the file would exceed the largest allowed here (0.1 MB)" in said
    assert complained == ""


def test_a_disk_that_fills_up_keeps_the_rows_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    store = open_store(tmp_path / "s")
    store.commit(10)
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(OutputError, match=r"the disk is full.*--resume continues after the 10"):
            store.write_rows("labels", 10, rows("labels", 10, 20))
        with pytest.raises(OutputError, match="the disk is full"):
            store.commit(20)
    store.close()
    with open_store(tmp_path / "s", resume=True) as again:
        assert again.rows_done == 10


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda file, data, start: pwrite(file, data[:7], start))
    with open_store(tmp_path / "s") as store:
        store.write_rows("labels", 0, rows("labels", 0, 40))
        np.testing.assert_array_equal(held(store, "labels"), rows("labels", 0, 40))


@pytest.mark.parametrize("deleted", range(4))
def test_a_removal_that_is_killed_halfway_can_be_started_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    class Killed(BaseException):
        pass

    left = [deleted]
    unlink = Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        unlink(path, missing_ok=missing_ok)

    products = {"classes": (1, "uint8"), "uncertainty": (1, "uint8")}
    with RowStore(tmp_path / "s", products, Size(3, 4), {"a": 1}, False) as store:
        for product in products:
            store.write_rows(product, 0, np.ones((1, 3, 4), np.uint8))
        store.commit(3)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "unlink", dying)
            store.remove()
            raise Killed  # all four files were deleted
    with RowStore(tmp_path / "s", products, Size(3, 4), {"a": 1}, True) as again:
        assert again.rows_done == (3 if deleted == 0 else 0)
