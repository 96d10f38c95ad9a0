from __future__ import annotations

import fcntl
import io
import os
import struct
import subprocess
import sys
import termios
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TextIO

import jupyter_client.manager
import pytest
import tqdm.std

from stoker.compute.progress import Standing, open_progress, render_standing

COLUMNS = 81
"""Of the terminals here; a bar leaves the last one free."""


class Clock:
    """tqdm's clock, set to the seconds of the standing that is shown."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def at(self, standing: Standing) -> Standing:
        self.now = 1000.0 + standing.seconds
        return standing


class Pipe(io.StringIO):
    """A stream whose reader is gone, from some write on."""

    def __init__(self, error: Exception, *, good: int = 0, terminal: bool = False) -> None:
        super().__init__()
        self.error = error
        self.good = good
        self.terminal = terminal
        self.tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        if self.tries > self.good:
            raise self.error
        return super().write(text)

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(tqdm.std, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of the same process may have loaded IPython, or made a shell."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    for name in [name for name in os.environ if name.startswith("TQDM_")]:
        monkeypatch.delenv(name)


def _standing(done: int, seconds: float, total: int | None = 5000, *, failures: int = 0, engines: int = 4) -> Standing:
    return Standing(done=done, total=total, failures=failures, engines=engines, seconds=seconds)


@contextmanager
def _open_terminal(*, columns: int = COLUMNS) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal, and what gives all that was written to it once it is closed."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    stream = os.fdopen(slave, "w", encoding="utf-8")

    def read() -> str:
        stream.close()
        written = b""
        # Linux tells the end of a terminal by an error.
        with suppress(OSError):
            while piece := os.read(master, 65536):
                written += piece
        return written.decode()

    try:
        yield stream, read
    finally:
        stream.close()
        os.close(master)


@pytest.mark.parametrize(
    ("standing", "rate", "line"),
    [
        pytest.param(
            Standing(done=1200, total=5000, failures=2, engines=4, seconds=4),
            300.0,
            "1,200 of 5,000 items, 300 a second, 12 s left, 2 failed, 4 engines",
            id="all parts",
        ),
        pytest.param(_standing(1200, 4, None, engines=0), None, "1,200 items", id="no total"),
        pytest.param(_standing(1, 4, None, engines=1), 2.5, "1 item, 2.5 a second, 1 engine", id="one of each"),
        pytest.param(_standing(0, 0, 1, engines=1), None, "0 of 1 item, 1 engine", id="one in all"),
        pytest.param(_standing(0, 0, 0, engines=0), None, "0 of 0 items", id="nothing to do"),
        pytest.param(_standing(5000, 9, engines=0), 555.6, "5,000 of 5,000 items, 556 a second", id="all done"),
        pytest.param(_standing(7, 9, 5, engines=0), 2.0, "7 of 5 items, 2 a second", id="more than all"),
        pytest.param(
            Standing(done=3, total=9, failures=0, engines=0, seconds=1, note="no engines:\n waiting"),
            None,
            "3 of 9 items, no engines: waiting",
            id="a note, made one line",
        ),
        pytest.param(_standing(0, 1), 0.0, "0 of 5,000 items, 4 engines", id="no rate yet"),
        pytest.param(_standing(0, 1), float("inf"), "0 of 5,000 items, 4 engines", id="no such rate"),
        pytest.param(_standing(0, 1), 5e-320, "0 of 5,000 items, 4 engines", id="a rate too small to see"),
    ],
)
def test_a_standing_is_one_line_of_what_there_is_to_say(standing: Standing, rate: float | None, line: str) -> None:
    assert render_standing(standing, rate=rate) == line


def test_what_an_earlier_call_had_done_counts_but_tells_nothing_of_the_pace(clock: Clock) -> None:
    standing = Standing(done=3000, total=5000, failures=0, engines=4, seconds=10, earlier=2000)
    stream = io.StringIO()
    open_progress(True, label="f", stream=stream).show(standing)
    with _open_terminal() as (terminal, read):
        bar = open_progress(True, label="f", stream=terminal)
        bar.show(clock.at(replace(standing, done=2000, seconds=0)))
        bar.close(clock.at(standing))
        drawn = read()

    assert stream.getvalue() == "f: 3,000 of 5,000 items, 100 a second, 20 s left, 4 engines\n"
    assert "2000/5000" in drawn
    assert "3000/5000 [00:10<00:20, 100.00it/s" in drawn


@pytest.mark.parametrize(
    ("left", "rate", "said"),
    [
        pytest.param(1, 1234.5, "1,234 a second, 1 s left", id="less than a second"),
        pytest.param(600, 10.0, "10 a second, 1 min left", id="a whole minute"),
        pytest.param(600, 9.96, "10 a second, 1 min left", id="rounded up"),
        pytest.param(630, 9.5, "9.5 a second, 1 min 6 s left", id="minutes"),
        pytest.param(3600, 0.5, "30 a minute, 2 h left", id="a rate in minutes"),
        pytest.param(100, 0.01, "36 an hour, 2 h 46 min left", id="a rate in hours"),
        pytest.param(10, 0.0001, "0.4 an hour, 1 d 3 h left", id="days"),
        pytest.param(1, 0.00001, "1 d 3 h left", id="a rate that no hour sees"),
    ],
)
def test_rates_and_times_are_said_in_units_that_fit(left: int, rate: float, said: str) -> None:
    standing = Standing(done=0, total=left, failures=0, engines=0, seconds=1)

    line = render_standing(standing, rate=rate)

    assert line == f"0 of {left:,} item{'' if left == 1 else 's'}, {said}"


@pytest.mark.parametrize("wanted", [False, None])
def test_an_unwanted_display_shows_nothing(wanted: bool | None) -> None:
    stream = io.StringIO()
    progress = open_progress(wanted, label="primes", stream=stream)

    progress.show(_standing(10, 100))
    progress.close(_standing(20, 200))

    assert stream.getvalue() == ""


def test_without_a_standard_error_stream_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)

    progress = open_progress(True, label="primes")

    progress.show(_standing(10, 100))
    progress.close(_standing(20, 200))


def test_a_function_is_told_each_standing_and_the_last_one_once() -> None:
    told: list[Standing] = []
    progress = open_progress(told.append, label="primes")

    progress.show(_standing(1, 0.01))
    progress.show(_standing(2, 0.02))
    progress.close(_standing(3, 0.03))
    progress.close(_standing(3, 0.03))
    progress.show(_standing(4, 0.04))

    assert told == [_standing(1, 0.01), _standing(2, 0.02), _standing(3, 0.03)]


def test_a_function_that_raises_is_not_told_again() -> None:
    told: list[Standing] = []

    def tell(standing: Standing) -> None:
        told.append(standing)
        raise KeyError("quux")

    progress = open_progress(tell, label="primes")

    with pytest.raises(KeyError, match=r"^'quux'$"):
        progress.show(_standing(1, 1))
    progress.close(_standing(2, 2))

    assert told == [_standing(1, 1)]


def test_lines_come_every_five_seconds_and_at_the_end() -> None:
    stream = io.StringIO()
    progress = open_progress(True, label="primes", stream=stream)

    for tenth in range(125):
        progress.show(_standing(tenth * 40, tenth / 10, failures=tenth // 60, engines=1 + tenth // 100))
    progress.close(_standing(5000, 12.5, failures=2, engines=0))
    progress.close(_standing(5000, 12.5, failures=2, engines=0))
    progress.show(_standing(5000, 99))

    assert stream.getvalue() == (
        "primes: 2,000 of 5,000 items, 400 a second, 7 s left, 1 engine\n"
        "primes: 4,000 of 5,000 items, 400 a second, 2 s left, 1 failed, 2 engines\n"
        "primes: 5,000 of 5,000 items, 400 a second, 2 failed\n"
    )


@pytest.mark.parametrize(
    ("shown", "last", "lines"),
    [
        pytest.param([], _standing(0, 1), "", id="nothing done, nothing shown"),
        pytest.param([], _standing(5000, 2), "primes: 5,000 of 5,000 items, 2,500 a second, 4 engines\n", id="short"),
        pytest.param([], _standing(10, 2), "primes: 10 of 5,000 items, 4 engines\n", id="ended early"),
        pytest.param([], _standing(10, 0), "primes: 10 of 5,000 items, 4 engines\n", id="in no time"),
        pytest.param([], _standing(10, 2, None), "primes: 10 items, 5 a second, 4 engines\n", id="no total"),
        pytest.param(
            [replace(_standing(0, 7, engines=0), note="no engines: waiting")],
            _standing(0, 8, engines=0),
            "primes: 0 of 5,000 items, no engines: waiting\nprimes: 0 of 5,000 items\n",
            id="nothing done, but shown",
        ),
    ],
)
def test_the_last_line_is_written_when_there_is_something_to_say(
    shown: list[Standing], last: Standing, lines: str
) -> None:
    stream = io.StringIO()
    progress = open_progress(True, label="primes", stream=stream)

    for standing in shown:
        progress.show(standing)
    progress.close(last)

    assert stream.getvalue() == lines


@pytest.mark.parametrize(
    ("label", "start"),
    [
        pytest.param("", "", id="none"),
        pytest.param("a" * 24, f"{'a' * 24}: ", id="just fits"),
        pytest.param("a" * 25, f"{'a' * 21}...: ", id="cut"),
        pytest.param("two\nlines\x1b[2J", "two lines [2J: ", id="made one line"),
    ],
)
def test_a_label_is_short_and_one_line(label: str, start: str) -> None:
    stream = io.StringIO()

    open_progress(True, label=label, stream=stream).close(_standing(1, 0, 1, engines=0))

    assert stream.getvalue() == f"{start}1 of 1 item\n"


def test_the_standard_error_stream_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    open_progress(True, label="primes").close(_standing(1, 0, 1, engines=0))

    assert capsys.readouterr() == ("", "primes: 1 of 1 item\n")


def test_a_stream_of_few_characters_gets_what_it_can_show() -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii")

    open_progress(True, label="größe", stream=stream).close(_standing(1, 0, 1, engines=0))

    assert written.getvalue() == b"gr??e: 1 of 1 item\n"


def test_a_terminal_gets_a_bar_that_is_redrawn_in_place(clock: Clock) -> None:
    with _open_terminal() as (stream, read):
        progress = open_progress(True, label="primes", stream=stream)

        progress.show(clock.at(_standing(0, 0.5)))
        progress.show(clock.at(_standing(1250, 4.5, failures=2)))
        progress.show(clock.at(replace(_standing(1250, 6.5, failures=2, engines=0), note="no engines: waiting")))
        progress.close(clock.at(_standing(5000, 10, failures=2)))
        progress.close(clock.at(_standing(5000, 11, failures=2)))
        progress.show(clock.at(_standing(5000, 12)))

        assert read().split("\r") == [
            "",
            "primes:   0%|                               | 0/5000 [00:00<?, ?it/s, 4 engines]",
            "primes:  25%|██▎      | 1250/5000 [00:04<00:13, 277.78it/s, 2 failed, 4 engines]",
            "primes:  25%|▎| 1250/5000 [00:06<00:13, 277.78it/s, 2 failed, no engines: waitin",
            "primes: 100%|█████████| 5000/5000 [00:10<00:00, 500.00it/s, 2 failed, 4 engines]",
            "\n",
        ]


def test_a_bar_without_a_total_counts(clock: Clock) -> None:
    with _open_terminal() as (stream, read):
        progress = open_progress(True, label="primes", stream=stream)

        progress.show(clock.at(_standing(300, 2, None, engines=1)))
        progress.close(clock.at(_standing(400, 4, None, engines=1)))

        assert read().split("\r") == [
            "",
            "primes: 0it [00:00, ?it/s, 1 engine]",
            "primes: 300it [00:02, 150.00it/s, 1 engine]",
            "primes: 400it [00:04, 100.00it/s, 1 engine]",
            "\n",
        ]


def test_a_bar_is_redrawn_ten_times_a_second_at_most(clock: Clock) -> None:
    with _open_terminal() as (stream, read):
        progress = open_progress(True, label="", stream=stream)

        # In seconds that floats hold exactly, so that a drawing falls on every seventh.
        for done in range(640):
            progress.show(clock.at(_standing(done, done / 64)))
        progress.close(clock.at(_standing(640, 10)))

        counts = [int(frame.split("|")[2].split("/")[0]) for frame in read().split("\r") if "|" in frame]
    assert counts == [*range(0, 640, 7), 640]


def test_the_time_without_news_counts_in_the_rate(clock: Clock) -> None:
    with _open_terminal() as (stream, read):
        progress = open_progress(True, label="", stream=stream)

        for eighth in range(81):
            progress.show(clock.at(_standing(eighth // 8 * 10, eighth / 8, 200)))
        progress.close(clock.at(_standing(100, 10.5, 200)))

        assert read().split("\r")[-3:] == [
            " 50%|███████████████               | 100/200 [00:10<00:10, 10.00it/s, 4 engines]",
            " 50%|███████████████               | 100/200 [00:10<00:10,  9.52it/s, 4 engines]",
            "\n",
        ]


@pytest.mark.parametrize(
    ("done", "frames"),
    [
        pytest.param(0, [""], id="nothing done"),
        pytest.param(
            10,
            [
                "",
                "primes:   0%|                               | 0/5000 [00:00<?, ?it/s, 4 engines]",
                "primes:   0%|                      | 10/5000 [00:01<08:19, 10.00it/s, 4 engines]",
                "\n",
            ],
            id="some done",
        ),
    ],
)
def test_a_bar_that_was_never_shown_appears_at_the_end_if_something_was_done(
    clock: Clock, done: int, frames: list[str]
) -> None:
    with _open_terminal() as (stream, read):
        open_progress(True, label="primes", stream=stream).close(clock.at(_standing(done, 1)))

        assert read().split("\r") == frames


@pytest.mark.parametrize(
    ("columns", "last"),
    [
        pytest.param(0, "primes: 100%|██████████| 5000/5000 [00:10<00:00, 500.00it/s, 4 engines]", id="untold"),
        pytest.param(1, "primes: 100%|██████████| 5000/5000 [00:10<00:00, 500.00it/s, 4 engines]", id="no room"),
        pytest.param(31, "primes: 100%|█| 5000/5000 [00:", id="narrow"),
    ],
)
def test_a_bar_fits_its_terminal_where_that_tells_its_width(clock: Clock, columns: int, last: str) -> None:
    with _open_terminal(columns=columns) as (stream, read):
        open_progress(True, label="primes", stream=stream).close(clock.at(_standing(5000, 10)))

        assert read().split("\r")[-2:] == [last, "\n"]


def test_a_closed_bar_leaves_its_place_to_the_next(clock: Clock) -> None:
    with _open_terminal() as (stream, read):
        for label in ("first", "second"):
            progress = open_progress(True, label=label, stream=stream)
            progress.show(clock.at(_standing(0, 0, 10)))
            progress.close(clock.at(_standing(10, 1, 10)))

        written = read()
    # A bar below another one moves the cursor.
    assert "\x1b" not in written
    assert not [bar for bar in tqdm.std.tqdm._instances if bar.desc.startswith(("first", "second"))]


@pytest.mark.live
def test_tqdm_turned_off_by_its_own_variable_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # tqdm reads its variables when it is loaded.
    program = (
        "import os, sys; from stoker.compute.progress import *;"
        "progress = open_progress(True, label='primes', stream=os.fdopen(int(sys.argv[1]), 'w'));"
        "make = lambda done: Standing(done=done, total=9, failures=0, engines=1, seconds=float(done));"
        "progress.show(make(1)); progress.show(make(2)); progress.close(make(9))"
    )
    with _open_terminal() as (stream, read):
        argv = [sys.executable, "-c", program, str(stream.fileno())]
        environment = {**os.environ, "TQDM_DISABLE": "1"}
        done = subprocess.run(
            argv, env=environment, pass_fds=[stream.fileno()], capture_output=True, text=True, timeout=60
        )

        assert (done.returncode, done.stdout, done.stderr, read()) == (0, "", "", "")


@pytest.mark.live
def test_a_bar_leaves_no_thread_and_no_choice_behind() -> None:
    program = (
        "import multiprocessing, threading; from stoker.compute.progress import *;"
        "progress = open_progress(True, label='primes');"
        "make = lambda done: Standing(done=done, total=9, failures=0, engines=1, seconds=float(done));"
        "progress.show(make(1)); progress.close(make(9));"
        "print([thread.name for thread in threading.enumerate()]);"
        "print(multiprocessing.get_start_method(allow_none=True))"
    )
    with _open_terminal() as (stream, read):
        argv = [sys.executable, "-c", program]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=stream, text=True, timeout=60)

        assert (done.returncode, done.stdout) == (0, "['MainThread']\nNone\n")
        assert "| 9/9 [" in read().split("\r")[-2]


@pytest.mark.parametrize("terminal", [False, True], ids=["lines", "bar"])
@pytest.mark.parametrize("good", [0, 1, 2], ids=["at once", "after one", "after two"])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(BrokenPipeError(32, "Broken pipe"), id="broken"),
        pytest.param(OSError(5, "Input/output error"), id="hung up"),
        pytest.param(ValueError("I/O operation on closed file"), id="closed"),
    ],
)
def test_a_display_that_cannot_write_goes_silent(error: Exception, good: int, terminal: bool) -> None:
    stream = Pipe(error, good=good, terminal=terminal)
    progress = open_progress(True, label="primes", stream=stream)

    for second in range(100):
        progress.show(_standing(second, float(second)))
    progress.close(_standing(100, 100.0))

    assert stream.tries == good + 1
    assert _is_tqdm_free()


def test_a_terminal_that_hangs_up_silences_the_bar() -> None:
    master, slave = os.openpty()
    stream = os.fdopen(slave, "w", encoding="utf-8")
    progress = open_progress(True, label="primes", stream=stream)
    progress.show(_standing(0, 0))

    os.close(master)
    progress.show(_standing(1, 1))
    progress.close(_standing(2, 2))

    assert _is_tqdm_free()
    with suppress(OSError):
        stream.close()


@pytest.mark.parametrize("closed", ["before", "after"])
def test_a_closed_stream_is_no_reason_to_fail(closed: str) -> None:
    stream = io.StringIO()
    if closed == "before":
        stream.close()
    progress = open_progress(True, label="primes", stream=stream)

    stream.close()
    progress.show(_standing(1, 10))
    progress.close(_standing(2, 20))


def _is_tqdm_free() -> bool:
    """Whether another thread could draw a bar."""
    lock = tqdm.std.TqdmDefaultWriteLock.th_lock
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.acquire(timeout=5) and not lock.release()))
    thread.start()
    thread.join()
    return taken == [True] and not [bar for bar in tqdm.std.tqdm._instances if bar.desc.startswith("primes")]


@pytest.mark.parametrize(
    ("shell", "bar"),
    [
        pytest.param(types.SimpleNamespace(kernel=object()), True, id="a kernel"),
        pytest.param(types.SimpleNamespace(), False, id="IPython in a terminal"),
        pytest.param(None, False, id="IPython loaded by a program"),
    ],
)
def test_a_notebook_gets_a_bar_though_it_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, shell: object, bar: bool
) -> None:
    # Without the widgets that may be installed.
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=tqdm.std.tqdm))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    stream = io.StringIO()

    open_progress(True, label="primes", stream=stream).close(clock.at(_standing(50, 10, 50)))

    assert stream.getvalue() == (
        "\rprimes:   0%|          | 0/50 [00:00<?, ?it/s, 4 engines]"
        "\rprimes: 100%|##########| 50/50 [00:10<00:00,  5.00it/s, 4 engines]\n"
        if bar
        else "primes: 50 of 50 items, 5 a second, 4 engines\n"
    )


@pytest.mark.live
def test_a_real_kernel_shows_a_bar() -> None:
    program = """
import sys
sys.modules["ipywidgets"] = None
import tqdm.std
tqdm.std.time = lambda: 1000.0
from stoker.compute.progress import *
progress = open_progress(True, label="primes")
progress.close(Standing(done=50, total=50, failures=1, engines=4, seconds=10.0))
"""
    manager, client = jupyter_client.manager.start_new_kernel(startup_timeout=60)
    try:
        written: list[str] = []

        def take(message: dict[str, dict[str, str]]) -> None:
            content = message["content"]
            written.append(content.get("text", "") or "".join(content.get("traceback", "")))

        client.execute_interactive(program, output_hook=take, timeout=60)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    assert "".join(written) == (
        "\rprimes:   0%|          | 0/50 [00:00<?, ?it/s, 1 failed, 4 engines]"
        "\rprimes: 100%|██████████| 50/50 [00:10<00:00,  5.00it/s, 1 failed, 4 engines]\n"
    )
