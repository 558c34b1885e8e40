"""The colours of outlines, the same in every picture; ``mmskin/web/page.css`` has them, too."""

TRUE, PREDICTED = '#eb1e14', '#1446ff'
EDGE = '#ffffff'  # on both sides of a line, so that it stands out from a dark lesion
