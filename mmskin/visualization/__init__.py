"""Drawing on images: outlines, captions, sheets of cases. For whoever makes a picture."""
