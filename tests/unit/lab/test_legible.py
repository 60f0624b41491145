"""What counts as read from a screen."""

from __future__ import annotations

import pytest
from tests.e2e.site import legible


@pytest.mark.parametrize(
    ("phrase", "text", "read"),
    [
        ("host hwtttphh-1", "ROOST DESKTOP\nhost hutttphh-1\ndisk clean", True),
        ("host hwtttphh-1", "host hwttt phh-1", True),
        ("host hwtttphh-1", "host hutttphk-1", False),
        ("host hwtttphh-1", "host hwtttph", False),
        ("clean", "disk cleam", False),
        ("disk clean", "disk marked", False),
        ("mark unmoved", "", False),
    ],
)
def test_one_letter_in_eight_may_be_another(phrase: str, text: str, read: bool) -> None:
    assert legible(phrase, text) is read
