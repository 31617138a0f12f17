"""torchtitan's checkpoints: torch.distributed.checkpoint (DCP), flat names, tensor by tensor.

The names are the same on both sides, and so is the rotary order. This is the one part that needs
PyTorch: the format is Python's pickle of its classes.
"""

import warnings

from koios_tool import ToolError
from .element_types import STORED, convert, refuse_nonfinite
from .staging import staged


def _import_torch():
    try:
        import torch
        import torch.distributed.checkpoint as dcp
    except ImportError as error:
        raise ToolError(f"to-dcp needs PyTorch, which this Python does not have ({error}): run it "
                        "with the Python that torchtitan runs in") from None
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
            causes = [str(failure[0]) for failure in error.failures.values()]
            raise ToolError(f"{out}: {' '.join(causes[0].split())}") from None
    return total
