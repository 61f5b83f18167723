"""Tiny datasets with the names, layouts and value conventions of the public ones.

Each module has ``make(root)``, which writes what a user has after downloading, and ``TRAPS``: by
name, a function that plants one fault into such a folder, and words of the error it must give.
"""
