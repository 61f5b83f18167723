"""Networks: encoders, decoders, their description and their file."""

from wholescene.models.build import build_segmenter, start_encoder
from wholescene.models.container import read_spec
from wholescene.models.decoders import DECODERS
from wholescene.models.encoder import Encoder, build_encoder
from wholescene.models.files import load_model, model_id, save_model
from wholescene.models.inspect import (
    ModelDescription,
    describe,
    list_decoders,
    list_encoders,
    show,
)
from wholescene.models.interaction import InteractionOptions
from wholescene.models.memory_format import in_fast_order, weights_in_fast_order
from wholescene.models.normalise import normalise
from wholescene.models.refine import RefineRunSettings, RefineSettings
from wholescene.models.refiner import RefinedSegmenter
from wholescene.models.segmenter import Segmenter
from wholescene.models.settings import ModelSettings
from wholescene.models.spec import FORMAT_VERSION, Architecture, ClassSpec, ModelSpec
from wholescene.models.weights import WeightReport, load_encoder_weights, load_timm_weights

__all__ = [
    "InteractionOptions",
    "DECODERS",
    "FORMAT_VERSION",
    "Architecture",
    "ClassSpec",
    "Encoder",
    "ModelDescription",
    "ModelSettings",
    "ModelSpec",
    "RefineRunSettings",
    "RefineSettings",
    "RefinedSegmenter",
    "Segmenter",
    "WeightReport",
    "build_encoder",
    "build_segmenter",
    "describe",
    "in_fast_order",
    "list_decoders",
    "list_encoders",
    "load_encoder_weights",
    "load_model",
    "load_timm_weights",
    "model_id",
    "normalise",
    "read_spec",
    "save_model",
    "show",
    "start_encoder",
    "weights_in_fast_order",
]
