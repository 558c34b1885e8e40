"""Training in stages, testing a checkpoint, hooks, and tracking."""
