from __future__ import annotations

from pathlib import Path

from stoker.agent.log_feed import LogFeed


def test_what_is_written_to_a_log_is_told_once(tmp_path: Path) -> None:
    log, feed = tmp_path / "log", LogFeed()
    log.write_text("before\n")
    feed.follow(3, str(log))

    with log.open("a") as file:
        file.write("one\n")
    first, second = list(feed.read()), list(feed.read())

    assert (first, second) == ([(3, "one\n")], [])


def test_a_log_that_ended_is_read_to_its_end_and_then_followed_no_more(tmp_path: Path) -> None:
    log, feed = tmp_path / "log", LogFeed()
    feed.follow(3, str(log))
    log.write_text("last words\n")

    feed.end(3)
    first = list(feed.read())
    log.write_text("last words\nof another\n")

    assert (first, list(feed.read())) == ([(3, "last words\n")], [])


def test_of_much_the_older_part_is_left_out(tmp_path: Path) -> None:
    log, feed = tmp_path / "log", LogFeed()
    feed.follow(None, str(log))
    log.write_text("x" * 100_000 + "end")

    ((number, text),) = feed.read()

    assert number is None
    assert text.startswith("[34467 bytes were left out]\nxxx")
    assert text.endswith("xend")


def test_a_log_that_was_cut_is_followed_from_its_new_end(tmp_path: Path) -> None:
    log, feed = tmp_path / "log", LogFeed()
    log.write_text("a long line of before\n")
    feed.follow(1, str(log))
    log.write_text("cut\n")

    first = list(feed.read())
    with log.open("a") as file:
        file.write("new\n")

    assert (first, list(feed.read())) == ([], [(1, "new\n")])
