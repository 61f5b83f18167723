"""Preparation of public datasets and of one's own: from files as they came to a dataset."""
