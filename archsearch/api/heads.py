"""Options that put a detector or segmenter on a network, to count both."""

from dataclasses import dataclass
from typing import get_args

from archsearch.api.keywords import InputErrors, option
from archsearch.core.family import Family
from archsearch.heads.cost import HEADS, Convention, HeadCost, head_cost, head_name
from archsearch.heads.from_transformers import check_installed


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """A head, what is below it, and how its cost is printed."""

    head: str | None = option(
        None,
        f"Count the network with this detector or segmenter on it: {', '.join(HEADS)}. The order "
        "of the sides of the image does not matter then.",
    )
    two_backbones: bool = option(
        False,
        "Put the head on a composite of two such networks, as in Table 4.",
        flag="--two-backbones",
    )
    convention: str = option(
        "macs",
        "With a head, print multiply-adds (macs) or the count that gives the FLOPs that the paper "
        "prints for detectors and segmenters (mmcv).",
        metavar="|".join(get_args(Convention)),
    )

    def checked(self, verify: bool = False) -> "HeadOptions":
        """Return these options; with ``verify`` the network is also built.

        Raises:
            ValueError: naming every wrong value, and every option that needs a head.
        """
        problems = self._unknown() or (self._without_head() if self.head is None else [])
        if verify and not problems:
            problems = self._missing()
        if problems:
            raise InputErrors(problems)
        return self

    def _missing(self) -> list[str]:
        if self.head is None or HEADS[head_name(self.head)].is_own:
            return []
        try:
            check_installed(head_name(self.head))
        except ValueError as error:
            return [f"--verify builds the network: {error}"]
        return []

    def _unknown(self) -> list[str]:
        problems = []
        try:
            head_name(self.head or "cascade")
        except ValueError as error:
            problems.append(f"--head: {error}")
        if self.convention not in get_args(Convention):
            wanted = " or ".join(get_args(Convention))
            problems.append(f"--convention: wanted {wanted}, got {self.convention!r}")
        return problems

    def _without_head(self) -> list[str]:
        options = {
            "--convention mmcv": self.convention == "mmcv", "--two-backbones": self.two_backbones,
        }  # fmt: skip
        return [
            f"{name} counts detectors and segmenters: add --head ({', '.join(HEADS)})"
            for name, given in options.items()
            if given
        ]

    def cost(
        self, network: Family, height: int, width: int, num_classes: int | None = None
    ) -> HeadCost:
        """Return the cost of the network with the head.

        Raises:
            ValueError: the network gives no four maps.
        """
        assert self.head is not None
        return head_cost(
            network, self.head, height, width, num_classes, two_backbones=self.two_backbones
        )
