"""Files to pixels: one reader for images, one for masks.

Called by datasets, drawing, evaluation, explain, inference and web.
"""
