"""Data sets, transforms, and the preparation and selection of data.

Called by benchmark, cli, engine, evaluation, inference, installation, report and web.
"""
