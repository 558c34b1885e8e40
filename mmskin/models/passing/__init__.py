"""Operators that pass features between branches; ``base`` says how to write one, configs name them."""
