"""Run configurations: one flat YAML file, checked to the last key."""

from wholescene.config.load import (
    config_hash,
    dump_config,
    load_config,
    load_pretrain_config,
    load_study_config,
)
from wholescene.config.pretrain import PretrainConfig
from wholescene.config.run import RunConfig, json_schema
from wholescene.config.study import StudyConfig, StudyMethod, StudyScoring

__all__ = [
    "PretrainConfig",
    "RunConfig",
    "StudyConfig",
    "StudyMethod",
    "StudyScoring",
    "config_hash",
    "dump_config",
    "json_schema",
    "load_config",
    "load_pretrain_config",
    "load_study_config",
]
