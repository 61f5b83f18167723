"""Flows that join rooms: train a run, map and score a split, the demo."""
