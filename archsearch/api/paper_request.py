"""The request of one of the paper's other studies."""

from dataclasses import dataclass, replace
from typing import Literal

from archsearch.api.keywords import evaluate_all, option
from archsearch.api.options import Seeds, Training
from archsearch.families.internimage import Variant, parse_variant
from archsearch.study import Study

StudyName = Literal[
    "kernel-size", "ablation", "deformable-attention", "data-scale", "operator-or-frame"
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PaperStudy:
    """Train one of the paper's other studies.

    The report shows the paper's figures beside ours.
    """

    name: StudyName
    data: str | None = option(
        None,
        "Train on digits (the default), cifar10[:PATH] or imagefolder:PATH; --full has no default.",
        metavar="NAME",
    )
    recipe: str | None = option(
        None,
        "Train with this recipe; the default is quick with more epochs, or table-b with --full.",
        metavar="NAME",
    )
    full: bool = option(
        False,
        "Train T by Table B as the paper does (--full), or networks of 1M parameters (--small).",
        flag="--full/--small",
    )
    seeds: Seeds | None = option(
        None,
        "Train this many seeds, the seeds of a list (0,4,7), or more seeds where they pay (auto); "
        "the default is 1, and 5 of operator-or-frame.",
        text=str,
        metavar="N|LIST|auto[:MOST]",
    )
    origin: str | None = option(
        None,
        "Change the operator of this InternImage, such as 16-8-2-4 (C1-C'-L1-L3); only of "
        "operator-or-frame.",
    )

    def studies(self, training: Training) -> tuple[Study, ...]:
        """Return the study or studies of this request.

        Raises:
            ValueError: for wrong options, or ``full`` without the paper's data.
        """
        from archsearch.studies import (
            ablation,
            data_scale,
            deformable_attention,
            kernel_size,
            operator_or_frame,
        )
        from archsearch.studies.sizes import SCALES

        size: Literal["small", "full"] = "full" if self.full else "small"
        scale = SCALES[size]
        epochs = training.epochs or (None if self.recipe else scale.epochs)
        recipe, data = self.recipe or scale.recipe, self.data or training.data
        seeds = self.seeds or (
            operator_or_frame.NUM_SEEDS if self.name == "operator-or-frame" else training.seeds
        )
        _, origin, resolved = evaluate_all(
            self._check_data,
            self._origin,
            replace(training, recipe=recipe, data=data, epochs=epochs, seeds=seeds).resolved,
        )
        if self.name == "data-scale":
            studies = data_scale.studies(size=size, **resolved.arguments())
        elif self.name == "operator-or-frame":
            studies = (operator_or_frame.study(size=size, origin=origin, **resolved.arguments()),)
        else:
            modules = {
                "ablation": ablation,
                "deformable-attention": deformable_attention,
                "kernel-size": kernel_size,
            }
            studies = (modules[self.name].study(size=size, **resolved.arguments()),)
        return tuple(replace(study, plan=resolved.plan) for study in studies)

    def _origin(self) -> Variant | None:
        if self.origin is None:
            return None
        if self.name != "operator-or-frame":
            raise ValueError(f"origin is of operator-or-frame, and {self.name} has no origin")
        return parse_variant(self.origin)

    def _check_data(self) -> None:
        if self.full and self.data is None:
            raise ValueError(
                "--full trains as the paper does and needs its data: --data imagefolder:PATH "
                "(for the built-in digits leave --full out)"
            )
