"""What a net takes for what, as HTML: the confusion matrix, and its worst mistakes as pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from minet.core.errors import MinetError
from minet.core.loss import SoftmaxCrossEntropy
from minet.core.net import Net
from minet.data.dataset import Dataset
from minet.runs.predict import probabilities
from minet.view.pools import picture

MISTAKES = 24  # that are shown
MOST = 200  # classes of which a matrix is drawn
NUMBERED = 24  # with more classes its cells have no numbers
CELL, HEAD, TAIL = 30, 74, 46  # pixels: of a cell, of the names before, of the shares behind
LETTERS = 11  # of a name that is shown

STYLE = """
.matrix{max-width:680px;overflow-x:auto}.matrix svg{display:block;width:100%;height:auto;
font:10px system-ui,sans-serif}
.matrix rect{stroke:var(--line)}.matrix .right{fill:var(--h2)}.matrix .wrong{fill:var(--h1)}
.matrix .count{fill:var(--ink)}
.mistakes{display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));gap:14px;margin:12px 0}
.mistakes img{display:block;width:100%;aspect-ratio:1;object-fit:contain;border-radius:4px;background:#000;
image-rendering:pixelated}
.mistakes figcaption{overflow-wrap:anywhere;line-height:1.35;margin-top:3px}.mistakes b{color:var(--ink)}
"""


@dataclass(frozen=True)
class Answers:
    """What a net says of the labelled images of a data set.

    Attributes
    ----------
    images : ndarray of int (M,)
        Their places in the data set.
    labels, said : ndarray of int (M,)
        Their classes, and those that the net finds likeliest.
    sure : ndarray (M,)
        The probability of what it says.
    chance : ndarray (M,)
        The probability that it gives to the label.
    names : list of str
        Of all classes.
    """

    images: np.ndarray
    labels: np.ndarray
    said: np.ndarray
    sure: np.ndarray
    chance: np.ndarray
    names: list[str]

    @property
    def counts(self) -> np.ndarray:
        """How many images of each class (rows) are taken for each (columns)."""
        found = np.zeros((len(self.names), len(self.names)), np.int64)
        np.add.at(found, (self.labels, self.said), 1)
        return found


def answers(net: Net, data: Dataset) -> Answers:
    """Ask a net about a data set.

    Raises
    ------
    MinetError
        If there are no classes to compare, or if the net's outputs are not finite.
    """
    whole = np.prod(net.output_shape) == net.output_shape[0]
    if not (isinstance(net.loss, SoftmaxCrossEntropy) and data.labels.ndim == 1 and whole):
        raise MinetError("the net does not tell classes apart")
    known = np.flatnonzero(data.labels >= 0)
    if not len(known):
        raise MinetError(f"no image of {data.name} has a label")
    said, sure, chance = [], [], []
    for start in range(0, len(known), net.batch):
        part = known[start : start + net.batch]
        outputs = net.predict(data.normalize(data.images[part])).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise MinetError("the net's outputs are not finite", "its weights may be damaged")
        shares = probabilities(net, outputs)
        best = shares.argmax(axis=1)
        rows = np.arange(len(part))
        said.append(best)
        sure.append(shares[rows, best])
        chance.append(shares[rows, data.labels[part]])
    count = net.output_shape[0]
    names = [data.names[i] if data.names and i < len(data.names) else str(i) for i in range(count)]
    joined = [np.concatenate(parts) for parts in (said, sure, chance)]
    return Answers(known, data.labels[known], joined[0], joined[1], joined[2], names)


def section(found: Answers, data: Dataset) -> str:
    """Both, and in words what is mistaken most often."""
    wrong, total = int((found.said != found.labels).sum()), len(found.labels)
    told = f"{wrong:,} of {total:,} images of {escape(data.name)} are taken for another class"
    matrix = _matrix(found.counts, found.names) if len(found.names) <= MOST else ""
    return (
        f'<section id="confusion"><h2>Confusion matrix</h2><p>{told} ({100 * wrong / total:.2f} %). A row '
        "has the images of a class, a column what the net takes them for; behind a row is the share that is "
        "right."
        f"{_often(found)}</p>{matrix}</section>"
        f'<section id="mistakes"><h2>Worst mistakes</h2>{_mistakes(found, data)}</section>'
    )


def _often(found: Answers) -> str:
    """The pairs that are confused most often."""
    counts = found.counts
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:3]
    pairs = [
        f"{found.names[label]} for {found.names[said]} ({counts[label, said]:,})"
        for label, said in zip(*np.unravel_index(order, counts.shape), strict=True)
        if counts[label, said]
    ]
    return f" Most often: {escape(', '.join(pairs))}." if pairs else ""


def _matrix(counts: np.ndarray, names: Sequence[str]) -> str:
    size = len(names)
    cell = CELL if size <= NUMBERED else max(3, CELL * NUMBERED // size)
    parts, named = [], [name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…" for name in names]
    head = min(HEAD, 12 + 6 * max(map(len, named)))
    short = max(map(len, named)) * 6 < cell
    every = -(-12 // cell)  # of names that fit
    for i, name in enumerate(named):
        middle = head + cell * (i + 0.5)
        total = counts[i].sum()
        if i % every == 0:
            turned = f'transform="translate({middle + 3.5:.1f} {head - 5}) rotate(-90)"'
            upright = f'x="{middle:.1f}" y="{head - 5}" text-anchor="middle"'
            parts.append(f"<text {upright if short else turned}>{escape(name)}</text>")
            parts.append(
                f'<text x="{head - 5}" y="{middle + 3.5:.1f}" text-anchor="end">{escape(name)}</text>'
            )
            if total:
                right = f"{100 * counts[i, i] / total:.1f} %"
                parts.append(f'<text x="{head + cell * size + 5}" y="{middle + 3.5:.1f}">{right}</text>')
        for j in np.flatnonzero(counts[i]):
            share = counts[i, j] / total
            shade, look = (0.55 * share, "right") if i == j else (min(0.9, 0.12 + 3 * share), "wrong")
            x, y, told = head + cell * j, head + cell * i, f"{name} for {named[j]}: {counts[i, j]}"
            parts.append(
                f'<rect class="{look}" x="{x}" y="{y}" width="{cell}" height="{cell}" '
                f'fill-opacity="{shade:.2f}"><title>{escape(told)}</title></rect>'
            )
            if size <= NUMBERED:
                middle_x = x + cell / 2
                parts.append(
                    f'<text class="count" x="{middle_x}" y="{y + cell / 2 + 3.5}" text-anchor="middle">'
                    f"{counts[i, j]}</text>"
                )
    whole = cell * size
    wide = head + whole + TAIL
    frame = f'<rect x="{head}" y="{head}" width="{whole}" height="{whole}" fill="none"/>'
    return (
        '<div class="matrix"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'style="max-width:{1.5 * wide:.0f}px" viewBox="0 0 {wide} {head + whole + 2}">'
        f"<title>confusion matrix</title>{frame}{''.join(parts)}</svg></div>"
    )


def _mistakes(found: Answers, data: Dataset) -> str:
    wrong = np.flatnonzero(found.said != found.labels)
    if not len(wrong):
        return "<p>None: each image is taken for what it is.</p>"
    worst = wrong[np.argsort(found.chance[wrong], kind="stable")][:MISTAKES]
    some = f"The {len(worst)} of {len(wrong)}" if len(worst) < len(wrong) else "Those"
    shown = []
    for i in worst:
        label, said = (escape(found.names[kind]) for kind in (found.labels[i], found.said[i]))
        href = base64.b64encode(picture(data.images[found.images[i]])).decode()
        shown.append(
            f'<figure><img alt="{label}" src="data:image/png;base64,{href}"/><figcaption><b>{label}</b>, '
            f"taken for <b>{said}</b>: {100 * found.sure[i]:.1f}\u00a0%, "
            f"not {100 * found.chance[i]:.2g}\u00a0%</figcaption></figure>"
        )
    return (
        f"<p>{some} to whose class the net gives the least probability: what each is, and what it is "
        f'taken for.</p><div class="mistakes">{"".join(shown)}</div>'
    )
