"""Balancing the tasks' losses, by the losses or their gradients: ``weighting`` says how, configs name them."""
