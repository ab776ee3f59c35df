"""The table of sabotages fits the code: `make sabotage` runs it, this only reads it."""

import pytest

from tests.sabotage.run import ROOT
from tests.sabotage.table import TABLE, Sabotage

each = pytest.mark.parametrize("sabotage", TABLE, ids=lambda s: f"{s.invariant}: {s.guard}")


def test_every_invariant_has_a_sabotage() -> None:
    assert {sabotage.invariant for sabotage in TABLE} == set(range(1, 14))


@each
def test_what_a_sabotage_replaces_stands_in_its_file_once(sabotage: Sabotage) -> None:
    assert (ROOT / sabotage.file).read_text().count(sabotage.old) == 1
    assert sabotage.new != sabotage.old


@each
def test_the_tests_that_must_notice_a_sabotage_exist(sabotage: Sabotage) -> None:
    assert sabotage.tests
    for node in sabotage.tests:
        file, _, name = node.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
