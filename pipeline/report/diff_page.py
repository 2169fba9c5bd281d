"""One HTML page of the words that revisions changed."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1rem; margin: 2rem 0 .3rem }
td { padding: .1rem .8rem .1rem 0; vertical-align: top }
.about { color: #666 } del { color: #a40000 } ins { color: #006b1b; text-decoration: none }
"""


def render_diff(rows: Iterable[tuple[Mapping[str, Any], str]]) -> str:
    """Rows of the table of differences, each with the name that people know of its file."""
    body = "\n".join(_section(row, name) for row, name in rows if row["changes"])
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Changed words</title>'
        f"<style>{STYLE}</style>\n<h1>Changed words</h1>\n{body or '<p>None.</p>'}\n</html>\n"
    )


def _section(row: Mapping[str, Any], name: str) -> str:
    channel = "" if row["channel"] is None else f", channel {row['channel']}"
    about = (
        f"revision {row['revision_before']} ({row['model_before']}) to "
        f"{row['revision']} ({row['model']})"
    )
    lines = "\n".join(_change(one) for one in row["changes"])
    return (
        f"<h2>{escape(name)}{channel}</h2>\n<p class=about>{escape(about)}</p>\n"
        f"<table>\n{lines}\n</table>"
    )


def _change(one: Mapping[str, Any]) -> str:
    cells: Iterator[str] = iter(
        (
            f"{one['start_s']:.1f} s",
            f"<del>{escape(one['before'])}</del>",
            f"<ins>{escape(one['after'])}</ins>",
        )
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
