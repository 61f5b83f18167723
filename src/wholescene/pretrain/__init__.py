"""Learning without labels: views, pretext tasks, their loop and its run directory."""

from wholescene.pretrain.methods import METHODS, Method, build_method, method_options
from wholescene.pretrain.plan import PretrainPlan, plan_pretraining
from wholescene.pretrain.run import PretrainResult, pretrain
from wholescene.pretrain.settings import MethodSettings, PoolSettings, ProbeSettings, ViewSettings
from wholescene.pretrain.views import View, ViewMaker

__all__ = [
    "METHODS",
    "Method",
    "MethodSettings",
    "PoolSettings",
    "PretrainPlan",
    "PretrainResult",
    "ProbeSettings",
    "View",
    "ViewMaker",
    "ViewSettings",
    "build_method",
    "method_options",
    "plan_pretraining",
    "pretrain",
]
