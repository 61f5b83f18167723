"""Where rows and columns go when tensors are reshaped."""

from __future__ import annotations

from wholescene.spatial.layout import Atom, Axis, Layout, adopt, reshaped

ROWS, COLS = Axis.ROW, Axis.COL


def test_an_image_has_rows_and_columns_last() -> None:
    layout = Layout.image((2, 3, 20, 30))
    assert layout.shape == (2, 3, 20, 30)
    assert (layout.grid(ROWS), layout.grid(COLS)) == (20, 30)
    assert (layout.dim_of(ROWS), layout.dim_of(COLS)) == (2, 3)
    assert layout.is_alone(ROWS)
    assert layout.local_shape(4, 5) == (2, 3, 4, 5)


def test_tokens_hold_both_axes_in_one_dimension() -> None:
    layout = reshaped(Layout.image((2, 3, 20, 30)), (2, 3, 600))
    assert layout is not None
    assert layout.dims[2] == (Atom(20, ROWS), Atom(30, COLS))
    assert not layout.is_alone(ROWS)
    assert layout.local_shape(4, 5) == (2, 3, 20)
    assert reshaped(layout, (2, 3, 20, 30)) == Layout.image((2, 3, 20, 30))


def test_windows_make_a_coarser_grid_and_joining_restores_it() -> None:
    image = Layout.image((2, 3, 20, 30)).permuted((0, 2, 3, 1))
    split = reshaped(image, (2, 4, 5, 6, 5, 3))
    assert split is not None
    assert (split.grid(ROWS), split.grid(COLS)) == (4, 6)
    windows = reshaped(split.permuted((0, 1, 3, 2, 4, 5)), (48, 25, 3))
    assert windows is not None
    assert windows.dims[0] == (Atom(2), Atom(4, ROWS), Atom(6, COLS))
    assert windows.local_shape(1, 2) == (4, 25, 3)
    back = reshaped(windows, (2, 4, 6, 5, 5, 3))
    assert back is not None
    assert reshaped(back.permuted((0, 1, 3, 2, 4, 5)), (2, 20, 30, 3)) == image


def test_an_axis_of_one_pixel_stays_where_dimensions_of_one_entry_come_and_go() -> None:
    image = Layout.image((2, 4, 1, 37))
    volume = reshaped(image, (2, 1, 4, 1, 37))
    assert volume is not None
    assert (volume.dim_of(ROWS), volume.dim_of(COLS)) == (3, 4)
    assert reshaped(volume, (2, 4, 1, 37)) == image
    point = reshaped(Layout.image((1, 4, 1, 1)), (4,))
    assert point == Layout.plain((4,))


def test_rows_may_be_halved_but_not_torn() -> None:
    image = Layout.image((2, 3, 20, 7))
    halved = reshaped(image, (2, 3, 10, 14))
    assert halved is not None
    assert halved.dims[2:] == ((Atom(10, ROWS),), (Atom(2), Atom(7, COLS)))
    assert reshaped(image, (2, 3, 7, 20)) is None
    assert reshaped(image, (2, 3, 28, 5)) is None


def test_a_constant_adopts_the_layout_it_meets() -> None:
    like = Layout.image((2, 3, 20, 30))
    assert adopt((20, 30), like).grid(ROWS) == 20
    assert adopt((3, 1, 1), like).grid(ROWS) is None
    assert adopt((1, 3, 20, 1), like).grid(COLS) is None
