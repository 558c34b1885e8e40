"""Operators that pass features between branches, one a file; ``base`` says how to write one, configs name them."""
