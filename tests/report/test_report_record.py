"""Values beside the results: what is read is what was written, or one clear error."""

from __future__ import annotations

import json

import pytest
from report_cases import audited

import retrofair as rf
from retrofair.files import json_text
from retrofair.report import page, read_record, record, sections, write_record


@pytest.fixture
def values():
    return record(sections(audited(n=300)), title="t", command="retrofair audit", seed=3)


def test_a_record_comes_back_and_makes_the_same_page(tmp_path, values):
    write_record(tmp_path, values)
    again = read_record(tmp_path)
    assert again == json.loads(json_text(values))
    assert page(again) == page(values)


def test_what_is_no_folder_of_ours_is_one_clear_error(tmp_path, values):
    for folder, message in (
        (tmp_path / "none", "got nothing there"),
        (tmp_path, "holds no report.json"),
    ):
        with pytest.raises(rf.InputError, match=message):
            read_record(folder)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(rf.InputError, match="of an interrupted or an older run"):
        read_record(tmp_path)
    (tmp_path / "report.json").write_text(json_text(values)[:400])
    with pytest.raises(rf.InputError, match="is damaged"):
        read_record(tmp_path)
    (tmp_path / "report.json").write_text('{"format": 99}')
    with pytest.raises(rf.InputError, match="of format 1"):
        read_record(tmp_path)
    with pytest.raises(rf.InputError, match="got a file"):
        read_record(tmp_path / "audit.json")


@pytest.mark.parametrize("broken", ["audit", "counts", "scores"])
def test_values_that_are_not_whole_are_refused(values, broken):
    found = json.loads(json_text(values))
    if broken == "audit":
        found["audit"] = {}
    elif broken == "counts":
        found["audit"]["counts"] = found["audit"]["counts"][:1]
    else:
        found["audit"]["scores"]["edges"] = None
    with pytest.raises(rf.InputError, match="run the command again"):
        page(found)
