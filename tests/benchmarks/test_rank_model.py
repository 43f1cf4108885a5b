"""The model of a step on many ranks, by values worked out by hand."""

import pytest

from benchmarks import rank_model
from benchmarks.rank_model import SEEN, Network, Step, allreduce, efficiency, exposed, gather, seconds, tree

SLOW = Network("slow", 1e-3, 1e6)  # a millisecond, and a megabyte a second
FAST = Network("no latency", 0.0, 1e6)
STEP = Step(images=8, fixed=2.0, each=1.0, bprop=0.5, buckets=((2e6, 0.2), (1e6, 1.0)))


@pytest.mark.parametrize(
    ("P", "expected"),
    [
        (2, 2e-3 + 1.0),  # two messages of half a megabyte
        (3, 4e-3 + 4 / 3),  # round a ring or by halving: 4 messages
        (4, 4e-3 + 1.5),  # 4 messages by halving, 6 round a ring
        (1024, 20e-3 + 2 * 1023 / 1024),
    ],
)
def test_a_sum(P, expected):
    assert allreduce(P, 1e6, SLOW) == pytest.approx(expected, rel=1e-12)


def test_a_sum_by_a_tree_moves_all_bytes_in_each_message():
    assert tree(8, 1e6, SLOW) == pytest.approx(6 * (1e-3 + 1.0), rel=1e-12)


def test_a_gather():
    assert gather(4, 1000, SLOW) == pytest.approx(2e-3 + 3e-3 + SEEN, rel=1e-12)


def test_what_is_hidden():
    """10 s of which 5 are bprop. On two ranks the buckets take 2 s and 1 s; they leave after 1 s and 5 s."""
    assert exposed(STEP, 10.0, 2, FAST) == pytest.approx(1.0 + SEEN)
    late = Network("", 0.0, 0.25e6)  # 8 s and 4 s: from 1 s to 9 s, and to 13 s
    assert exposed(STEP, 10.0, 2, late) == pytest.approx(8.0 + 2 * SEEN)
    after = Step(8, 2.0, 1.0, 0.5, STEP.buckets, beside=False)
    assert exposed(after, 10.0, 2, FAST) == pytest.approx(3.0 + 2 * SEEN)
    assert exposed(STEP, 10.0, 2, FAST, tree) == pytest.approx(2.0 + 2 * SEEN)  # 4 s to 5 s, then 2 s


def test_a_step():
    last = 48e-6 / 2 + SEEN  # each has the other's 24 bytes
    assert seconds(STEP, 1, SLOW) == 10.0
    assert seconds(STEP, 2, FAST) == pytest.approx(6.0 + 1.0 + SEEN + last)  # 4 images each
    assert seconds(STEP, 2, FAST, weak=True) == pytest.approx(10.0 + 1.0 + SEEN + last)
    assert seconds(STEP, 2, FAST, compute=20.0) == pytest.approx(20.0 + 1.0 + SEEN + last)
    assert seconds(STEP, 16, FAST) is None  # half an image each
    assert seconds(STEP, 16, FAST, weak=True) > 10.0


def test_the_count_of_labels_hides_behind_fprop():
    far = Network("", 2.0, 1e12)
    none = Step(8, 2.0, 1.0, 0.5, ((0.0, 0.0),))  # its sum, 4 s, is hidden behind 5 s of bprop
    assert seconds(none, 2, far, weak=True) == pytest.approx(10.0 + 2.0 + SEEN)  # the gather of the loss
    far = Network("", 6.0, 1e12)  # 12 s of a sum behind 5 s, 6 s of each gather, the first behind 5 s
    assert seconds(none, 2, far, weak=True) == pytest.approx(10.0 + 1.0 + 7.0 + 6.0 + 3 * SEEN)


def test_efficiency():
    assert efficiency(STEP, 1, SLOW) == efficiency(STEP, 1, SLOW, weak=True) == 1.0
    assert efficiency(STEP, 2, FAST) == pytest.approx(10.0 / 2 / seconds(STEP, 2, FAST))
    assert efficiency(STEP, 2, FAST, weak=True) == pytest.approx(10.0 / seconds(STEP, 2, FAST, weak=True))
    assert efficiency(STEP, 16, FAST) is None


def test_the_table():
    lines = rank_model.table(Step(128, 0.0, 1e-3, 0.6, ((4e5, 1.0),)), counts=(2, 512)).splitlines()
    assert lines[0] == "| step | network | 2 | 512 |"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert len(rows) == 3 + 3 + 1 + 4 + 4
    assert rows[0][-1] == ""  # 128 images for 512 ranks
    assert (
        rows[3][-2]
        == f"{efficiency(Step(128, 0, 1e-3, 0.6, ((4e5, 1.0),)), 2, rank_model.NETWORKS[0], True):.2f}"
    )
    assert [row[-1].startswith("(") for row in rows if row[1] == "NVLink 4"] == [True, True]


def test_the_plot(tmp_path):
    rank_model.plot(tmp_path / "a.svg", Step(128, 0.0, 1e-3, 0.6, ((4e5, 1.0),)))
    text = (tmp_path / "a.svg").read_text()
    assert all(network.name in text for network in rank_model.NETWORKS)
    assert len(text) < 100_000
