from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from stoker.spec import parse_spec, render_spec

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True).filter(lambda name: name != "default")
TEXTS = st.text(max_size=20).map(lambda text: text.replace("\0", "?"))
ADDRESSES = st.ip_addresses(v=4).map(str).filter(lambda address: address != "0.0.0.0")
PATHS = st.text(st.characters(exclude_characters="\0~", exclude_categories=["Cs"]), min_size=1, max_size=20)
CODE = st.sampled_from(["x = 1", "", "import os\nos.nice(1)\n", 'print("""\\n\'\'\'""")', "# Käse 🧀\r\n", "start.py"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SETTINGS = st.recursive(
    st.one_of(st.text(max_size=20), st.integers(), NUMBERS, st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


def tables(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


CLUSTERS = tables(
    profile=NAMES,
    cluster_id=st.one_of(st.just(""), NAMES),
    ipython_dir=PATHS,
    start_timeout=st.floats(0.001, 1e6),
    lease=st.floats(30, 1e6),
    frozen_after=st.floats(0.001, 1e6),
    log_limit=st.floats(0.001, 1e6),
)
HEARTBEATS = tables(period=st.floats(0.05, 20), limit=st.floats(60, 1e6))
CONTROLLERS = st.one_of(
    tables(
        ip=ADDRESSES,
        client_ip=ADDRESSES,
        engine_ip=ADDRESSES,
        location=TEXTS.filter(bool),
        scheduler=st.sampled_from(["leastload", "lru", "plainrandom", "twobin", "weighted", "pure"]),
        ports=st.sampled_from(["10101-10140", "1-9, 20-30"]),
        heartbeat=HEARTBEATS,
    ),
    tables(
        ip=st.sampled_from(["*", "0.0.0.0"]),
        encryption=st.booleans(),
        hwm=st.integers(0, 100),
        database=st.sampled_from(["NoDB", "DictDB", "SQLiteDB", "MongoDB"]),
        log_level=st.sampled_from(["debug", "info", "warning", "error", "critical"]),
    ),
)
WORDS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,9}", fullmatch=True)
LINES = st.text(st.characters(categories=["L", "N", "S", "P"]), min_size=1, max_size=10).filter(
    lambda text: not text.startswith(("#", "-"))
)
HOSTS = st.sampled_from(
    [["node[1-3]", "me@gpu:2222"], ["a"], [{"name": "a", "count": 2}, {"name": "b[01-12]", "python": "env/bin/python"}]]
)
COUNTS = st.integers(1, 10000)
GROUP = {
    "python": st.one_of(st.just("python3"), PATHS),
    "work_dir": PATHS,
    "env": st.dictionaries(
        st.from_regex(r"(?!IPP_|STOKER_)[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), TEXTS, max_size=3
    ),
    "startup": CODE,
    "threads": st.integers(1, 64),
}
ANY_COUNT = st.one_of(COUNTS, st.sampled_from(["cores", "physical"]))
GROUPS = st.one_of(
    tables(count=ANY_COUNT, launcher=st.just("local"), fork=st.booleans(), **GROUP),
    st.fixed_dictionaries(
        {"launcher": st.just("ssh"), "hosts": HOSTS},
        optional={
            "count": ANY_COUNT,
            "fork": st.booleans(),
            "ssh_options": st.dictionaries(st.just("ProxyJump"), WORDS),
            **GROUP,
        },
    ),
    st.fixed_dictionaries(
        {"launcher": st.just("slurm"), "count": COUNTS},
        optional={
            **dict.fromkeys(("partition", "account", "qos"), WORDS),
            "time_limit": st.sampled_from(["30", "01:30:00", "2-12"]),
            "directives": st.lists(LINES, max_size=2),
            **GROUP,
        },
    ),
    st.fixed_dictionaries(
        {"launcher": st.sampled_from(["pbs", "lsf", "sge"]), "count": COUNTS}, optional={"queue": WORDS, **GROUP}
    ),
    st.fixed_dictionaries(
        {"launcher": st.just("mpi")},
        optional={"mpi_cmd": st.lists(LINES, min_size=1, max_size=2), "mpi_args": st.lists(LINES), **GROUP},
    ),
)
SPECS = tables(
    cluster=CLUSTERS,
    controller=CONTROLLERS,
    engines=st.lists(GROUPS, min_size=1, max_size=3),
    ipython=tables(extensions=st.lists(TEXTS, max_size=3), exec_lines=st.lists(TEXTS, max_size=3)),
    kernel=tables(ip=ADDRESSES, shell_port=st.integers(1, 1000), hb_port=st.integers(1001, 65535)),
    queue=tables(
        ip=st.one_of(ADDRESSES, st.sampled_from(["*", "0.0.0.0"])),
        port=st.integers(1, 65535),
        directory=PATHS,
        lease=st.floats(1, 1e6),
        attempts=st.integers(1, 100),
        time_limit=st.floats(0.001, 1e6),
    ),
    settings=st.dictionaries(st.sampled_from(["LoadBalancer.weight", "A.b", "IPEngine.timeout"]), SETTINGS, max_size=3),
)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=SPECS)
def test_a_spec_that_was_written_reads_back_as_the_same_spec(data: dict[str, Any]) -> None:
    spec = parse_spec(data, base=Path("/lab"))

    text = render_spec(spec, comment="Käse\n\nand more")
    again = parse_spec(tomllib.loads(text), base=Path("/elsewhere"))

    assert again == spec
    assert render_spec(again, comment="Käse\n\nand more") == text


def test_a_spec_is_written_as_it_was_given_without_what_is_default() -> None:
    spec = parse_spec(
        {
            "settings": {"TaskScheduler.hwm": 2, "EngineLauncher.environment": {"A": "1"}},
            "engines": [{"count": 2, "work_dir": "data"}, {}],
            "queue": {"lease": 60, "directory": "queue", "port": 50010},
            "controller": {"heartbeat": {"period": 1}, "ip": "0.0.0.0"},
        },
        base=Path("/lab"),
    )

    text = render_spec(spec, comment="The spec.\nIt was read.")

    assert text == (
        """\
# The spec.
# It was read.

[cluster]
profile = "stoker"

[controller]
ip = "*"

[controller.heartbeat]
period = 1.0

[[engines]]
count = 2
work_dir = "/lab/data"

[[engines]]

[queue]
port = 50010
directory = "/lab/queue"
lease = 60.0

[settings]
"TaskScheduler.hwm" = 2

[settings."EngineLauncher.environment"]
A = "1"
"""
    )


def test_the_empty_spec_is_written_as_its_name() -> None:
    assert render_spec(parse_spec({})) == '[cluster]\nprofile = "stoker"\n'
