"""From maps and labels to scores: counts, figures, files, report."""

from wholescene.evaluate.bootstrap import ScoreInterval, bootstrap_interval
from wholescene.evaluate.boundary import BoundaryTable, boundary_band, boundary_iou, erode_labels
from wholescene.evaluate.confusion import ConfusionTable
from wholescene.evaluate.files import (
    StoredScores,
    read_scores,
    scores_document,
    total_boundary,
    total_sizes,
    total_table,
    write_scores,
)
from wholescene.evaluate.index import (
    EvaluatedScene,
    Evaluation,
    read_evaluation,
    write_evaluation,
)
from wholescene.evaluate.report import build_report
from wholescene.evaluate.score_map import SceneScore, score_map
from wholescene.evaluate.scores import (
    CONVENTIONS,
    conventions,
    f1,
    iou,
    kappa,
    mf1,
    miou,
    overall_accuracy,
    per_class,
    precision,
    recall,
    scores_dict,
    summary,
)
from wholescene.evaluate.sizes import SizeTable, count_sizes, group_name, parse_sizes

__all__ = [
    "ConfusionTable",
    "overall_accuracy",
    "kappa",
    "iou",
    "f1",
    "precision",
    "recall",
    "miou",
    "mf1",
    "per_class",
    "summary",
    "conventions",
    "CONVENTIONS",
    "scores_dict",
    "BoundaryTable",
    "boundary_band",
    "boundary_iou",
    "erode_labels",
    "SizeTable",
    "count_sizes",
    "group_name",
    "parse_sizes",
    "ScoreInterval",
    "bootstrap_interval",
    "SceneScore",
    "score_map",
    "StoredScores",
    "scores_document",
    "total_boundary",
    "total_sizes",
    "total_table",
    "write_scores",
    "read_scores",
    "EvaluatedScene",
    "Evaluation",
    "write_evaluation",
    "read_evaluation",
    "build_report",
]
