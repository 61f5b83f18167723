from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wholescene.errors import InputError
from wholescene.evaluate.report.charts import Series, line_chart, ticks
from wholescene.evaluate.report.crops import Views, error_picture, worst_window
from wholescene.evaluate.report.markup import bar, esc, percent
from wholescene.evaluate.report.png import encode_png
from wholescene.evaluate.report.sources import read_metrics
from wholescene.evaluate.report.views import display_bands
from wholescene.raster.source import BandSpec


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("kind", ["noise", "ramp", "flat"])
def test_png_reads_back_in_another_decoder(channels: int, kind: str) -> None:
    pixels = {
        "noise": np.random.default_rng(0).integers(0, 256, (17, 23, channels)),
        "ramp": np.add.outer(np.arange(17) * 9, np.arange(23) * 5)[..., None] * [1] * channels,
        "flat": np.full((17, 23, channels), 200),
    }[kind].astype(np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(pixels))))
    np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-6, 1e6, allow_nan=False),
)
def test_ticks_cover_the_range_evenly(low: float, span: float) -> None:
    high = low + span
    found = ticks(low, high)
    tolerance = 1e-6 * span + 1e-12 * abs(low)
    assert found[0] <= low + tolerance
    assert found[-1] >= high - tolerance
    assert 2 <= len(found) <= 7
    steps = np.diff(found)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6, atol=1e-9 * max(abs(low), abs(high)))


def test_ticks_by_hand() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0, 2.4) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert ticks(-30, 70) == [-40, -20, 0, 20, 40, 60, 80]
    assert ticks(0, 0) == [-1, 0, 1]


def test_curve_runs_from_corner_to_corner_of_its_frame() -> None:
    chart = line_chart([Series("loss", ((0, 0), (10, 1)))], title="Loss")
    assert 'd="M58.0,216.0L546.0,14.0"' in chart


def test_curves_of_one_run_share_their_steps() -> None:
    late = Series("val", ((50, 1), (100, 1)))
    assert 'd="M302.0,14.0L546.0,14.0"' in line_chart([late], title="Val", x_range=(0, 100))


def test_long_noisy_curve_is_drawn_with_its_running_mean() -> None:
    noise = tuple((float(i), 1.0 + (-1) ** i) for i in range(1000))
    chart = line_chart([Series("loss", noise)], title="Loss", smooth=True)
    faint, smooth = (line.split('"')[0] for line in chart.split(' d="M')[1:])
    heights = [float(pair.split(",")[1]) for pair in smooth.split("L")]
    assert max(heights) - min(heights) < 15
    assert len(faint.split("L")) <= 402


def test_more_curves_than_colours_are_told_apart_by_dashes() -> None:
    series = [Series(str(i), ((0, i), (1, i))) for i in range(9)]
    assert line_chart(series, title="IoU").count('class="curve c0 dashed"') == 1


def test_worst_window_holds_most_wrong_pixels() -> None:
    wrong = np.zeros((20, 30), bool)
    wrong[3, 4] = wrong[15:18, 20:23] = True
    row, col, count = worst_window(wrong, 5)
    assert count == 9
    assert row <= 15 <= row + 2
    assert col <= 20 <= col + 2
    assert worst_window(wrong, 100) == (0, 0, 10)


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_worst_window_equals_brute_force(seed: int, side: int) -> None:
    wrong = np.random.default_rng(seed).random((7, 9)) < 0.3
    sums = {
        (row, col): int(wrong[row : row + side, col : col + side].sum())
        for row in range(7 - side + 1)
        for col in range(9 - side + 1)
    }
    best = max(sums.values())
    first = next(place for place, total in sums.items() if total == best)
    assert worst_window(wrong, side) == (*first, best)


def test_errors_are_painted_without_an_image_too() -> None:
    views = Views(
        guess=np.array([[0, 1, -1, 1]], np.int16),
        labels=np.array([[0, 0, 0, -1]], np.int16),
        image=None,
    )
    picture = error_picture(views)[0].tolist()
    assert picture == [[228] * 3, [214, 39, 40], [240, 170, 30], [228] * 3]


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        ([("blue", None), ("green", None), ("Red", None), ("nir", None)], [2, 1, 0]),
        ([("B2", 492), ("B3", 560), ("B4", 665), ("B8", 842)], [2, 1, 0]),
        ([("a", None), ("b", None), ("c", None), ("d", None)], [0, 1, 2]),
        ([("vv", None), ("vh", None)], [0]),
        ([("nir", 842), ("swir", 1610), ("swir2", 2190)], [0, 1, 2]),
    ],
)
def test_bands_are_shown_by_name_then_wavelength_then_position(
    bands: list[tuple[str, float | None]], expected: list[int]
) -> None:
    specs = [BandSpec(name=name, wavelength_nm=nm) for name, nm in bands]
    assert display_bands(specs) == expected


def test_empty_and_non_finite_metrics_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss,val_miou\n0,2,\n10,nan,0.5\n20,1,0.25\n30,0.")
    found = read_metrics(path)
    assert found["loss"].points == ((0, 2), (20, 1))
    assert found["val_miou"].points == ((10, 0.5), (20, 0.25))
    path.write_text("step,loss\n0,high\n")
    with pytest.raises(InputError, match="holds 'high' where a number belongs"):
        read_metrics(path)


def test_undefined_shares_are_dashes_and_text_is_escaped() -> None:
    assert percent(None) == percent(float("nan")) == "&ndash;"
    assert percent(0.12345) == "12.3"
    assert "width:100.0%" in bar(1.0)
    assert "&ndash;" in bar(None)
    assert esc("<a href='x'>&") == "&lt;a href=&#x27;x&#x27;&gt;&amp;"
