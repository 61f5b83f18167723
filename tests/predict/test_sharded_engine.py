"""A scene over several processes becomes the map of one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessExitedException
from toy_models import ToyModel, make_spec, pooled_model, read

from wholescene.errors import RankError
from wholescene.launch import run_ranks
from wholescene.prediction import plan_prediction, predict
from wholescene.prediction import sharded as sharded_room

MakeScene = Callable[..., Path]


class Dying(nn.Module):
    """Ends the second process in the middle of its work, as a kill does."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        if os.environ.get("RANK") == "1":
            os._exit(9)
        return self.conv(image)


def without_a_part(work: Any, say: Any) -> bool:
    """Lose the rows of the second process before they are put together."""
    together = sharded_room._together

    def lose(task: Any, reader: Any, wire: Any) -> None:
        if wire.rank == 1:
            shutil.rmtree(task.part(1))
        wire.agree(None)
        together(task, reader, wire)

    sharded_room._together = lose
    return work(say)


def test_the_map_is_that_of_one_process(make_scene: MakeScene, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 97, 80), np.uint8)
    pixels[:, 40:60, 10:30] = 0
    scene, model = make_scene(pixels=pixels, nodata=0), pooled_model()
    predict(scene, model, tmp_path / "whole.tif", engine="whole", probabilities=True)
    told: list[tuple[int, int]] = []
    found = predict(
        scene,
        model,
        tmp_path / "map.tif",
        engine="sharded",
        ranks=3,
        probabilities=True,
        progress=lambda done, total: told.append((done, total)),
    )
    assert (found.engine, found.blocks, found.pixels) == ("sharded", 3, 97 * 80)
    assert (read(tmp_path / "map.tif") == read(tmp_path / "whole.tif")).all()
    shares = [read(tmp_path / f"{name}_probabilities.tif") for name in ("map", "whole")]
    assert np.abs(shares[0].astype(int) - shares[1]).max() <= 1
    assert not (tmp_path / "map.tif.part").exists()
    assert told
    assert all(0 <= done <= total == 97 * 80 for done, total in told)


def test_the_plan_says_what_each_process_does(make_scene: MakeScene) -> None:
    found = plan_prediction(make_scene(), pooled_model(), engine="sharded", ranks=3)
    assert "sharded: exact, 3 processes of up to 32 rows each" in found.describe()
    whole = plan_prediction(make_scene(), pooled_model(), engine="whole")
    assert found.activation_bytes is not None
    assert whole.activation_bytes is not None
    assert found.activation_bytes == whole.activation_bytes // 3


@pytest.mark.slow  # every process imports torch again
def test_a_killed_process_ends_all_and_leaves_no_map(make_scene: MakeScene, tmp_path: Path) -> None:
    dying, out = ToyModel(Dying(), make_spec()), tmp_path / "map.tif"
    with pytest.raises((RankError, ProcessExitedException)):
        predict(make_scene(), dying, out, engine="sharded", ranks=2)
    assert not out.exists()


@pytest.mark.slow
def test_rows_that_are_gone_are_named_and_computed_again(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, model, out = make_scene(), pooled_model(), tmp_path / "map.tif"

    def run(work: Any, **options: Any) -> bool:
        return run_ranks(partial(without_a_part, work), **options)

    with monkeypatch.context() as patched:
        patched.setattr(sharded_room, "run_ranks", run)
        with pytest.raises(RankError, match=r"rows-1.*gone or incomplete.*--resume"):
            predict(scene, model, out, engine="sharded", ranks=2)
    assert not out.exists()
    predict(scene, model, out, engine="sharded", ranks=2, resume=True)
    predict(scene, model, tmp_path / "whole.tif", engine="whole")
    assert (read(out) == read(tmp_path / "whole.tif")).all()
