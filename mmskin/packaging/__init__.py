"""Trained networks for others: publish a model folder, write its card, export to ONNX and OpenVINO.

Called by cli.
"""
