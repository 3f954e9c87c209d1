"""The images of a data set by split and class: ``train/CLASS/**`` and ``test/CLASS/**``.

The layout of `imagefolder:PATH` and of small images in `cifar10:PATH`. Images at any depth below a
class belong to it. What is left out is counted, and a class without an image is refused.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from archsearch.training.decoding import suffixes
from archsearch.training.file_tree import FileTree
from archsearch.training.images import DataError, Labels, printable, refuse

SPLITS = ("train", "test", "val")
"""``val`` is the test split where ``test`` has no images in classes."""

MAX_KINDS = 5
"""Kinds of files that a note counts, and folders that it names."""

ByClass = dict[str, list[str]]
"""Sorted keys of images by class; no keys for a class folder without images."""


@dataclass(frozen=True)
class Listing:
    """Classes, sorted, and the keys of the images of each; a label is the index of its class."""

    classes: tuple[str, ...]
    train: ByClass
    test: ByClass
    notes: tuple[str, ...]

    def keys(self, split: ByClass) -> list[str]:
        """The keys of a split in the order of its labels."""
        return [key for name in self.classes for key in split[name]]

    def labels(self, split: ByClass) -> Labels:
        counts = [len(split[name]) for name in self.classes]
        return np.repeat(np.arange(len(self.classes), dtype=np.int64), counts)


def listing(tree: FileTree) -> Listing:
    """The images in ``tree``.

    Raises:
        DataError: there are no training or no test images, or a class or a file is empty.
    """
    depth = _split_depth(tree)
    groups = _by_class(tree, depth)
    test = "test" if any(groups["test"].values()) else "val"
    names = tuple(sorted({*groups["train"], *groups[test]}))
    used = {split: groups[split] for split in ("train", test)}
    refuse(_empty_classes(tree, depth, used))
    keys = [key for classes in used.values() for images in classes.values() for key in images]
    refuse(_several_folders(tree, depth, keys))
    refuse([f"{tree.name(key)} is empty" for key in keys if tree.sizes[key] == 0])
    notes = (*_left_out(tree, depth, test), *_in_subfolders(keys, depth))
    return Listing(names, groups["train"], groups[test], notes)


def is_image(key: str) -> bool:
    return _suffix(key) in suffixes()


def _suffix(key: str) -> str:
    """``.png`` of ``train/cat/1.PNG``; empty for ``README`` and ``.png``."""
    stem, dot, suffix = key.rpartition("/")[2].rpartition(".")
    return (dot + suffix).lower() if stem and suffix else ""


def _split_depth(tree: FileTree) -> int:
    """How many folders the splits are below the source: the least depth that has both."""
    names: dict[int, set[str]] = {}
    images = [key.split("/") for key in tree.sizes if is_image(key)]
    for parts in images:
        for depth, name in enumerate(parts[:-2]):
            names.setdefault(depth, set()).add(name)
    for depth in sorted(names):
        if "train" in names[depth] and not names[depth].isdisjoint(("test", "val")):
            return depth
    folders = ", ".join(sorted({f"{parts[-3]}/" for parts in images if len(parts) >= 3}))
    kinds = f" ({_counts(map(_kind, tree.sizes))})" if tree.sizes and not folders else ""
    raise DataError(
        f"wrong layout in {printable(tree.source)}: wanted images in train/CLASS/ and in "
        f"test/CLASS/ or val/CLASS/, got {printable(folders) or f'no images there{kinds}'}"
    )


def _split_and_class(key: str, depth: int) -> tuple[str, str]:
    """The split and the class that a file is in, each empty if it is in none."""
    parts = key.split("/")
    if len(parts) < depth + 2 or parts[depth] not in SPLITS:
        return "", ""
    return parts[depth], parts[depth + 1] if len(parts) >= depth + 3 else ""


def _by_class(tree: FileTree, depth: int) -> dict[str, ByClass]:
    groups: dict[str, ByClass] = {split: {} for split in SPLITS}
    for key in sorted((*tree.sizes, *(f"{folder}/" for folder in tree.folders))):
        split, name = _split_and_class(key, depth)
        if name:
            images = groups[split].setdefault(name, [])
            images += [key] if key in tree.sizes and is_image(key) else []
    return groups


def _empty_classes(tree: FileTree, depth: int, groups: dict[str, ByClass]) -> list[str]:
    """A problem for every class that has no image in one of the splits."""
    problems = []
    for name in sorted({name for classes in groups.values() for name in classes}):
        if empty := [split for split, classes in groups.items() if not classes.get(name)]:
            inside = [(split, name) for split in empty]
            files = _counts(_kind(k) for k in tree.sizes if _split_and_class(k, depth) in inside)
            problems.append(
                f"{printable(tree.source)}: class '{printable(name)}' has no image in "
                f"{' and '.join(f'{split}/' for split in empty)}"
                + (f"; it has other files: {files}" if files else "")
            )
    return problems


def _several_folders(tree: FileTree, depth: int, keys: list[str]) -> list[str]:
    """A problem for a split in several folders: two data sets are not mixed by mistake."""
    folders: dict[str, set[str]] = {}
    for parts in (key.split("/") for key in keys):
        folders.setdefault(parts[depth], set()).add("/".join(parts[: depth + 1]))
    return [
        f"{printable(tree.source)} has several folders {split}/: "
        f"{', '.join(map(printable, sorted(paths)))}; give the path of one data set"
        for split, paths in folders.items()
        if len(paths) > 1
    ]


def _in_subfolders(keys: list[str], depth: int) -> list[str]:
    deeper = [parts[depth + 1] for key in keys if len(parts := key.split("/")) > depth + 3]
    names = _counts(f"in {printable(name)}" for name in deeper)
    return [f"images in sub-folders of a class belong to it: {names}"] if deeper else []


def _left_out(tree: FileTree, depth: int, test: str) -> list[str]:
    """What is left out: kinds of files by split, the unused split, and images elsewhere."""
    kinds: dict[str, list[str]] = {"train": [], test: []}
    unused, elsewhere = 0, Counter[str]()
    for key in sorted((*tree.sizes, *tree.left_out)):
        split, name = _split_and_class(key, depth)
        image = key in tree.sizes and is_image(key)
        if split in kinds:
            kinds[split] += [] if name and image else [tree.left_out.get(key, _kind(key))]
        elif split:
            unused += 1
        elif image:
            elsewhere[key.rpartition("/")[0]] += 1
    notes = [f"left out of {split}/: {_counts(kinds[split])}" for split in kinds if kinds[split]]
    if unused:
        other = "val" if test == "test" else "test"
        notes.append(f"left out: {unused:,} files in {other}/; the test split is {test}/")
    if elsewhere:
        folders = (f"{n:,} in {printable(k) or 'the folder itself'}" for k, n in elsewhere.items())
        notes.append(f"left out, images outside of the splits: {_joined(list(folders))}")
    return notes


def _kind(key: str) -> str:
    return "outside of a class" if is_image(key) else printable(_suffix(key)) or "without suffix"


def _counts(kinds: Iterable[str]) -> str:
    """``3 .txt, 1 hidden``, the most frequent kinds first."""
    return _joined([f"{number:,} {kind}" for kind, number in Counter(kinds).most_common()])


def _joined(texts: list[str]) -> str:
    rest = len(texts) - MAX_KINDS
    return ", ".join([*texts[:MAX_KINDS], *([f"and {rest:,} more"] if rest > 0 else [])])
