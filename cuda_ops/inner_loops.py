"""`python -m cuda_ops.inner_loops`: time of the CPU backend's inner loops against the memory floor.

The floor of the benchmark is the bytes of a call over the bandwidth of a large copy. Here the
innermost loops run on data that never leaves the L1 cache, without softmax, coordinates, conversion
or memory traffic: no call of this implementation can be faster. If they alone take longer than the
floor, the target of 2x (forward) or 3x (backward) leaves little or nothing for everything else.
float32, 9 points, 16 channels a group, one thread.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import torch

from cuda_ops.build import SOURCES, cpu_recipe
from cuda_ops.timing import Shape, bandwidth


def seconds_per_pair() -> dict[str, float]:
    """Least seconds per output pixel and group, by direction; builds the program first.

    Raises BuildError without a compiler, CalledProcessError if compiling or running fails.
    """
    recipe = cpu_recipe()  # the same compiler and flags as the backend
    with tempfile.TemporaryDirectory() as folder:
        program, source = str(Path(folder, "inner_loops")), str(SOURCES / "inner_loops.cpp")
        subprocess.run([*recipe.find_compiler(), *recipe.flags, source, "-o", program], check=True)
        output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: float(ns) * 1e-9 for name, ns in map(str.split, output.splitlines())}


def main() -> None:
    torch.set_num_threads(1)
    rate = bandwidth("cpu")
    pair = Shape("one pixel and group", 1, 1, 1, 1)
    print(f"copy {rate / 1e9:.1f} GB/s, vectors {torch.backends.cpu.get_cpu_capability()}")
    for name, seconds in seconds_per_pair().items():
        floor = pair.floor_bytes(name, 4) / rate
        print(
            f"{name:9} inner loops {seconds * 1e9:6.1f} ns, floor {floor * 1e9:6.1f} ns: "
            f"{seconds / floor:.2f}x"
        )


if __name__ == "__main__":
    main()
