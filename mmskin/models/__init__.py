"""The network: backbones, passing operators, tasks, heads, losses, weightings, test-time augmentation, weights.

Called by benchmark, cli, engine, explain, inference, installation, packaging, plugins, testing and web.
"""
