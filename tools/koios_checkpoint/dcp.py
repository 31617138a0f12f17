"""torchtitan's checkpoints: torch.distributed.checkpoint (DCP), flat names, tensor by tensor.

The names are the same on both sides, and so is the rotary order. This is the one part that needs
PyTorch: the format is Python's pickle of its classes.
"""

import warnings

from koios_tool import ToolError, one_line
from .element_types import STORED, convert, refuse_nonfinite
from .staging import staged


def _import_torch():
    """An installation may be absent, in pieces, or older than the parts that are used here."""
    try:
        import torch
        import torch.distributed.checkpoint as dcp
        for part in ("DefaultSavePlanner", "FileSystemWriter", "CheckpointException", "save"):
            getattr(dcp, part)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001: an import may raise anything
        raise ToolError("to-dcp needs PyTorch, which this Python does not have, or not in working "
                        f"order ({one_line(error)}): run it with the Python that torchtitan runs "
                        "in") from None
    return torch, dcp


def to_dcp(checkpoint, out, dtype=None):
    """Writes the folder `out`; returns the bytes of its tensors."""
    torch, dcp = _import_torch()
    arrays = dict(checkpoint.parameters())
    types = {name: dtype or array.dtype for name, array in arrays.items()}

    def tensor(name):
        stored = arrays[name].read()
        refuse_nonfinite(stored, arrays[name].dtype, arrays[name].where())
        bits = convert(stored, arrays[name].dtype, types[name], name)
        found = torch.from_numpy(bits)
        return found.view(torch.bfloat16) if types[name] == "bfloat16" else found

    class Streamed(dcp.DefaultSavePlanner):
        """The state dict holds shapes alone; each tensor is read when it is written."""

        def lookup_object(self, index):
            return tensor(index.fqn)

    shapes = {name: torch.empty(array.shape, dtype=getattr(torch, types[name]), device="meta")
              for name, array in arrays.items()}
    total = sum(array.dataset.size * STORED[types[name]].itemsize for name, array in arrays.items())
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    with staged(out, total, is_folder=True) as folder:
        # A file for each tensor: the writer keeps a file's tensors in memory until it is done.
        writer = dcp.FileSystemWriter(folder, single_file_per_rank=False)
        try:
            dcp.save(shapes, storage_writer=writer, planner=Streamed(), no_dist=True)
        except dcp.CheckpointException as error:
            cause = next(iter(error.failures.values()))[0]
            if isinstance(cause, (ToolError, MemoryError)):
                raise cause from None
            raise ToolError(f"PyTorch cannot write {out}; is the disk full, or a limit in the way? "
                            f"({one_line(cause)})") from None
    return total
