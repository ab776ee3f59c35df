"""The benchmark of refused sign-ins ranks as the books say: a difference that is there would be seen."""

import pytest

from benchmarks.refusals import z_of


def test_times_of_one_kind_are_no_different_from_themselves() -> None:
    assert z_of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0


def test_times_that_are_all_longer_are_told_apart_whichever_is_asked_about() -> None:
    short, long = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]
    assert z_of(long, short) == pytest.approx(8 / 12**0.5)
    assert z_of(short, long) == -z_of(long, short)


def test_a_slight_shift_shows_in_many_samples_and_not_in_few() -> None:
    def shifted(times: int) -> float:
        others = [number / times for number in range(times)]
        return z_of([number + 0.1 for number in others], others)

    assert shifted(20) < 3 < shifted(400)
