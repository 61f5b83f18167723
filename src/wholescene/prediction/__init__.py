"""Mapping whole scenes."""

from wholescene.prediction.options import Options
from wholescene.prediction.plan import PredictionPlan, plan_prediction
from wholescene.prediction.run import PredictResult, predict, predict_many
from wholescene.prediction.views import Views

__all__ = [
    "Options",
    "PredictResult",
    "PredictionPlan",
    "Views",
    "plan_prediction",
    "predict",
    "predict_many",
]
