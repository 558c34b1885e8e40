"""Files to pixels: one reader for images, one for masks."""
