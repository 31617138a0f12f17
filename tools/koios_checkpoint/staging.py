"""Output under a temporary name, synchronized and renamed when it is whole: complete or absent."""

import contextlib
import os
import shutil
import tempfile

from koios_tool import ToolError


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged(target, needed_bytes, is_folder):
    """Yields the temporary path to write to; it becomes `target` if the body ends well."""
    target = target.absolute()
    if os.path.lexists(target):  # a link to nothing too
        raise ToolError(f"{target} is there already: remove it or choose another name")
    if not target.parent.is_dir():
        raise ToolError(f"there is no folder {target.parent}: make it first")
    free = shutil.disk_usage(target.parent).free
    if needed_bytes > free:
        raise ToolError(f"{target} needs {needed_bytes / 2**30:.2f} GiB, "
                        f"{free / 2**30:.2f} GiB are free there")
    if not os.access(target.parent, os.W_OK):
        raise ToolError(f"cannot write to {target.parent}")
    # A folder of its own name each time: two conversions at once do not meet.
    scratch = tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent)
    try:
        path = type(target)(scratch, target.name)
        if is_folder:
            path.mkdir()
        yield path
        for file in sorted(path.rglob("*")) if is_folder else []:
            _sync(file)
        _sync(path)
        if os.path.lexists(target):
            raise ToolError(f"{target} has appeared meanwhile: choose another name")
        os.rename(path, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
