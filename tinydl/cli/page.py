"""One HTML page of tables and pictures, with everything in it."""
from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; max-width: 60rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d5dae1; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt { color: #5a6472; }
dd { margin: 0; overflow-wrap: anywhere; }
.both { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .5rem 1.5rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #e8ebef; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: #5a6472; font-weight: 600; }
p { color: #5a6472; max-width: 45rem; }
img { max-width: 100%; height: auto; display: block; margin: .5rem 0; }
@media (max-width: 30rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } th, td { padding: .2rem .45rem; } }
"""


def page(title: str, about: Iterable[tuple[str, str]],
         sections: Iterable[tuple[str, list[list[str]], str, str | None]]) -> str:
    """about: names and values. sections: title, a table with its header, a note, an SVG picture."""
    parts = [f"<h1>{escape(title)}</h1>", "<dl>",
             *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about), "</dl>"]
    for name, rows, note, svg in sections:
        parts.append(f'<section>\n<h2>{escape(name)}</h2>\n<div class="both">')
        if svg is not None:
            data = base64.b64encode(svg.encode()).decode()
            parts.append(f'<img alt="{escape(name)}, as the table says" src="data:image/svg+xml;base64,{data}">')
        parts += [_table(rows), "</div>", *([f"<p>{escape(note)}</p>"] if note else []), "</section>"]
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(parts)
            + "\n</body>\n</html>\n")


def _table(rows: list[list[str]]) -> str:
    head, *body = [[escape(cell) for cell in row] for row in rows]
    lines = ["<tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head) + "</tr>",
             *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body)]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"
