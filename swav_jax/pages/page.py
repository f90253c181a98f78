"""One HTML file that needs nothing else: our template, style and script, filled with sections."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, NamedTuple

HERE = files("swav_jax.pages")
SCRIPTS = "page.js", "map.js", "images.js"  # the last one begins


class Section(NamedTuple):
    """A part of a page that the navigation leads to."""

    name: str  # of its anchor
    title: str
    html: str


def page(
    title: str, head: str, sections: Sequence[Section], data: Mapping[str, Any] | None = None
) -> bytes:
    """The file's contents.

    Args:
      title: of the page, as text.
      head: HTML above the sections.
      sections: in their order.
      data: what the script reads.
    """
    body = [
        f'<section id="{name}" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{escape(heading)}</h2>{html}</section>'
        for name, heading, html in sections
    ]
    text = Template((HERE / "template.html").read_text()).substitute(
        title=escape(title),
        links="".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections),
        style=(HERE / "style.css").read_text(),
        body="\n".join([head, *body]),
        # In a script element, "</" and "<!--" would end or begin something else.
        data=json.dumps(data or {}, separators=(",", ":")).replace("<", "\\u003c"),
        script="\n".join((HERE / name).read_text() for name in SCRIPTS),
    )
    return text.encode(errors="replace")  # names of files need not be Unicode


def facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """Headlines as (name, value, remark), in HTML."""
    return (
        '<dl class="facts">'
        + "".join(
            f'<div class="fact"><dt>{escape(name)}</dt><dd><span class="value">{escape(value)}'
            f'</span><span class="note">{escape(remark)}</span></dd></div>'
            for name, value, remark in rows
        )
        + "</dl>"
    )


def choice(name: str, label: str, values: Mapping[str, str]) -> str:
    """Buttons of which one is pressed, the first to begin with; nothing if there is no choice."""
    if len(values) < 2:
        return ""
    buttons = [
        f'<button type="button" data-value="{value}" aria-pressed="{"false" if i else "true"}">'
        f"{escape(text)}</button>"
        for i, (value, text) in enumerate(values.items())
    ]
    return (
        f'<div class="choice" id="{name}" role="group" aria-label="{escape(label)}">'
        + "".join(buttons)
        + "</div>"
    )
