"""Numbers that users write: whole numbers and image sizes, and what an error shows of them."""

import pytest

from archsearch.core.numbers import LARGEST, parse_image_size, quoted, size_text, whole_number


@pytest.mark.parametrize(
    ("value", "number"), [("16", 16), (" 16 ", 16), ("30_000", 30_000), ("-1", -1), (7, 7)]
)
def test_whole_numbers(value: object, number: int) -> None:
    assert whole_number(value) == number


@pytest.mark.parametrize(
    "value",
    ["", "1.5", "1e3", "１６", "1__0", "_1", "9" * 400, "9" * 5000, 10**400, -(10**10), True, 1.0,
     None, str(LARGEST + 1)],
)  # fmt: skip
def test_what_is_no_whole_number_in_range(value: object) -> None:
    with pytest.raises(ValueError, match=r"wanted a whole number up to 1,000,000,000, got ") as end:
        whole_number(value)
    assert len(str(end.value)) < 130


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (224, (224, 224)),
        ("224", (224, 224)),
        ((800, 1333), (800, 1333)),
        ("800x1333", (800, 1333)),
        (" 800 X 1333 ", (800, 1333)),
        ("800×1333", (800, 1333)),
    ],
)
def test_an_image_size_is_a_side_or_height_and_width(size: object, pixels: object) -> None:
    assert parse_image_size(size) == pixels  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size",
    ["", "0", "x", "800x", "x800", "800x0", "-3", "1x2x3", "2.5", "９", "9" * 400, 0, -1, 10**400,
     (800,), (800, 0), (1, 2, 3), 2.5, None, True],
)  # fmt: skip
def test_what_is_no_image_size(size: object) -> None:
    with pytest.raises(ValueError, match=r"size must be .*height x width \(800x1333\)") as end:
        parse_image_size(size, "size")  # type: ignore[arg-type]
    assert len(str(end.value)) < 180


def test_an_error_shows_long_values_short() -> None:
    assert quoted("30M") == "'30M'"
    assert quoted("9" * 5000) == f"'{'9' * 44}... (5002 characters)"
    assert quoted(10**5000) == "a number above 1,000,000,000"
    assert quoted(-(10**5000)) == "a number below -1,000,000,000"


def test_a_size_as_text() -> None:
    assert (size_text(224), size_text((800, 1333))) == ("224²", "800 × 1333")
