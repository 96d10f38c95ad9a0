"""Summaries: counted, and shown as text, as a table and as HTML."""

from __future__ import annotations

import io

from rich.console import Console

from stoker.compute.summary import EngineShare, Summary, Tally

SUMMARY = Summary(
    label="<square>",
    items=1000,
    failures=1,
    seconds=2.0,
    again=12,
    deaths=1,
    stragglers=2,
    engines=(
        EngineShare(engine=0, host="node1", items=750, batches=3, busy=1.5),
        EngineShare(engine=None, host="node2", items=250, batches=1, busy=0.5),
    ),
)
LINE = (
    "<square>: 1,000 items, 4 batches, 2.00 s, 2.00 s in the function, 2.00 s overhead, "
    "1 failed, 12 sent again, 1 death, 2 stragglers"
)


def test_a_tally_adds_up_to_a_summary() -> None:
    tally = Tally()
    tally.sent = 22
    tally.deaths = 1
    tally.note(engine=1, host="b", items=5, busy=0.5)
    tally.note(engine=None, host="c", items=1, busy=0.25)
    tally.note(engine=0, host="a", items=4, busy=0.25)
    tally.go_on(items=10, taken=10, seconds=1.0)
    tally.note(engine=1, host="b", items=10, busy=1.0)

    summary = tally.sum_up(label="work", items=10, taken=10, seconds=0.5)

    assert summary == Summary(
        label="work",
        items=20,
        failures=0,
        seconds=1.5,
        again=2,
        deaths=1,
        stragglers=0,
        engines=(
            EngineShare(engine=0, host="a", items=4, batches=1, busy=0.25),
            EngineShare(engine=1, host="b", items=15, batches=2, busy=1.5),
            EngineShare(engine=None, host="c", items=1, batches=1, busy=0.25),
        ),
    )
    assert (summary.batches, summary.busy, summary.overhead) == (4, 2.0, 2.5)


def test_a_summary_is_one_line_of_text() -> None:
    plain = Tally().sum_up(label="nothing", items=1, taken=1, seconds=0.1)

    assert str(SUMMARY) == LINE
    assert repr(SUMMARY) == f"<{LINE}>"
    assert str(plain) == "nothing: 1 item, 0 batches, 0.10 s, 0.00 s in the function, 0.00 s overhead"


def test_a_summary_is_a_table_of_engines() -> None:
    text = io.StringIO()

    Console(file=text, width=200, color_system=None).print(SUMMARY)

    rows = [line.split() for line in text.getvalue().splitlines()]
    assert " ".join(rows[0]) == LINE
    assert ["0", "node1", "750", "75%", "3", "1.50"] in rows
    assert ["gone", "node2", "250", "25%", "1", "0.50"] in rows


def test_a_summary_is_html_in_a_notebook() -> None:
    html = SUMMARY._repr_html_()

    assert html.startswith("<table><caption>&lt;square&gt;: 1,000 items")
    assert "<tr><th>engine</th><th>host</th><th>items</th><th>share</th><th>batches</th>" in html
    assert "<tr><td>gone</td><td>node2</td><td>250</td><td>25%</td><td>1</td><td>0.50</td></tr></table>" in html
