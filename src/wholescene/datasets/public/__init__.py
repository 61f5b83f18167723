"""Recipes of public datasets, as data."""
