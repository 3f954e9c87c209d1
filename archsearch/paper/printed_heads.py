"""The sizes of detectors and segmenters that Tables 3, 4 and 5 print, recounted.

ConvNeXt's rows check the convention of the FLOPs: it was found on InternImage's.
"""

from dataclasses import replace

from archsearch.core.family import Family
from archsearch.families.convnext import ConvNeXt
from archsearch.families.internimage import parse_network
from archsearch.heads.cost import HEADS, count
from archsearch.paper.claim import Claim

DETECTION, COCO_SIZE = "Table 3", (1280, 800)
SEGMENTATION = "Table 5"
CROPS = {512: (512, 2048), 640: (640, 2560), 896: (896, 896)}
"""Crop size in training -> height and width at which the FLOPs are counted."""

MASK_RCNN = {
    "InternImage-T": ("49M", "270G"), "InternImage-S": ("69M", "340G"),
    "InternImage-B": ("115M", "501G"), "ConvNeXt-T": ("48M", "262G"),
    "ConvNeXt-S": ("70M", "348G"), "ConvNeXt-B": ("108M", "486G"),
}  # fmt: skip
CASCADE = {
    "InternImage-L": ("277M", "1399G"), "InternImage-XL": ("387M", "1782G"),
    "ConvNeXt-L": ("255M", "1354G"), "ConvNeXt-XL": ("407M", "1898G"),
}  # fmt: skip
UPERNET = {
    ("InternImage-T", 512): ("59M", "944G"), ("InternImage-S", 512): ("80M", "1017G"),
    ("InternImage-B", 512): ("128M", "1185G"), ("InternImage-L", 640): ("256M", "2526G"),
    ("InternImage-XL", 640): ("368M", "3142G"), ("InternImage-H", 896): ("1.12B", "3566G"),
    ("ConvNeXt-T", 512): ("60M", "939G"), ("ConvNeXt-S", 512): ("82M", "1027G"),
    ("ConvNeXt-B", 512): ("122M", "1170G"), ("ConvNeXt-L", 640): ("235M", "2458G"),
    ("ConvNeXt-XL", 640): ("391M", "3335G"),
}  # fmt: skip
MASK2FORMER = {("InternImage-H", 896): ("1.31B", "4635G")}


def head_claims() -> list[Claim]:
    """Every claim of the three tables, in their order."""
    claims = []
    for head, rows in (("mask-rcnn", MASK_RCNN), ("cascade-mask-rcnn", CASCADE)):
        for name, printed in rows.items():
            claims += _row(DETECTION, head, name, COCO_SIZE, printed)
    claims += _table_4()
    for head, crops in (("upernet", UPERNET), ("mask2former", MASK2FORMER)):
        for (name, crop), printed in crops.items():
            claims += _row(SEGMENTATION, head, name, CROPS[crop], printed)
    return claims


def network_of(name: str) -> Family:
    """The network of a name such as ``InternImage-T`` or ``ConvNeXt-XL``."""
    family, _, size = name.partition("-")
    return ConvNeXt.named()[size] if family == "ConvNeXt" else parse_network(size)


def _row(
    table: str, head: str, name: str, size: tuple[int, int], printed: tuple[str, str]
) -> list[Claim]:
    params, flops = printed
    total = count(network_of(name).feature_maps(*size), head)
    model = f"{head}, {name}"
    convention = (
        f"the convention mmcv, which no source states; multiply-adds alone are "
        f"{total.macs / 1e9:.1f}G"
    )
    quantity = f"FLOPs at {size[0]} x {size[1]}"
    return [
        Claim(table, model, "parameters", params, total.params, _classes(head)),
        Claim(table, model, quantity, flops, total.mmcv, convention),
    ]


def _classes(head: str) -> str:
    return f"parameters, {HEADS[head].num_classes} classes"


def _table_4() -> list[Claim]:
    """The composite detectors; the table prints no FLOPs."""
    how = (
        f"{_classes('dino')}; two backbones that share the stem, six 1x1 convolutions across, four "
        "scale vectors"
    )
    h, xl = (
        Claim("Table 4", f"dino, InternImage-{name}", "parameters", printed, _dino(name, 2), how)
        for name, printed in (("H", "2.18B"), ("XL", "602M"))
    )
    alone = parse_network("XL").feature_maps(224).cost.params
    single, of_l = _dino("XL", 1) / 1e6, _dino("L", 2) / 1e6
    tried = (
        f"the composite that gives H's figure has {xl.computed / 1e6:.1f}M for XL; one backbone "
        f"{single:.1f}M; a composite of L {of_l:.1f}M. Two backbones of XL alone have "
        f"{2 * alone / 1e6:.1f}M, so a part of the second is missing or shared"
    )
    return [replace(xl, tried=tried), h]


def _dino(name: str, backbones: int) -> int:
    maps = parse_network(name).feature_maps(224)
    return count(maps, "dino", two_backbones=backbones == 2).params
