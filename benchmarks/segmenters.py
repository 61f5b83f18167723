r"""Segmenters on ResNet-18 compared on Kampala buildings, and two of them with plain smp code.

Eight decoders of this package, each trained for ``--seconds`` (as many steps as its pace, measured
once, allows), and, by a plain loop, the U-Net and DeepLabV3+ of segmentation-models-pytorch: same
encoder and initial encoder weights, batches, loss, optimiser, schedule and steps as ours, paired by
seed. The learning rate of each is the best of ``--rates`` on the validation strip, after a third of
the steps with seed 0. Scores are those of the two test scenes, mapped whole.

    python benchmarks/kampala.py --out data/kampala && wholescene data stats data/kampala
    python benchmarks/segmenters.py --data data/kampala

Finished cells are kept in ``--work`` and are not run again; remove the folder to start afresh.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from results import write_result
from torch import Tensor, nn

from wholescene.cli.console import guard
from wholescene.config import RunConfig, load_config
from wholescene.datasets import Dataset, load_dataset
from wholescene.evaluate import miou, score_map, total_table
from wholescene.losses import CombinedLoss
from wholescene.models import ModelSpec, load_model
from wholescene.prediction import predict
from wholescene.train import fit
from wholescene.train.optim import parameter_groups
from wholescene.train.schedule import lr_factor
from wholescene.train.setup import EndlessBatches, prepare_run
from wholescene.train.start import initial_model

CONFIG = Path(__file__).parent.parent / "configs" / "kampala-segmenters.yaml"
SMALL: dict[str, dict[str, Any]] = {
    "fcn": {},
    "pspnet": {"channels": 128},
    "danet": {"channels": 128},
    "deeplabv3": {"channels": 128},
    "deeplabv3plus": {},
    "ocrnet": {"channels": 128},
    "upernet": {"channels": 128},
    "unet": {},
}
ENCODER: dict[str, dict[str, Any]] = {"deeplabv3plus": {"output_stride": 16}}
"""Options of the encoder; smp's DeepLabV3+ has the same."""

RIVALS = {"smp unet": "unet", "smp deeplabv3plus": "deeplabv3plus"}
TEST = "test+test2"


class Rival(nn.Module):
    """A network of smp that predicts as ours do."""

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec

    def forward(self, image: Tensor) -> Tensor:
        rows, cols = (-side % 32 for side in image.shape[-2:])
        padded = nn.functional.pad(image, (0, cols, 0, rows))
        logits: Tensor = self.net(padded)[..., : image.shape[-2], : image.shape[-1]]
        return logits


