"""Images in, predictions out: ``LesionInferencer``, for networks of ours and for exported ones."""
