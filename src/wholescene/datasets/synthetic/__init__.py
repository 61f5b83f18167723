"""Procedural, seeded, labelled scenes: a stand-in for real data in demo, tests and benchmarks."""

from wholescene.datasets.synthetic.scene import IGNORE_ID, SyntheticScene, scene_window
from wholescene.datasets.synthetic.synthesis import class_entries, synthesize

__all__ = ["IGNORE_ID", "SyntheticScene", "class_entries", "scene_window", "synthesize"]
