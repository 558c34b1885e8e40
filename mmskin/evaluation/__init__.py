"""Metrics, the per-image table, resampling and intervals."""
