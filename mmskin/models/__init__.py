"""The network: backbones, passing operators, tasks, heads, losses, weightings, test-time augmentation, weights."""
