"""Variants under the four stacking rules: naming, parsing and storing."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.core.family import differing_switches, name_with_switches, variant_to_dict
from archsearch.families.internimage import (
    ORIGIN,
    PUBLISHED,
    SCALED_ORIGIN,
    FreeVariant,
    Variant,
    parse_variant,
    variant_from_dict,
)
from internimage.config import PRESETS


def problems(*numbers: int) -> list[str]:
    return ORIGIN.unchecked(**dict(zip(ORIGIN.by_name, numbers, strict=True))).problems()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_variants_are_the_published_networks(name: str) -> None:
    config = PRESETS[name].config
    assert PUBLISHED[name].config(drop_path=config.drop_path) == config


def test_the_four_rules_give_the_configuration() -> None:
    config = Variant(48, 16, 2, 7).config()
    assert config.channels == (48, 96, 192, 384)
    assert config.groups == (3, 6, 12, 24)
    assert config.depths == (2, 2, 7, 2)


def test_names_include_the_switches_that_differ() -> None:
    kernels = [replace(ORIGIN, kernel_size=k) for k in (3, 5)]
    assert differing_switches(kernels) == ["kernel_size"]
    assert name_with_switches("T", kernels[1], ["kernel_size"]) == "T kernel_size=5"
    assert differing_switches([*kernels, SCALED_ORIGIN]) == ["kernel_size", "norm", "layer_scale"]
    assert differing_switches([ORIGIN]) == differing_switches([]) == []
    assert name_with_switches("T", ORIGIN, []) == "T"


def test_origins_differ_only_in_their_block() -> None:
    assert ORIGIN.numbers == SCALED_ORIGIN.numbers == (64, 16, 4, 18)
    assert (ORIGIN.norm, ORIGIN.layer_scale) == ("pre", None)
    assert (SCALED_ORIGIN.norm, SCALED_ORIGIN.layer_scale) == ("post", 1e-5)
    assert ORIGIN.depth == 30


def test_every_broken_rule_is_reported() -> None:
    broken = problems(49, 16, 5, 4)
    assert [p.split(":")[0] for p in broken] == [
        "C1 must be even (the stem halves it), got 49", "rule 2", "rule 4",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"rule 2.*rule 4"):
        Variant(48, 32, 5, 4)
    assert problems(0, -1, 1, 1) == [
        "C1 must be a whole number from 1 to 1,000,000,000, got 0",
        "C' must be a whole number from 1 to 1,000,000,000, got -1",
    ]


@pytest.mark.parametrize("text", ["t", "T", " 64-16-4-18 "])
def test_parsing_the_origin(text: str) -> None:
    assert parse_variant(text) == ORIGIN


def test_parsing_takes_switches_from_like_for_numbers_only() -> None:
    assert parse_variant("80-16-4-21", like=SCALED_ORIGIN) == PUBLISHED["S"]
    assert parse_variant("T", like=SCALED_ORIGIN) == ORIGIN


@pytest.mark.parametrize("text", ["H", "U", "64-16-4", "64-16-4-18-1", "64-16-4-x", "64-16--4-18"])
def test_parsing_an_invalid_text_shows_a_valid_variant(text: str) -> None:
    with pytest.raises(ValueError, match="four numbers C1-C'-L1-L3 like 64-16-4-18") as error:
        parse_variant(text)
    assert repr(text) in str(error.value)


def test_parsing_reports_the_broken_rule() -> None:
    with pytest.raises(ValueError, match="rule 2: C1 = 48 is not a multiple of C' = 32"):
        parse_variant("48-32-1-9")


def test_paper_figures_belong_to_exactly_the_published_network() -> None:
    assert ORIGIN.published() == {"model": "T", "accuracy": 83.5}
    assert PUBLISHED["B"].published() == {"model": "B", "accuracy": 84.9}
    assert SCALED_ORIGIN.published() == {}
    assert replace(ORIGIN, kernel_size=5).published() == {}


@given(
    st.sampled_from((8, 16, 32)),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(5, 9),
    st.sampled_from(("pre", "post", "res-post")),
    st.sampled_from((3, 5)),
)
def test_variants_survive_json(
    group_channels: int, width: int, l1: int, l3: int, norm: str, kernel: int
) -> None:
    layer_scale = None if norm == "res-post" else 1
    v = Variant(group_channels * width, group_channels, l1, l3, kernel, norm, layer_scale)  # type: ignore[arg-type]
    assert variant_from_dict(json.loads(json.dumps(variant_to_dict(v)))) == v


def test_free_variants_survive_json() -> None:
    v = FreeVariant((32, 48, 96, 128), (2, 3, 6, 8), (1, 2, 6, 1))
    assert variant_from_dict(json.loads(json.dumps(variant_to_dict(v)))) == v


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"c1": 64, "group_channels": 16, "l1": 4, "l3": 18, "colour": 1},
            "unknown fields.*colour",
        ),
        ({"c1": 64, "group_channels": 16}, "not a variant"),
        ({"c1": 48, "group_channels": 32, "l1": 1, "l3": 1}, "rule 2"),
        ({"channels": [1, 2, 4, 8], "groups": [1] * 4, "depths": [1] * 4}, "C1 must be even"),
    ],
)
def test_wrong_values_are_rejected(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_from_dict(values)
