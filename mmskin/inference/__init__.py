"""Images in, predictions out: ``LesionInferencer``, for networks of ours and for exported ones.

Called by cli, explain, installation, packaging and web.
"""
