"""What is wrong with a file, dataset by dataset: each sum computed anew, each shape compared."""

from koios_tool import ToolError, one_line

from .checkpoint_file import HDF5_ERRORS, MOMENTS, ROOT_ATTRIBUTES, STATE_ATTRIBUTES
from .checksum import checksum
from .element_types import STORED, count_nonfinite


def _expected_shapes(checkpoint):
    shapes = checkpoint.sizes().shapes()
    expected = {checkpoint.parameter_path(name): shape for name, shape in shapes.items()}
    if not checkpoint.is_weights_only:
        for moment in MOMENTS:
            expected |= {f"/optimizer/{moment}/{name}": shape for name, shape in shapes.items()}
    return expected


def _missing(needed, attributes, where):
    return [f"{where} has no attribute {name}" for name in needed if name not in attributes]


def _look_through(array, expects_numbers):
    """(checksum, how many values are NaN or infinite), in one reading."""
    found = nonfinite = 0
    row_elements = array.dataset.size // max(1, array.shape[0])
    for first, slab in array.slabs():
        found += checksum(slab, first * row_elements)
        if expects_numbers:
            nonfinite += count_nonfinite(slab, array.dtype)
    return found % (1 << 64), nonfinite


def _check_array(checkpoint, path, expected, problems):
    """Returns the bytes looked at."""
    try:
        array = checkpoint.array(path)
        if path in expected and array.shape != expected[path]:
            problems.append(f"{path} is {array.shape}, the deck in the file says {expected[path]}")
        found, nonfinite = _look_through(array, path in expected and array.dtype in STORED)
        if found != array.checksum:
            problems.append(f"{path} is damaged: its checksum says {array.checksum:#018x}, its "
                            f"data give {found:#018x}")
        elif nonfinite:
            problems.append(f"{path} is as it was written, but {nonfinite:,} of its values are NaN "
                            "or infinite")
        return array.bytes
    except ToolError as error:
        problems.append(str(error).removeprefix(f"{checkpoint.path}: "))
    except HDF5_ERRORS as error:
        problems.append(f"{path} cannot be read: {one_line(error)}")
    return 0


def verify(checkpoint):
    """(datasets, bytes, [problem, ...])"""
    problems = _missing(ROOT_ATTRIBUTES, checkpoint.attributes, "/")
    try:
        expected = _expected_shapes(checkpoint)
    except ToolError as error:
        problems.append(str(error).removeprefix(f"{checkpoint.path}: "))
        expected = {}
    if not checkpoint.is_weights_only:
        try:
            problems += _missing(STATE_ATTRIBUTES, checkpoint.train_state(), "/train_state")
        except ToolError as error:
            problems.append(str(error).removeprefix(f"{checkpoint.path}: "))
    paths = checkpoint.paths
    problems += [f"{path} is missing" for path in expected if path not in checkpoint.known_paths]
    size = sum(_check_array(checkpoint, path, expected, problems) for path in paths)
    return len(paths), size, problems
