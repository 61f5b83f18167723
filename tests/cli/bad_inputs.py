"""Bad inputs and what each command says: the source of ``docs/errors.md``.

``python tests/cli/bad_inputs.py > docs/errors.md`` writes the page anew.
"""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from small_world import World, edit_json, make_world, model_spec, write_raster

from wholescene.cli import app
from wholescene.models import build_segmenter, save_model

Command = list[str]


@dataclass(frozen=True)
class Case:
    """A mistake, how it is made, and the command that meets it."""

    what: str
    make: Callable[[World], Command]


def predict(world: World, scene: Path | None = None, *more: str, out: str = "map.tif") -> Command:
    target = out if out.startswith("/") else str(world.root / out)
    path = str(scene or world.scene)
    return ["predict", path, "--model", str(world.model), "--out", target, *more]


def _windowed(world: World, *more: str) -> Command:
    return predict(world, None, "--engine", "windowed", *more)


def _streamed(world: World, *more: str) -> Command:
    return predict(world, None, "--engine", "streamed", *more)


def train(world: World, *overrides: str, out: str = "run") -> Command:
    sets = [part for item in overrides for part in ("--set", item)]
    return ["train", str(world.config), "--out", str(world.root / out), *sets]


def _corrupt(world: World) -> Command:
    path = world.root / "corrupt.tif"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return predict(world, path)


def _truncated(world: World) -> Command:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 600, 600)).astype(np.uint8)
    path = write_raster(world.root / "truncated.tif", pixels)
    path.write_bytes(path.read_bytes()[:300_000])
    return predict(world, path)


def _empty_file(world: World) -> Command:
    (world.root / "empty.tif").touch()
    return ["info", str(world.root / "empty.tif")]


def _one_band(world: World) -> Command:
    return predict(world, write_raster(world.root / "one.tif", np.ones((1, 9, 9), np.uint8)))


def _unknown_label(world: World) -> Command:
    label = np.full((1, 48, 48), 7, np.uint8)
    write_raster(world.label, label)
    return train(world)


def _other_size(world: World) -> Command:
    write_raster(world.label, np.zeros((1, 40, 48), np.uint8))
    return ["data", "verify", str(world.dataset)]


def _score_other_size(world: World) -> Command:
    small = write_raster(world.root / "small.tif", np.zeros((1, 40, 48), np.uint8))
    return ["score", str(world.label), str(small), "--classes", str(world.dataset)]


def _score_unnamed(world: World) -> Command:
    return ["score", str(world.label), str(world.label)]


def _leak(world: World) -> Command:
    table = world.dataset.parent / "scenes.csv"
    table.write_text(table.read_text().replace("val.tif", "train.tif"))
    return ["data", "verify", str(world.dataset)]


def _missing_file(world: World) -> Command:
    world.scene.unlink()
    return ["data", "verify", str(world.dataset)]


def _no_scenes(world: World) -> Command:
    table = world.dataset.parent / "scenes.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    return train(world)


def _unlabelled(world: World) -> Command:
    table = world.dataset.parent / "scenes.csv"
    table.write_text(table.read_text().replace("train_label.tif", ""))
    return train(world)


def _dataset_key(world: World) -> Command:
    world.dataset.write_text(world.dataset.read_text().replace("ignore_id:", "ignore_ids:"))
    return ["data", "verify", str(world.dataset)]


def _broken_yaml(world: World) -> Command:
    world.config.write_text("name: two\ndata: {dataset: [\n")
    return train(world)


def _config_key(world: World) -> Command:
    world.config.write_text(world.config.read_text().replace("patch_px", "patch_size"))
    return train(world)


def _run_exists(world: World) -> Command:
    (world.root / "run").mkdir()
    (world.root / "run" / "notes.txt").write_text("mine")
    return train(world)


def _tensors(world: World) -> Path:
    return world.model / "model.safetensors"


def _missing_tensor(world: World) -> Command:
    tensors = load_file(_tensors(world))
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, _tensors(world))
    return predict(world)


def _truncated_weights(world: World) -> Command:
    _tensors(world).write_bytes(_tensors(world).read_bytes()[:1000])
    return predict(world)


def _model_key(world: World) -> Command:
    edit_json(world.model / "model.json", patch=512)
    return predict(world)


def _other_classes(world: World) -> Command:
    spec = model_spec()
    other = spec.classes[1].model_copy(update={"name": "forest"})
    save_model(
        build_segmenter(spec.model_copy(update={"classes": (spec.classes[0], other)})),
        world.root / "other",
    )
    return [
        *("evaluate", "--dataset", str(world.dataset), "--model", str(world.root / "other")),
        *("--out", str(world.root / "evaluation")),
    ]


def evaluate(world: World, *more: str) -> Command:
    given = ("--dataset", str(world.dataset), "--model", str(world.model))
    return ["evaluate", *given, "--out", str(world.root / "evaluation"), *more]


def _nan_weights(world: World) -> Command:
    tensors = load_file(_tensors(world))
    broken = {k: v * torch.nan if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(broken, _tensors(world))
    return predict(world)


def _same_names(world: World) -> Command:
    other = world.root / "elsewhere" / "train.tif"
    write_raster(other, np.ones((3, 9, 9), np.uint8))
    scenes = ["predict", str(world.scene), str(other)]
    return [*scenes, "--model", str(world.model), "--out", str(world.root / "maps")]


def _resume_other(world: World) -> Command:
    from wholescene.prediction import run

    original = run.Outputs.publish
    run.Outputs.publish = _interrupt
    try:
        call(_streamed(world, "--block", "32"))
    finally:
        run.Outputs.publish = original
    return _streamed(world, "--block", "24", "--resume")


def _interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def _full_disk(world: World) -> Command:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 600, 600)).astype(np.uint8)
    return ["limited", *predict(world, write_raster(world.root / "large.tif", pixels))]


