"""Mapping whole scenes."""

from wholescene.prediction.mapping import Mapper, PredictResult, mapper
from wholescene.prediction.options import Options
from wholescene.prediction.plan import PredictionPlan, plan_prediction
from wholescene.prediction.run import predict, predict_many
from wholescene.prediction.views import Views

__all__ = [
    "Mapper",
    "Options",
    "PredictResult",
    "PredictionPlan",
    "Views",
    "mapper",
    "plan_prediction",
    "predict",
    "predict_many",
]
