"""Readers work in threads, in other processes and in bounded memory, and print nothing."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from rasterio.env import get_gdal_config, set_gdal_config
from toy_rasters import MakeRaster, ramp

from wholescene.geometry import Size, Window, block_windows
from wholescene.labels import ClassTable
from wholescene.raster import LabelReader, SceneReader, cap_gdal_cache


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=100,
    )


def noisy_scene(make_raster: MakeRaster) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 300, 310)).astype(np.uint8)
    path = make_raster(pixels, tiled=True, blockxsize=32, blockysize=32, compress="deflate")
    return path, pixels


def test_threads_share_a_reader(make_raster: MakeRaster) -> None:
    path, pixels = noisy_scene(make_raster)
    with SceneReader(path) as reader:
        windows = list(block_windows(reader.size, Size(37, 41))) * 3
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(reader.read, windows))
    for window, part in zip(windows, found, strict=True):
        np.testing.assert_array_equal(part.values, pixels[:, window.rows, window.cols])


def test_each_thread_has_its_own_handle(make_raster: MakeRaster) -> None:
    reader = SceneReader(make_raster(ramp(3, 4)))
    path = str(reader.paths[0])
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(reader._handles.get, path).result()
        assert pool.submit(reader._handles.get, path).result() is other
        assert reader._handles.get(path) is not other
        reader.close()
        assert other.closed
        assert not pool.submit(reader._handles.get, path).result().closed


def test_closed_readers_open_again(make_raster: MakeRaster) -> None:
    reader = SceneReader(make_raster(ramp(3, 4)))
    reader.close()
    np.testing.assert_array_equal(reader.read(Window.whole(reader.size)).values[0], ramp(3, 4))


def test_readers_travel_by_pickle(make_raster: MakeRaster) -> None:
    path = make_raster(ramp(3, 4))
    reader = SceneReader(path)
    again = pickle.loads(pickle.dumps(reader))
    assert again.fingerprint() == reader.fingerprint()
    np.testing.assert_array_equal(again.read(Window.whole(again.size)).values[0], ramp(3, 4))
    classes = ClassTable.from_names([str(i) for i in range(13)])
    labels = pickle.loads(pickle.dumps(LabelReader(path, classes)))
    np.testing.assert_array_equal(labels.read(Window.whole(labels.size)), ramp(3, 4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_opens_its_own_handle(make_raster: MakeRaster) -> None:
    path, _ = noisy_scene(make_raster)
    # In a process of its own: the fork of a test runner with threads would warn.
    code = f"""
        import os
        from wholescene.geometry import Window
        from wholescene.raster import SceneReader
        reader = SceneReader({str(path)!r})
        window = Window.whole(reader.size)
        before = reader.read(window).values
        mine = reader._handles.get({str(path)!r})
        child = os.fork()
        if child == 0:
            other = reader._handles.get({str(path)!r})
            same = (reader.read(window).values == before).all()
            os._exit(0 if same and other is not mine and not mine.closed else 1)
        for _ in range(20):
            assert (reader.read(window).values == before).all()
        assert os.waitpid(child, 0)[1] == 0
        assert not mine.closed
    """
    done = run_python(code)
    assert (done.returncode, done.stderr) == (0, "")


CACHE_PROBE = """
    import re
    from pathlib import Path
    from wholescene.geometry import Window
    from wholescene.raster import SceneReader
    from rasterio.env import get_gdal_config
    with SceneReader({path!r}) as reader:
        for row in range(0, reader.size.height, 64):
            reader.read(Window(row_off=row, col_off=0, height=64, width=reader.size.width))
    # Not ru_maxrss: a child starts with that of its parent.
    peak_kb = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]
    print(get_gdal_config("GDAL_CACHEMAX"), int(peak_kb) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_cache_is_capped_when_the_first_raster_is_opened(make_raster: MakeRaster) -> None:
    # 192 MB of zeros, a small file: what stays in memory is GDAL's cache.
    path = make_raster(
        np.zeros((8_000, 12_000), np.uint16),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress="deflate",
    )
    code = CACHE_PROBE.format(path=str(path))
    limit, peak_mb = map(int, run_python(code).stdout.split())
    own_limit, own_peak_mb = map(int, run_python(code, GDAL_CACHEMAX="300").stdout.split())
    assert limit == 64 << 20
    assert own_limit == 300 << 20
    assert own_peak_mb - peak_mb > 90


def test_the_cap_counts_megabytes_and_yields_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_gdal_config("GDAL_CACHEMAX")
    try:
        cap_gdal_cache(17)
        assert get_gdal_config("GDAL_CACHEMAX") == 17 << 20
        monkeypatch.setenv("GDAL_CACHEMAX", "99")
        cap_gdal_cache(5)
        assert get_gdal_config("GDAL_CACHEMAX") == 17 << 20
    finally:
        set_gdal_config("GDAL_CACHEMAX", before)


def test_gdal_prints_nothing(make_raster: MakeRaster, tmp_path: Path) -> None:
    path, _ = noisy_scene(make_raster)
    whole = path.read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.tif").write_text("no raster")
    make_raster(ramp(20, 20), "bare.tif", crs=None, transform=None)
    code = f"""
        import threading
        from wholescene.errors import RasterError
        from wholescene.geometry import Window
        from wholescene.raster import SceneReader
        def read(name):
            try:
                reader = SceneReader({str(tmp_path)!r} + "/" + name)
                reader.read(Window.whole(reader.size))
            except RasterError as error:
                assert "\\n" not in str(error)
            else:
                assert name == "bare.tif"
        for name in ("cut.tif", "text.tif", "none.tif", "bare.tif"):
            read(name)
            thread = threading.Thread(target=read, args=(name,))
            thread.start()
            thread.join()
    """
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
