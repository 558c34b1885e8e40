"""Suites of methods: their runs, and how the methods compare. The suites themselves are in ``suites/``.

Called by cli.
"""
