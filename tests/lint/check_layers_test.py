#!/usr/bin/env python3
"""Shows that check_layers.py finds what it is there to find, and passes what is right."""

import tempfile
import unittest
from pathlib import Path

import check_layers


class CheckLayers(unittest.TestCase):
    def problems(self, **files):
        """files: path with __ for / and _DOT_ for ., as keyword -> content."""
        with tempfile.TemporaryDirectory() as root:
            for name, content in files.items():
                path = Path(root) / name.replace("__", "/").replace("_DOT_", ".")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content, encoding="utf-8")
            return check_layers.check_tree(root)[1]

    def assert_one(self, expected, **files):
        found = self.problems(**files)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_right_tree_passes(self):
        self.assertEqual([], self.problems(
            lib__comm__mesh_DOT_hpp='#include "core/error.hpp"\n#include <vector>\n',
            lib__comm__nccl_DOT_cpp='#ifdef KOIOS_CUDA\n#include <nccl.h>\n#endif\n',
            kernels__fill_DOT_cpp='#include "kernels/detail/launch.hpp"\n#include <Kokkos_Core.hpp>\n',
            lib__runtime__check_cuda_DOT_hpp="#include <cuda_runtime_api.h>\n",
            lib__comm__a_DOT_cpp='#include "runtime/check_cuda.hpp"\n',
            kernels__fill_DOT_hpp='#include "runtime/stream.hpp"\n',
            app__koios_DOT_cpp='#include "train/run_training.hpp"\n'))

    def test_upward_edge(self):
        self.assert_one('lib/core/a.hpp:2: core may not include "comm/mesh.hpp"',
                        lib__core__a_DOT_hpp='#pragma once\n#include "comm/mesh.hpp"\n')

    def test_every_edge_outside_the_table(self):
        modules = sorted(set(check_layers.ALLOWED) - {"app"})
        for module in modules:
            place = "kernels" if module == "kernels" else f"lib__{module}"
            for other in modules:
                found = self.problems(**{f"{place}__a_DOT_cpp": f'#include "{other}/b.hpp"\n'})
                self.assertEqual(bool(found), other not in check_layers.ALLOWED[module],
                                 f"{module} -> {other}: {found}")

    def test_table_has_no_cycle(self):
        done = set()
        waiting = {m: names - {m} for m, names in check_layers.ALLOWED.items()}
        while waiting:
            ready = {m for m, names in waiting.items() if names <= done}
            self.assertTrue(ready, f"cycle among {sorted(waiting)}")
            done |= ready
            waiting = {m: names for m, names in waiting.items() if m not in ready}

    def test_include_without_module(self):
        self.assert_one("not written with its module", lib__comm__a_DOT_cpp='#include "mesh.hpp"\n')

    def test_private_kernel_header(self):
        self.assert_one("private to kernels/",
                        lib__shard__a_DOT_cpp='#include "kernels/detail/launch.hpp"\n')

    def test_kernel_header_and_runtime(self):
        self.assert_one("of runtime only the stream",
                        kernels__a_DOT_hpp='#include "runtime/arena.hpp"\n')

    def test_device_types(self):
        self.assert_one("public header", lib__runtime__a_DOT_hpp="#include <cuda_runtime.h>\n")
        self.assert_one("belongs to runtime", lib__model__a_DOT_cpp="#include <Kokkos_Core.hpp>\n")

        self.assert_one("only a .cpp",
                        lib__comm__a_DOT_hpp='#include "runtime/check_cuda.hpp"\n')

    def test_mpi_and_hdf5(self):
        self.assert_one("<mpi.h>", lib__model__a_DOT_cpp="#include <mpi.h>\n")
        self.assert_one("<hdf5.h>", lib__train__a_DOT_cpp="#include <hdf5.h>\n")

    def test_backend_condition(self):
        self.assert_one("#if on the backend", lib__train__a_DOT_cpp="#if defined(KOIOS_CUDA)\n#endif\n")
        self.assert_one("#if on the backend", app__a_DOT_cpp="#  ifdef __CUDACC__\n#endif\n")

    def test_text(self):
        self.assert_one("a.cpp:2: not ASCII", lib__core__a_DOT_cpp="\n// \u2264\n")
        self.assert_one("501 lines", lib__core__a_DOT_cpp="\n" * 501)
        self.assert_one("not in the table", lib__misc__a_DOT_cpp="\n")


if __name__ == "__main__":
    unittest.main()
