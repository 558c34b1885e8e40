"""Training in stages, testing a checkpoint, hooks, and tracking.

Called by benchmark, cli, explain, inference and packaging.
"""
