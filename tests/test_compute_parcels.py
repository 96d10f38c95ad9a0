"""Parcels: what is laid in them comes out again, and no descriptor is left open."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.compute.parcels import Parcel, Parcels


@pytest.fixture
def spare() -> Iterator[list[Parcel]]:
    spare: list[Parcel] = []
    yield spare
    for parcel in spare:
        parcel.close()


@pytest.fixture
def parcels(spare: list[Parcel]) -> Iterator[Parcels]:
    parcels = Parcels(spare)
    yield parcels
    parcels.close()


def _count_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("size", [0, 1, 100_000, 10_000_000])
def test_what_is_laid_in_comes_out(parcels: Parcels, size: int) -> None:
    parcel = parcels.take(1)
    assert parcel is not None
    parcel.address(1)

    parcel.write(bytes(size))

    assert parcels.read(1, size) == bytes(size)


def test_more_than_was_laid_in_is_an_error(parcels: Parcels) -> None:
    parcel = parcels.take(1)
    assert parcel is not None
    parcel.address(1)
    parcel.write(b"four")

    with pytest.raises(EOFError, match="holds 4 bytes instead of 5"):
        parcels.read(1, 5)


def test_only_a_parcel_whose_batch_came_home_is_used_again(parcels: Parcels) -> None:
    first = parcels.take(1)
    parcels.give_back(1)
    second = parcels.take(2)
    parcels.drop(2)
    third = parcels.take(3)

    assert first is second
    assert third is not second


def test_its_address_is_of_one_batch() -> None:
    parcel = Parcel()
    try:
        assert parcel.address(1)[:3] == parcel.address(2)[:3]
        assert parcel.address(1)[3] != parcel.address(2)[3]
    finally:
        parcel.close()


def test_nothing_stays_open_but_what_later_calls_use(spare: list[Parcel]) -> None:
    before = _count_open()
    parcels = Parcels(spare)
    for number in range(6):
        parcels.take(number)
    parcels.drop(0)
    # Batches 4 and 5 never came home: their engines may still write.
    for number in (1, 2, 3):
        parcels.give_back(number)

    parcels.close()

    assert len(spare) == 2
    assert _count_open() == before + 2


def test_the_next_call_uses_what_an_earlier_one_left(spare: list[Parcel]) -> None:
    earlier, later = Parcels(spare), Parcels(spare)
    parcel = earlier.take(1)
    earlier.give_back(1)
    earlier.close()

    taken = [later.take(2), later.take(3)]

    assert taken[0] is parcel
    assert taken[1] is not parcel
    assert spare == []
    later.close()


def test_much_memory_is_kept_for_no_later_call(spare: list[Parcel]) -> None:
    parcels = Parcels(spare)
    large = parcels.take(1)
    assert large is not None
    large.write(bytes(100_000))
    parcels.give_back(1)

    parcels.close()

    assert spare == []


def test_without_descriptors_there_is_no_parcel(parcels: Parcels) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_count_open() - 1, hard))
    try:
        taken = [parcels.take(number) for number in range(20)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert taken[-1] is None
