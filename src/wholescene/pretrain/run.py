"""Pre-train a network into a run directory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from wholescene.datasets import Dataset, load_dataset
from wholescene.models import build_segmenter, save_model
from wholescene.pretrain.contract import PretrainSettings
from wholescene.pretrain.methods import Method
from wholescene.pretrain.module import PretrainModule
from wholescene.pretrain.setup import PretrainParts, prepare_pretraining, wrap_network
from wholescene.pretrain.watch import COLUMNS, WatchValidator, describe_start
from wholescene.train.checkpoint import LAST, read_checkpoint
from wholescene.train.keeper import RunKeeper
from wholescene.train.metrics import read_metrics
from wholescene.train.progress import Notice, TrainProgress
from wholescene.train.record import plain_facts, provenance_of
from wholescene.train.runtime import find_ranks
from wholescene.train.session import Outcome, run_module
from wholescene.train.start import initial_model
from wholescene.train.whole_run import MODEL_FOLDER, carry_out

__all__ = ["PretrainResult", "pretrain"]

SPREAD_WINDOWS = 64
NETWORK = "method.network."


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """A finished pre-training.

    Args:
        out: Run directory.
        model: Directory of the exported network; give it, or ``out``, to ``train.init_from``.
        trained: ``encoder`` or ``all``: what ``train.init_part`` may take.
        steps: Steps of the run.
        resumed_from: Step this call continued from; 0 for a new run.
        embedding_spread: At the end; below 0.2 the embeddings have collapsed.
        knn_accuracy: At the end; ``None`` without a probe.
        seconds: Seconds of training over all resumes.
    """

    out: Path
    model: Path
    trained: str
    steps: int
    resumed_from: int
    embedding_spread: float
    knn_accuracy: float | None
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Plain values, for ``--json``."""
        return plain_facts(self)


def pretrain(
    config: PretrainSettings,
    dataset: Dataset | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: TrainProgress | None = None,
) -> PretrainResult:
    """Learn a network from scenes without their labels.

    Writes ``config.yaml``, ``environment.json``, ``metrics.csv``, ``checkpoints/``, TensorBoard
    events and, at the end, ``model/``, which ``train.init_from`` takes. A run that was killed
    continues with ``resume=True`` and ends, on a CPU, with the same weights. SIGINT and SIGTERM
    finish the step, save a checkpoint and raise ``KeyboardInterrupt``.

    Args:
        config: A ``wholescene.config.PretrainConfig``.
        dataset: The dataset, its ``dataset.yaml`` or its folder.
        out: Run directory; made if missing, and empty unless ``resume``.
        resume: Continue the run in ``out``.
        progress: Receives messages; called in this process, on rank 0 only.

    Raises:
        ConfigError: If settings contradict each other or this machine, or the loss diverges.
        DatasetError: If the dataset lacks what is needed.
        OutputError: If ``out`` holds something else, or cannot be written.
        ResumeError: If ``out`` was made under other settings, or its checkpoint is damaged.
        KeyboardInterrupt: If the run was stopped; it can be resumed.
    """
    out = Path(out)
    found = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    parts = prepare_pretraining(config, found)
    start, outcome = carry_out(
        config,
        out,
        resume=resume,
        num_ranks=config.train.devices,
        build=partial(_first_method, config, parts),
        work=partial(_train_rank, config, parts),
        progress=progress,
    )
    trained = _export(config, found, parts, out, write=find_ranks().rank == 0)
    return _result(config, out, start, outcome, trained)


def _train_rank(
    config: PretrainSettings,
    parts: PretrainParts,
    out: Path,
    start: int,
    progress: TrainProgress | None,
    *,
    built: Method | None = None,
) -> Outcome:
    """Pre-train in this process, alone or as one of several."""
    progress = progress if find_ranks().rank == 0 else None
    method = built
    if method is None:
        method = _later_method(config, parts) if start else _first_method(config, parts)[0]
    windows = parts.data.probe_windows(SPREAD_WINDOWS)
    neighbours = 1 if config.probe is None else config.probe.neighbours
    validator = WatchValidator(windows, parts.probe, neighbours=neighbours, progress=progress)
    if start == 0 and progress is not None:
        progress(Notice(text=describe_start(validator, method, parts.probe)))
    module = PretrainModule(
        method,
        parts.views,
        optim=config.optim,
        steps=config.train.steps,
        seed=config.train.seed,
    )
    keeper = RunKeeper(
        config.train, out=out, columns=COLUMNS, validator=validator, progress=progress
    )
    return run_module(
        module,
        keeper,
        train=config.train,
        optim=config.optim,
        loaders=parts.data,
        batch_size=config.data.batch_size,
        device=parts.device,
        out=out,
        start=start,
        progress=progress,
        # Which parts of a network a task reaches is known to the task alone.
        find_unused=True,
    )


def _first_method(config: PretrainSettings, parts: PretrainParts) -> tuple[Method, str]:
    """Build network and task of a new run; also says where the weights come from."""
    network, origin = initial_model(parts.spec, config.model, config.train)
    return wrap_network(config, network), origin


def _later_method(config: PretrainSettings, parts: PretrainParts) -> Method:
    """Build network and task of a resumed run, whose weights come from the checkpoint."""
    torch.manual_seed(config.train.seed)
    return wrap_network(config, build_segmenter(parts.spec))


def _export(
    config: PretrainSettings, dataset: Dataset, parts: PretrainParts, out: Path, *, write: bool
) -> str:
    """Write the network of the last checkpoint; gives what of it was trained."""
    network = build_segmenter(parts.spec)
    trained = wrap_network(config, network).trained
    if not write:
        return trained
    checkpoint = read_checkpoint(out / LAST)
    provenance = {
        **provenance_of(config, dataset.spec.name, int(checkpoint["global_step"])),
        "pretraining": config.method.name,
        "trained": trained,
    }
    network.load_state_dict(
        {
            name.removeprefix(NETWORK): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(NETWORK)
        }
    )
    network.spec = parts.spec.model_copy(update={"provenance": provenance})
    save_model(network, out / MODEL_FOLDER)
    return trained


def _result(
    config: PretrainSettings, out: Path, start: int, outcome: Outcome, trained: str
) -> PretrainResult:
    last = read_metrics(out / "metrics.csv")[-1]
    return PretrainResult(
        out=out,
        model=out / MODEL_FOLDER,
        trained=trained,
        steps=config.train.steps,
        resumed_from=start,
        embedding_spread=last["embedding_spread"],
        knn_accuracy=last.get("knn_accuracy"),
        seconds=outcome.seconds,
    )