CASES = [
    Case("scene that does not exist", lambda w: predict(w, w.root / "none.tif")),
    Case("folder instead of a scene", lambda w: predict(w, w.root)),
    Case("corrupt scene", _corrupt),
    Case("truncated scene", _truncated),
    Case("empty file", _empty_file),
    Case("too few bands", _one_band),
    Case("band that is not there", lambda w: predict(w, None, "--bands", "blue,green,nir")),
    Case("wrong number of --bands", lambda w: predict(w, None, "--bands", "1,2")),
    Case("overlap not below block", lambda w: _windowed(w, "--block", "64", "--overlap", "64")),
    Case("unknown engine", lambda w: predict(w, None, "--engine", "magic")),
    Case("one process where several work", lambda w: predict(w, None, "--engine", "sharded")),
    Case(
        "more processes than rows",
        lambda w: predict(w, None, "--engine", "sharded", "--ranks", "100000"),
    ),
    Case("setting of another engine", lambda w: predict(w, None, "--overlap", "64")),
    Case("views that streaming has not", lambda w: _streamed(w, "--tta", "flips")),
    Case("memory that is no size", lambda w: predict(w, None, "--memory", "plenty")),
    Case("memory that is not enough", lambda w: _streamed(w, "--memory", "512KiB")),
    Case("unknown device", lambda w: predict(w, None, "--device", "gpu")),
    Case("device that is not there", lambda w: predict(w, None, "--device", "cuda:99")),
    Case("unknown precision", lambda w: predict(w, None, "--precision", "half")),
    Case("unknown view", lambda w: predict(w, None, "--tta", "flips,spins")),
    Case("output that is no GeoTIFF", lambda w: predict(w, out="map.png")),
    Case("output folder that cannot be written", lambda w: predict(w, out="/proc/maps/map.tif")),
    Case("disk full (file-size limit)", _full_disk),
    Case("two scenes of one name", _same_names),
    Case("resume under other settings", _resume_other),
    Case("network that gives NaN", _nan_weights),
    Case(
        "model that does not exist",
        lambda w: [*predict(w)[:2], "--model", "none", "--out", "m.tif"],
    ),
    Case("model without a tensor", _missing_tensor),
    Case("truncated weights", _truncated_weights),
    Case("unknown key in model.json", _model_key),
    Case("model of other classes", _other_classes),
    Case("label id outside the class table", _unknown_label),
    Case("label of another size", _other_size),
    Case("missing file in a dataset", _missing_file),
    Case("one scene in two splits", _leak),
    Case("no scenes", _no_scenes),
    Case("unlabelled training split", _unlabelled),
    Case("unknown split", lambda w: train(w, "data.train_split=training")),
    Case("unknown key in dataset.yaml", _dataset_key),
    Case("broken YAML", _broken_yaml),
    Case("unknown key in a config", _config_key),
    Case("unknown key in --set", lambda w: train(w, "optim.learning_rate=1e-3")),
    Case("value of the wrong kind", lambda w: train(w, "train.steps=many")),
    Case("unknown encoder", lambda w: train(w, "model.encoder=resnet19")),
    Case("unknown decoder", lambda w: train(w, "model.decoder=unet5")),
    Case("run directory in use", _run_exists),
    Case("evaluate: sizes that fall", lambda w: evaluate(w, "--object-sizes", "96,32")),
    Case("evaluate: sizes that are none", lambda w: evaluate(w, "--object-sizes", "small")),
    Case("score: map of another size", _score_other_size),
    Case("score: map without class names", _score_unnamed),
    Case(
        "vectorize: unknown format",
        lambda w: ["vectorize", str(w.label), "--out", str(w.root / "map.shp")],
    ),
    Case("report of an empty folder", lambda w: ["report", str(w.root)]),
]


def call(command: Command) -> tuple[int, str]:
    """Run a command in this process; give exit code and what it said."""
    out, err = io.StringIO(), io.StringIO()
    limit = contextlib.nullcontext()
    if command[0] == "limited":
        command, limit = command[1:], _file_size_limit(100_000)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), limit:
        try:
            app(command)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
    said = err.getvalue() if code == 0 or "error:" in err.getvalue() else out.getvalue()
    return code, said


@contextlib.contextmanager
def _file_size_limit(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def message(case: Case, root: Path) -> tuple[int, str]:
    """What a case says, with the folder taken out."""
    code, said = call(case.make(make_world(root)))
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    text = " ".join(lines).removeprefix("error: ").replace(str(root.resolve()), "DIR")
    return code, text.replace(str(root), "DIR").replace("|", "\\|")


HEADER = """# Bad input and what is said

Every row is a test (`tests/cli/test_bad_inputs.py`); the message is what the command prints on
stderr, `DIR` standing for the folder. Exit code 2, no traceback (`--debug` shows one), nothing
under the final name. Made by `python tests/cli/bad_inputs.py > docs/errors.md`.

A scene without any valid pixel, or with NaN, is no error: such pixels are nodata in the map.

| input | message |
|---|---|
"""


def row(case: Case, text: str) -> str:
    """A line of the page."""
    return f"| {case.what} | {text} |"


def main() -> None:
    """Print the page."""
    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            code, text = message(case, Path(folder))
            if code != 2:
                print(f"{case.what}: exit code {code}", file=sys.stderr)
            rows.append(row(case, text))
    print(HEADER + "\n".join(rows))


if __name__ == "__main__":
    main()
