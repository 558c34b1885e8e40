"""Metrics, the per-image table, resampling and intervals.

Called by benchmark, cli, engine, explain, packaging, report and testing.
"""
