"""The page around the sections of `minet view`: one HTML file that loads nothing and needs no script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

STYLE = """
:root{--back:#fff;--paper:#fbfbfc;--ink:#1c1e21;--faint:#6a7079;--line:#e3e5e8;--frame:#b9bec5;--lit:#ffdf9e;
--h0:#1f6fb4;--h1:#d9601a;--h2:#2a9d5c;--h3:#8e5bb5;--h4:#b8860b;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--back:#15171a;--paper:#1d2024;--ink:#e8eaed;--faint:#9aa1ab;
--line:#2e3238;--frame:#565c66;--lit:#6b4d12;--h0:#63aef0;--h1:#ff9557;--h2:#57cf8d;--h3:#c497ea;--h4:#e3b341}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:auto;padding:24px 16px 48px}
h1{font-size:26px;line-height:1.2;margin:0}h2{font-size:19px;margin:36px 0 4px}
h3{font:600 14px/1.4 ui-monospace,Menlo,Consolas,monospace;margin:26px 0 0;overflow-wrap:anywhere}
h3 code{font:inherit;background:var(--line);border-radius:4px;padding:1px 6px;margin-right:4px}
p{margin:2px 0 8px;max-width:75ch;color:var(--faint)}
ul.facts{list-style:none;display:flex;flex-wrap:wrap;gap:2px 22px;padding:0;margin:8px 0 0}
ul.facts span{color:var(--faint)}
input{position:absolute;opacity:0;pointer-events:none}
nav{position:sticky;top:0;z-index:1;display:flex;flex-wrap:wrap;gap:2px 3px;align-items:center;padding:6px 0;
background:var(--back);border-bottom:1px solid var(--line)}
nav span{color:var(--faint);margin-right:4px}
nav label{min-width:28px;padding:1px 6px;border-radius:5px;text-align:center;cursor:pointer;
font-variant-numeric:tabular-nums;animation:var(--total) step-end infinite}
nav label.play,#play:not(:checked)~nav label{animation:none}
nav label:hover{box-shadow:inset 0 0 0 1px var(--frame)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(320px,100%),1fr));gap:14px 28px}
svg.card{width:100%;max-width:420px;font:10px ui-monospace,Menlo,Consolas,monospace}
text{fill:var(--faint)}.paper{fill:var(--paper)}.grid{stroke:var(--line)}
.frame{fill:none;stroke:var(--frame);stroke-width:2}
.h0{--c:var(--h0)}.h1{--c:var(--h1)}.h2{--c:var(--h2)}.h3{--c:var(--h3)}.h4{--c:var(--h4)}
circle{fill:var(--c);fill-opacity:.15;stroke:var(--c);stroke-width:1.3;
vector-effect:non-scaling-stroke}
circle.before{fill:none;stroke-dasharray:2.5 2;stroke-width:1;opacity:.75}
.k path{stroke:var(--c);stroke-width:4;stroke-linecap:round;vector-effect:non-scaling-stroke}
.way{fill:none;stroke:var(--faint);opacity:.7}
.k{animation:var(--total) linear infinite}
.still .k{animation-play-state:paused;animation-delay:var(--at,var(--last))}
.still,#play:not(:checked)~article .moving{display:none}
#play:not(:checked)~article .still{display:inline}
.row{display:grid;grid-template-columns:repeat(6,1fr);gap:10px;margin:0 0 12px}
figure{margin:0}figure svg{display:block;width:100%;border-radius:4px;background:#000}
figcaption{font-size:12px;color:var(--faint);text-align:center}
image{image-rendering:pixelated}
.halo,.dot{fill:none;stroke:#000;stroke-width:8;stroke-linecap:round;vector-effect:non-scaling-stroke}
.dot{stroke:#ffa02e;stroke-width:5.5}.halo.fine{stroke-width:5}.dot.fine{stroke-width:3.5}
.apart{stroke:#7d8590;stroke-width:.6;opacity:.8;vector-effect:non-scaling-stroke}
footer{margin-top:40px;color:var(--faint);font-size:13px}
@media (max-width:640px){.row{grid-template-columns:repeat(3,1fr);gap:6px;margin-bottom:18px}
.halo.fine{stroke-width:4}.dot.fine{stroke-width:2.6}}
@media (prefers-reduced-motion:reduce){.moving,label.play{display:none}.still{display:inline}
nav label{animation:none}}
@media print{.moving,nav{display:none}.still{display:inline}}
"""


UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")  # no XML has these


def page(
    title: str, facts: dict[str, str], sections: Sequence[str], notes: Sequence[str], style: str = ""
) -> str:
    """The page as HTML that is also well-formed XML.

    Parameters
    ----------
    facts : dict
        What is said of the run below the title, by name.
    sections : list of str
        HTML.
    notes : list of str
        What is missing, and why.
    style : str
        More of it, for these sections.
    """
    told = "".join(f"<li><span>{escape(name)}</span> {escape(value)}</li>" for name, value in facts.items())
    missing = "".join(f"<p>{escape(note)}</p>" for note in notes)
    text = (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n<body><main><h1>{escape(title)}</h1>"
        f'<ul class="facts">{told}</ul>\n'
        + "\n".join(sections)
        + f"\n<footer>{missing}</footer></main></body></html>\n"
    )
    return UNREADABLE.sub("\ufffd", text)
