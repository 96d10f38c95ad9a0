from __future__ import annotations

import io
import logging

import pytest

from stoker.system.logs import spare_records


@pytest.fixture
def log() -> logging.Logger:
    """A logger as traitlets makes an application's: all levels, and nobody above it."""
    log = logging.Logger("application", logging.DEBUG)
    log.propagate = False
    return log


def make_handler(level: int) -> logging.Handler:
    handler = logging.StreamHandler(io.StringIO())
    handler.setLevel(level)
    return handler


@pytest.mark.parametrize(
    ("levels", "level"),
    [
        pytest.param([logging.INFO], logging.INFO, id="one"),
        pytest.param([logging.WARNING, logging.INFO], logging.INFO, id="the least of two"),
        pytest.param([logging.INFO, logging.DEBUG], logging.DEBUG, id="one wants all"),
        pytest.param([logging.INFO, logging.NOTSET], logging.DEBUG, id="one has no level"),
        pytest.param([], logging.DEBUG, id="none"),
    ],
)
def test_no_record_is_made_that_no_handler_takes(log: logging.Logger, levels: list[int], level: int) -> None:
    for each in levels:
        log.addHandler(make_handler(each))

    spare_records(log)

    assert log.level == level


def test_a_logger_that_hands_on_stays_as_it_is(log: logging.Logger) -> None:
    log.addHandler(make_handler(logging.ERROR))
    log.propagate = True

    spare_records(log)

    assert log.level == logging.DEBUG
