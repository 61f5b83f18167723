"""Run configurations: one flat YAML file, checked to the last key."""

from wholescene.config.load import config_hash, dump_config, load_config
from wholescene.config.run import RunConfig, json_schema

__all__ = ["RunConfig", "config_hash", "dump_config", "json_schema", "load_config"]
