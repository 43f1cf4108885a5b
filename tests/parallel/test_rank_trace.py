"""The trace of ranks: Chrome's events, and how much of the exchange was hidden."""

import json

import pytest

from minet.core.errors import MinetError
from minet.parallel import trace
from minet.parallel.trace import COMPUTE, EXCHANGE, Trace, hidden


def events(*spans):
    return [
        {"name": name, "ph": "X", "pid": 0, "tid": lane, "ts": ts, "dur": dur}
        for name, lane, ts, dur in spans
    ]


def test_hidden_is_the_share_of_the_exchange_beside_layers():
    # bprop 10 .. 30; one bucket 20 .. 40 of which 10 beside it, one 40 .. 60 of which none
    found = events(
        ("bprop", COMPUTE, 10, 20), ("a", EXCHANGE, 20, 20), ("b", EXCHANGE, 40, 20),
        ("wait for gradients", COMPUTE, 30, 30),
    )  # fmt: skip
    assert hidden(found) == pytest.approx(10 / 40)


def test_layers_that_overlap_count_once():
    found = events(("bprop", COMPUTE, 0, 10), ("conv", COMPUTE, 5, 10), ("a", EXCHANGE, 5, 20))
    assert hidden(found) == pytest.approx(10 / 20)


def test_a_trace_without_exchange_is_refused():
    with pytest.raises(MinetError, match="no exchange"):
        hidden(events(("bprop", COMPUTE, 0, 10)))


def test_only_the_first_steps_are_kept(tmp_path):
    one = Trace(3, steps=2)
    for _ in range(4):
        one.add("fprop", one.zero + 1e-3, one.zero + 3e-3, step=1)
        one.step_done()
    assert len(one.events) == 2
    assert one.events[0] == {
        "name": "fprop", "ph": "X", "pid": 3, "tid": COMPUTE, "ts": 1000.0, "dur": 2000.0, "args": {"step": 1}
    }  # fmt: skip
    trace.write(tmp_path / "t.json", [[], one.events])
    written = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [event for event in written if event["ph"] == "X"] == one.events
    names = {(event["pid"], event["tid"]): event["args"]["name"] for event in written if event["ph"] == "M"}
    assert names[1, COMPUTE] == "layers" and names[1, EXCHANGE] == "gradients"
