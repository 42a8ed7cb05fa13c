"""Pages from templates: autoescaped, self-contained, with a policy under which only our own script can run; cards as
Markdown, where text that is not ours cannot become markup either."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from evomix.figures.naming import words
from evomix.report.formats import interval, sentence, show

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"words": words, "show": show, "interval": interval, "sentence": sentence})
    return environment


def escape_markdown(text: str) -> str:
    """Return `text` on one line with every character that means something in Markdown or HTML made literal."""
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def inline_code(text: str) -> str:
    """Return `text` as a code span, whatever backticks it holds (CommonMark 6.1); bars are escaped for tables."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if "`" in line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fenced(text: str) -> str:
    """Return `text` as a fenced block of a difference, with a fence longer than any in the text (CommonMark 4.5)."""
    ticks = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{ticks}diff\n{text}\n{ticks}"


def markdown(template: str, **context: Any) -> str:
    """Return the Markdown of `template`, with one empty line at most between paragraphs."""
    environment = _environment().overlay(autoescape=False)
    environment.filters = environment.filters | {"escaped": escape_markdown, "code": inline_code, "fence": fenced}
    text = environment.get_template(template).render(**context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _digest(text: str) -> str:
    """Return the source expression of a content security policy for an inline script or style."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def page(template: str, **context: Any) -> str:
    """Return the page of `template`: style and script inline, everything else in `context` escaped.

    The page's content security policy allows images and downloads from `data:` only, no network, and exactly this
    script: even a missed escape could not run code that a candidate or a language model wrote.
    """
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    html = _environment().get_template(template)
    return html.render(style=Markup(style), script=Markup(script), policy=policy, **context)
