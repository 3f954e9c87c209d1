"""`python -m cuda_ops build` compiles the native backends; `python -m cuda_ops doctor` says which
backends are usable, and why the others are not."""

from __future__ import annotations

import argparse
import sys

import torch

from cuda_ops import build, native
from cuda_ops.doctor import report
from cuda_ops.toolchain import BuildError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cuda_ops", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="compile the native backends into the cache")
    builder.add_argument(
        "--backend",
        choices=("cpu", "cuda", "all"),
        help="default: cpu, and also cuda if --arch is given or a GPU is visible",
    )
    builder.add_argument(
        "--arch",
        help="compute capabilities for CUDA, such as 80,86,89,90; then no GPU is needed",
    )
    commands.add_parser("doctor", help="say which backends are usable, and why the others are not")
    options = parser.parse_args(arguments)
    if options.command == "doctor":
        return doctor()
    return build_backends(options.backend, options.arch)


def build_backends(backend: str | None, arch: str | None) -> int:
    """Builds the requested backends, loads them, and prints their paths. Returns 2 if one failed.

    A library that cannot be loaded is built again.
    """
    architectures = tuple(arch.split(",")) if arch else None
    with_cuda = backend in ("cuda", "all") or (
        backend is None and (arch is not None or torch.cuda.is_available())
    )
    failed = 0
    for name, is_requested in (("cpu", backend != "cuda"), ("cuda", with_cuda)):
        if not is_requested:
            continue
        try:
            recipe = build.cpu_recipe() if name == "cpu" else build.cuda_recipe(architectures)
            print(f"{name}: {native.load_library(recipe, even_if_rebuilt=True)}")
        except BuildError as error:
            print(f"{name}: not built. {error}", file=sys.stderr)
            failed = 2
    return failed


def doctor() -> int:
    """Prints what a bug report should contain."""
    for line in report():
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
