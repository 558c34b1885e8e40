"""The evaluation report: one HTML page and its figures, from the files that a test leaves.

Called by cli and packaging.
"""
