#!/usr/bin/env python3
"""Checks that the source tree keeps its layers: check_layers.py [ROOT]

Which module may include which is the table ALLOWED below; every other edge is an error. Beside
that: library headers stay where their module is, the backend's #if stay in the modules that have
a backend, sources are ASCII and short. Prints file:line: message, exits 1 if there is any.
"""

import re
import sys
from pathlib import Path

# module -> modules it may include (itself is understood)
ALLOWED = {
    "core": "",
    "config": "core",
    "runtime": "core",
    "kernels": "core runtime",
    "comm": "core runtime",
    "data": "core config runtime",
    "shard": "core runtime comm kernels",
    "model": "core config runtime comm kernels shard",
    "pipeline": "core runtime comm shard model",
    "optim": "core config runtime comm kernels shard",
    "checkpoint": "core config runtime comm",
    "metrics": "core config runtime comm",
    "measure": "core runtime comm kernels",
    "train": "core config runtime comm data kernels shard model pipeline optim checkpoint metrics "
             "measure",
}
ALLOWED = {module: set(names.split()) | {module} for module, names in ALLOWED.items()}
ALLOWED["app"] = set(ALLOWED) | {"app"}

# A public kernel header shows refs and a stream, nothing else of the runtime.
KERNEL_HEADER_RUNTIME = {"runtime/stream.hpp", "runtime/backend.hpp"}

# library header -> the modules whose sources may include it
DEVICE_HEADER = re.compile(r"Kokkos|cuda|cublas|cudnn|nvtx|nccl")
DEVICE_MODULES = {"kernels", "runtime", "comm"}
MPI_MODULES = {"runtime", "comm", "checkpoint", "measure", "metrics", "train", "app"}
BACKEND_MACRO = re.compile(r"#\s*(?:if|ifdef|ifndef|elif)\b.*\b(?:KOIOS_CUDA|KOKKOS_ENABLE_\w+|"
                           r"__CUDACC__|__CUDA_ARCH__)\b")
BACKEND_MODULES = {"runtime", "comm", "kernels"}
# The one place outside where the CUDA compiler is asked about: it defines KOIOS_HOST_DEVICE.
BACKEND_EXCEPTIONS = {"lib/core/host_device.hpp"}

MAX_LINES = 500
SOURCES = {".cpp", ".hpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')


def is_public_header(path):
    """Not in a detail/ folder and not the CUDA half of something, which only a .cpp may include."""
    return path.suffix == ".hpp" and "detail" not in path.parts and not path.stem.endswith("_cuda")


def module_of(path):
    parts = path.parts
    return parts[1] if parts[0] == "lib" else parts[0]


def check_quoted(module, path, include):
    target = include.split("/")[0]
    if "/" not in include:
        return f'"{include}" is not written with its module, like "comm/mesh.hpp"'
    if target not in ALLOWED[module]:
        names = ", ".join(sorted(ALLOWED[module] - {module})) or "the standard library only"
        return f'{module} may not include "{include}" (it may include: {names})'
    if include.startswith("kernels/detail/") and module != "kernels":
        return f'"{include}" is private to kernels/'
    if is_public_header(path) and include.endswith("_cuda.hpp"):
        return f'"{include}" in a public header: only a .cpp may include it'
    if (module == "kernels" and is_public_header(path) and target == "runtime"
            and include not in KERNEL_HEADER_RUNTIME):
        return f'a public kernel header may not include "{include}" (of runtime only the stream)'
    return None


def check_library(module, path, include):
    if DEVICE_HEADER.match(include):
        if module not in DEVICE_MODULES:
            return f"<{include}> belongs to runtime, comm and kernels"
        if is_public_header(path):
            return (f"<{include}> in a public header: keep Kokkos and CUDA types in the .cpp, in detail/ "
                    "or in a *_cuda.hpp")
    if include == "mpi.h" and module not in MPI_MODULES:
        return f"<mpi.h> does not belong to {module}: use comm/communicator.hpp"
    if include == "hdf5.h" and module != "checkpoint":
        return "<hdf5.h> belongs to checkpoint"
    return None


def check_file(root, path):
    """Yields (line, message)."""
    module = module_of(path)
    text = (root / path).read_bytes()
    if module not in ALLOWED:
        yield 1, f"module {module} is not in the table of {Path(__file__).name}"
        return
    lines = text.decode("utf-8", "replace").splitlines()
    if len(lines) > MAX_LINES:
        yield len(lines), f"{len(lines)} lines; the ceiling is {MAX_LINES}: split it by duty"
    for number, line in enumerate(lines, 1):
        if not line.isascii():
            yield number, "not ASCII"
        found = INCLUDE.match(line)
        if found and found[1]:
            message = check_quoted(module, path, found[1])
        elif found:
            message = check_library(module, path, found[2])
        elif (module not in BACKEND_MODULES and path.as_posix() not in BACKEND_EXCEPTIONS
              and BACKEND_MACRO.search(line)):
            message = "an #if on the backend belongs to runtime, comm and kernels"
        else:
            message = None
        if message:
            yield number, message


def check_tree(root):
    """Returns (files checked, ["file:line: message", ...])."""
    root = Path(root)
    files = sorted(path.relative_to(root) for folder in ("lib", "kernels", "app")
                   for path in (root / folder).rglob("*") if path.suffix in SOURCES)
    problems = [f"{path.as_posix()}:{line}: {message}"
                for path in files for line, message in check_file(root, path)]
    return len(files), problems


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2]
    count, problems = check_tree(root)
    print("\n".join(problems + [f"layers: {count} files, {len(problems)} problems"]))
    return 1 if problems or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
