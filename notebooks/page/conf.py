"""Sphinx's configuration of the page; `python -m ihdm.show.page` copies it beside the gathered text."""

from html import escape
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DESCRIPTION = (
    "A companion to the paper Generative Modelling With Inverse Heat Dissipation: its models trained "
    "again on digits, its figures remade, its claims tested, and controls to play with."
)

project = html_title = "Inverse heat dissipation, made again"
# The address of the site once it has one, ending in /. Previews of links show its picture only then.
html_baseurl = ""

extensions = ["myst_nb", "sphinx.ext.mathjax"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["page.css"]
html_js_files = [
    (f"scripts/{path.name}", {"defer": "defer"})
    for path in sorted(Path(__file__).parent.glob("static/scripts/*.js"))
]
html_extra_path = ["extra"]
html_copy_source = False
html_use_index = False
# A summary beside what is found would be fetched, which a browser denies to a folder.
html_show_search_summary = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"

mathjax_path = "tex-svg-full.js"  # in one file, without fonts
# Formulas are not tab stops; screen readers get MathML.
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"scale": 0.9}}


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any], _: object) -> None:
    """Adds the title, the text and the picture that a preview of a link shows."""
    picture = "_static/preview.png"
    picture = html_baseurl + picture if html_baseurl else context["pathto"](picture, 1)
    tags = {
        'name="description"': DESCRIPTION,
        'property="og:type"': "article",
        'property="og:site_name"': project,
        'property="og:title"': context.get("title", project),
        'property="og:description"': DESCRIPTION,
        'property="og:image"': picture,
        'name="twitter:card"': "summary_large_image",
    }
    context["metatags"] = context.get("metatags", "") + "".join(
        f'<meta {key} content="{escape(value)}">\n' for key, value in tags.items()
    )


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", describe)
