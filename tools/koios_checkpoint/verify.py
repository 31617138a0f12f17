"""What is wrong with a file, dataset by dataset: each sum computed anew, each shape compared."""

from . import ToolError
from .checkpoint_file import HDF5_ERRORS, MOMENTS, ROOT_ATTRIBUTES, STATE_ATTRIBUTES, one_line


def _expected_shapes(checkpoint):
    shapes = checkpoint.sizes().shapes()
    expected = {checkpoint.parameter_path(name): shape for name, shape in shapes.items()}
    if not checkpoint.is_weights_only:
        for moment in MOMENTS:
            expected |= {f"/optimizer/{moment}/{name}": shape for name, shape in shapes.items()}
    return expected


def _missing(needed, attributes, where):
    return [f"{where} has no attribute {name}" for name in needed if name not in attributes]


def _check_array(checkpoint, path, expected, problems):
    """Returns the bytes looked at."""
    try:
        array = checkpoint.array(path)
        if path in expected and array.shape != expected[path]:
            problems.append(f"{path} is {array.shape}, the deck in the file says {expected[path]}")
        found = array.computed_checksum()
        if found != array.checksum:
            problems.append(f"{path} is damaged: its checksum says {array.checksum:#018x}, its "
                            f"data give {found:#018x}")
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
        problems += _missing(STATE_ATTRIBUTES, checkpoint.train_state(), "/train_state")
    paths = checkpoint.dataset_paths()
    problems += [f"{path} is missing" for path in expected if path not in set(paths)]
    size = sum(_check_array(checkpoint, path, expected, problems) for path in paths)
    return len(paths), size, problems
