"""How values are written for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from roost_client.cli.table import Column, plain, size, when, write_list, write_one


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        (0, "0"),
        (False, "no"),
        (True, "yes"),
        (["alice", "bob"], "alice, bob"),
        ({"id": "1", "name": "win10", "version": 3}, "win10"),
        ({"cpu": 1, "deep": None}, "cpu=1, deep=-"),
    ],
)
def test_any_value_is_one_line(value: object, text: str) -> None:
    assert plain(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 * 2**30, "10.0 GiB"), (None, "-")],
)
def test_sizes_have_binary_units(value: object, text: str) -> None:
    assert size(value) == text


def test_times_are_in_the_machines_zone() -> None:
    moment = datetime(2026, 1, 5, 8, 0, 3, 999, tzinfo=UTC)
    assert when(moment.isoformat()) == moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert when("2026-01-05T08:00:03Z") == moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert when(None) == "-"
    assert when("soon") == "soon"


def test_a_column_looks_into_inner_objects() -> None:
    column = Column("free", "desktops.free")
    assert column.of({"desktops": {"free": 3}}) == "3"
    assert column.of({"desktops": 7}) == "-"
    assert column.of({}) == "-"


def test_nothing_is_cut_off_in_a_pipe_and_brackets_are_no_markup(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300
    write_list(
        [{"name": "[red]a[/red]", "why": long}], [Column("name", "name"), Column("w", "why")]
    )
    out = capsys.readouterr().out
    assert "[red]a[/red]" in out
    assert long in out
    write_one({"name": "a", "spec": {"vcpus": 2, "display": {"usb": True}}, "guest": {}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["name", "a"],
        ["spec.vcpus", "2"],
        ["spec.display.usb", "yes"],
        ["guest", "-"],
    ]
