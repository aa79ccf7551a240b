r"""Mathematics of the page, drawn when it is built: an extension of Sphinx.

Each formula becomes an SVG in the line, which looks the same in every browser, from a folder and on
paper, and needs neither script nor font; beside it, hidden from the eye, stands its MathML for
programs that read aloud.
"""

import re
from functools import cache
from html import escape
from typing import Any
from xml.etree import ElementTree

import latex2mathml.converter
import ziamath
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

__all__ = ["render", "setup"]

SIZE = 20.0
LOG = logging.getLogger(__name__)


@cache
def render(formula: str, inline: bool) -> str:
    """A formula as HTML.

    Args:
        formula: LaTeX, with a number of the paper's equation in `\\tag` where it has one.
        inline: whether it stands in a line of text.

    Raises:
        ValueError: a command is not known.
    """
    tag = re.search(r"\\tag\{(.*?)\}", formula)
    formula = re.sub(r"\\tag\{.*?\}", "", formula).strip()
    # Double bars are known in one size.
    formula = re.sub(r"\\[bB]igg?[lr]?(?=\\\|)", "", formula)
    # A sign at the beginning or after a bracket would be set as a difference.
    signed = re.sub(r"(^|[(\[,]\s*)-", r"\1{-}", formula)
    spoken = latex2mathml.converter.convert(formula, "inline" if inline else "block")
    unknown = re.search(r"\\[A-Za-z]+", re.sub(r"<[^>]*>", "", spoken))
    if unknown:
        raise ValueError(f"{unknown[0]} is not known in the formula {formula}")
    drawn = ziamath.Latex(signed, size=SIZE, inline=inline, color="currentColor")
    picture = drawn.svgxml()
    width, height = (float(picture.get(side)) / SIZE for side in ("width", "height"))
    picture.set("style", f"width:{width:.3f}em;height:{height:.3f}em")
    if inline:
        lowered = drawn.getyofst() / SIZE
        picture.set("style", picture.get("style") + f";vertical-align:{lowered:.3f}em")
    for attribute in ("width", "height"):
        del picture.attrib[attribute]
    picture.set("aria-hidden", "true")
    text = ElementTree.tostring(picture, encoding="unicode")
    hidden = f'<span class="spoken">{spoken}</span>'
    if inline:
        return f'<span class="math">{text}{hidden}</span>'
    number = f'<span class="number">({escape(tag[1])})</span>' if tag else ""
    return f'<div class="math"><div class="scroll" tabindex="0">{text}{hidden}</div>{number}</div>'


def visit(translator: Any, node: nodes.Element) -> None:
    try:
        translator.body.append(render(node.astext(), isinstance(node, nodes.math)))
    except ValueError as error:
        LOG.warning(str(error), location=node)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer under the name `drawn`; called by Sphinx.

    Args:
        app: the running Sphinx.

    Returns:
        That it can be used by several processes.
    """
    ziamath.config.svg2 = False
    ziamath.config.precision = 2
    app.add_html_math_renderer("drawn", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
