"""The faults of `bench mutations` can still be planted: the code they change is as they say."""

from __future__ import annotations

import pytest

from bench.mutation_parts.fault import Fault, StaleFaultError, places_of, planted
from bench.mutation_parts.table import FAULTS
from host_support.places import ROOT


@pytest.mark.parametrize("file", FAULTS)
def test_every_fault_of_a_file_can_be_planted(file: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    for fault in FAULTS[file]:
        planted(text, fault, file)
        places = places_of(file, fault, ROOT)
        assert places
        assert all((ROOT / place).exists() for place in places)
    assert len({fault.what for fault in FAULTS[file]}) == len(FAULTS[file])


def test_there_are_enough() -> None:
    assert sum(map(len, FAULTS.values())) >= 60


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("b = 2", "b = 3", "found it 0 times"),
        ("a", "b", "found it 2 times"),
        ("a = 1", "a = ", "no valid Python"),
        ("a = 1", "a = 1", "found it 1 times"),
    ],
)
def test_a_fault_that_fits_no_more_is_told(old: str, new: str, told: str) -> None:
    with pytest.raises(StaleFaultError, match=told):
        planted("a = 1\nc = a\n", Fault("x", old, new), "file.py")


def test_tests_belong_to_a_file_by_its_folder() -> None:
    def places(file: str) -> tuple[str, ...]:
        return places_of(file, Fault("x", "old", "new"), ROOT)

    found = places("tverase_core/finetuning/train.py")
    assert found[0] == "tests/core/finetune/test_train.py"
    assert "tests/core/finetune/test_retention.py" in found[1:]
    assert places("tverase_core/schedule.py") == ("tests/core/test_schedule.py",)
    assert "tests/core/files/test_content_hash.py" in places("tverase_core/storage/header.py")
    assert places("nodes/vector/apply.py")[0] == "tests/nodes/vector/test_apply.py"
    given = Fault("x", "a", "b", ("tests/core/test_schedule.py",))
    assert places_of("tverase_core/ports.py", given, ROOT) == given.tests
