"""Small data sets on disk in the layouts of COCO and ADE20K."""

import json

import numpy as np
from PIL import Image

CROWD = {"size": [20, 30], "counts": [100, 40, 460]}
TRIANGLE = [[2, 2, 12, 2, 2, 14]]
CATEGORIES = [{"id": 90, "name": "owl"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


def picture(path, height=20, width=30, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def row(number, image, category=7, bbox=(2, 2, 10, 12), segmentation=TRIANGLE, **fields):
    """An annotation; ``fields`` replace or add keys."""
    return {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox),
            "area": 60, "iscrowd": 0, "segmentation": segmentation, **fields}  # fmt: skip


def split(numbers, rows):
    """The annotations of images of 20x30 pixels."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 30, "height": 20} for n in numbers]
    return {"images": images, "annotations": rows, "categories": CATEGORIES}


def annotations():
    """Three training images, the last without objects, and two test images, likewise."""
    train = [
        row(1, 11),
        row(2, 12, 90, (5, 4, 20, 10), [[5, 4, 25, 4, 25, 14, 5, 14]]),
        row(3, 11, 3, (5, 0, 3, 20), CROWD, iscrowd=1),
    ]
    return {"train2017": split((11, 12, 13), train), "val2017": split((21, 22), [row(9, 22)])}


def write_coco(folder, content=None):
    """Write the images, and the annotations unless ``content`` gives others."""
    for name, part in (content or annotations()).items():
        for image in part["images"]:
            picture(folder / name / image["file_name"])
        path = folder / "annotations" / f"instances_{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(part))
    return folder


def write_ade20k(folder, counts=(("training", 3), ("validation", 2))):
    random = np.random.default_rng(0)
    for part, count in counts:
        for i in range(count):
            picture(folder / "images" / part / f"{i}.jpg")
            values = random.integers(0, 151, (20, 30), np.uint8)
            path = folder / "annotations" / part / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return folder
