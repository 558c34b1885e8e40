"""A hook of MkDocs that turns LaTeX, which arithmatex has found, into MathML: browsers draw it, without a script."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)


def on_page_content(content: str, **_: Any) -> str:
    """The page with its equations in MathML."""
    return FOUND.sub(
        lambda found: convert(html.unescape(found[2]), display='inline' if found[1] == 'span' else 'block'), content
    )