class Bench:
    """Trains and scores what is missing."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work = args, args.work
        self.dataset = load_dataset(args.data)
        self.work.mkdir(parents=True, exist_ok=True)

    def config(self, name: str, seed: int, rate: float, steps: int) -> RunConfig:
        decoder = RIVALS.get(name, name)
        options = json.dumps(SMALL[decoder]) if name not in RIVALS else "{}"
        return load_config(
            CONFIG,
            [
                f"name={name.replace(' ', '-')}",
                f"data.dataset={self.dataset.path.resolve()}",
                f"model.decoder={decoder}",
                f"model.decoder_options={options}",
                f"model.encoder_options={json.dumps(ENCODER.get(decoder, {}))}",
                f"optim.lr={rate}",
                f"train.seed={seed}",
                f"train.steps={steps}",
                f"train.validate_every={steps}",
                f"train.checkpoint_every={steps}",
            ],
        )

    def cell(self, name: str, seed: int, rate: float, steps: int, split: str) -> dict[str, Any]:
        """mIoU of one training on a split, now or from before."""
        folder = self.work / f"{name.replace(' ', '-')}-{seed}-{rate:g}-{steps}-{split}"
        done = folder / "cell.json"
        if done.is_file():
            return dict(json.loads(done.read_text()))
        config = self.config(name, seed, rate, steps)
        begin = time.perf_counter()
        if name in RIVALS:
            network: Any = train_plainly(name, config, self.dataset)
        else:
            run = fit(config, self.dataset, folder / "run", resume=(folder / "run").exists())
            network = load_model(run.model)
        seconds = time.perf_counter() - begin
        scores = score(network, self.dataset, split, folder)
        found = {"name": name, "seed": seed, "rate": rate, "seconds": round(seconds, 1), **scores}
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(found))
        print(json.dumps(found), flush=True)
        return found

    def steps(self, name: str) -> int:
        """Training steps of a model, as its pace allows."""
        decoder = RIVALS.get(name, name)
        kept = self.work / "pace.json"
        paces: dict[str, float] = {}
        if kept.is_file():
            paces = json.loads(kept.read_text())
        if decoder not in paces:
            paces[decoder] = seconds_per_step(self.config(decoder, 0, 1e-3, 100), self.dataset)
            kept.write_text(json.dumps(paces))
        return max(24, round(float(self.args.seconds) / paces[decoder]))

    def best_rate(self, name: str) -> float:
        """Learning rate with the highest validation mIoU."""
        steps = max(24, self.steps(name) // 3)
        rates: list[float] = self.args.rates
        found = {r: self.cell(name, 0, r, steps, "val")["miou"] for r in rates}
        return max(rates, key=lambda rate: found[rate])

    def run(self) -> dict[str, Any]:
        names = [*SMALL, *RIVALS]
        rates = {name: self.best_rate(name) for name in names}
        cells = {
            name: [
                self.cell(name, seed, rates[name], self.steps(name), TEST)
                for seed in self.args.seeds
            ]
            for name in names
        }
        pairs = {
            rival: [
                round(100 * (a["miou"] - b["miou"]), 2)
                for a, b in zip(cells[ours], cells[rival], strict=True)
            ]
            for rival, ours in RIVALS.items()
        }
        return {
            "seconds_a_run": self.args.seconds,
            "steps": {name: self.steps(name) for name in names},
            "seeds": self.args.seeds,
            "rates": rates,
            "models": {name: summary(found) for name, found in cells.items()},
            "ours_minus_smp_points": pairs,
            "majority": majority(self.dataset),
        }


def seconds_per_step(config: RunConfig, dataset: Dataset) -> float:
    """Median time of a forward and backward pass over one batch."""
    parts = prepare_run(config, dataset)
    model, _ = initial_model(parts.spec, config.model, config.train)
    side = config.data.patch_px
    image = torch.randn(config.data.batch_size, parts.spec.num_bands, side, side)
    times = []
    for _ in range(6):
        begin = time.perf_counter()
        model(image).square().mean().backward()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


def train_plainly(name: str, config: RunConfig, dataset: Dataset) -> Rival:
    """A plain loop over the same batches."""
    import segmentation_models_pytorch as smp

    parts = prepare_run(config, dataset)
    ours, _ = initial_model(parts.spec, config.model, config.train)
    build = smp.Unet if name == "smp unet" else smp.DeepLabV3Plus
    net = build(
        "tu-resnet18",
        encoder_weights=None,
        in_channels=parts.spec.num_bands,
        classes=len(parts.spec.classes),
    )
    state = ours.encoder.net.state_dict()
    net.encoder.model.load_state_dict(state)
    loss: CombinedLoss = parts.loss
    groups = [dict(group) for group in parameter_groups(net, config.optim)]
    optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, config.optim, steps=config.train.steps)
    )
    parts.data.setup("fit")
    net.train()
    for _, batch in zip(range(config.train.steps), EndlessBatches(parts.data), strict=False):
        optimizer.zero_grad()
        loss(net(batch["image"]), batch["label"]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), config.optim.clip_norm or 1e9)
        optimizer.step()
        schedule.step()
    return Rival(net.eval(), parts.spec)


def score(network: Any, dataset: Dataset, split: str, folder: Path) -> dict[str, Any]:
    """mIoU of whole maps of a split."""
    scored = []
    for scene in dataset.split(split):
        out = folder / f"{scene.id}.tif"
        predict(scene.files, network, out, resume=True)
        scored.append(score_map(scene.labels[dataset.mask_target()], out, dataset.classes))
    table = total_table(scored)
    return {"miou": miou(table), "accuracy": float(table.hits.sum() / table.support.sum())}


def majority(dataset: Dataset) -> dict[str, float]:
    """Scores of a map that holds one class everywhere."""
    from wholescene.raster.statistics import class_counts

    readers = [dataset.label_reader(scene) for scene in dataset.split(TEST)]
    counts = class_counts(readers)[:-1]
    share = float(counts.max() / counts.sum())
    return {"miou": share / len(counts), "accuracy": share}


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    scores = [100 * cell["miou"] for cell in cells]
    return {
        "miou_percent": [round(s, 2) for s in scores],
        "mean": round(statistics.fmean(scores), 2),
        "spread": round(statistics.stdev(scores), 2) if len(scores) > 1 else None,
        "accuracy": [round(cell["accuracy"], 4) for cell in cells],
        "train_seconds": [cell["seconds"] for cell in cells],
    }


@guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset.yaml or its folder")
    parser.add_argument("--seconds", type=float, default=120.0, help="training time of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3])
    parser.add_argument("--work", type=Path, default=Path("runs/segmenters"))
    parser.add_argument("--dry", action="store_true", help="print, but keep no result file")
    args = parser.parse_args()
    start = time.monotonic()
    data = Bench(args).run()
    print(json.dumps(data, indent=2))
    if not args.dry:
        print(write_result("segmenters", data, seconds=time.monotonic() - start))


if __name__ == "__main__":
    main()
