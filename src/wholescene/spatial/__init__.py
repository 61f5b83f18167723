"""Exact execution of any network over scenes of any size."""

from wholescene.spatial.plan import Plan, plan
from wholescene.spatial.stream import stream

__all__ = ["Plan", "plan", "stream"]
