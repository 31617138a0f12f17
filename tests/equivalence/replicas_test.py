"""The same training on copies of the model, each sharded over its own ranks: losses against 1 rank's and
against shards over all ranks, traffic, validation, a restart bit for bit, checkpoints that change the
mesh both ways, and what is said of nodes.
"""

import re
import shutil
import subprocess
import unittest

from koios_run import BINARY, MeshTest, Run, keys

GLOBAL_BATCH = 8
STEPS = 20
EXACT = ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss", "grad_norm",
         "data/samples_hash", "tokens_seen")


def settings(replicas=1, shards=1, tp=1, micro_batches=1, **more):
    out = {"model/dim": 64, "model/n_heads": 8, "model/n_kv_heads": 4, "model/ffn_dim": 88,
           "activation_checkpoint/mode": "none", "optimizer/lr": 2e-3, "training/steps": STEPS,
           "training/batch_size": GLOBAL_BATCH // (replicas * shards * micro_batches),
           "training/gradient_accumulation_steps": micro_batches,
           "training/tensor_parallel_degree": tp,
           "training/data_parallel_replicate_degree": replicas}
    return out | keys(**more)


class Replicas(MeshTest):
    @classmethod
    def prepare(cls):
        text = cls.workplace.path / "held_out.txt"
        text.write_text("\n\n".join(f"{i} and {i + 1} are numbers." for i in range(2000)))
        cls.held_out = {"validation__dataset_path": text, "validation__interval": 10,
                        "validation__steps": 2}
        cls.one = cls.run_of("one", **cls.held_out)
        cls.shards = cls.run_of("shards", shards=4, **cls.held_out)
        cls.copies = cls.run_of("copies", replicas=2, shards=2, **cls.held_out)

    @classmethod
    def run_of(cls, folder, replicas=1, shards=1, tp=1, stages=1, **more):
        options = settings(replicas, shards, tp, **more)
        options["training/pipeline_parallel_degree"] = stages
        return cls.workplace.train(replicas * shards * tp * stages, options, folder)

    def assert_traffic(self, run):
        self.assertEqual(run.traffic("plan"), run.traffic("measured"))
        planned, measured = re.findall(r"replica traffic \w+ per rank and step: (.*)", run.stdout)
        self.assertEqual(planned, measured)
        self.assertGreater(int(re.search(r"all-reduce ([\d,]+)", planned)[1].replace(",", "")), 0)

    def test_losses_do_not_depend_on_the_mesh(self):
        self.assertLess(self.one.losses()[-1], self.one.losses()[0] - 0.5)
        self.assert_traffic(self.copies)
        for key in ("loss_metrics/global_avg_loss", "validation_metrics/loss", "grad_norm"):
            self.assert_close(self.copies, self.one, "2 x 2 against 1 rank", key)
            self.assert_close(self.copies, self.shards, "2 x 2 against 4 shards", key)
        for key in ("tokens_seen", "data/samples_hash"):
            self.assertEqual(self.copies.column(key), self.one.column(key), key)
        for name, mesh in (("4x1", {"replicas": 4}),
                           ("micro", {"replicas": 2, "shards": 2, "micro_batches": 2}),
                           ("late", {"replicas": 2, "shards": 2, "micro_batches": 2,
                                     "training__reduce_every_micro_batch": "false"}),
                           ("tp", {"replicas": 2, "shards": 2, "tp": 2}),
                           ("stages", {"replicas": 2, "stages": 2, "micro_batches": 4})):
            run = self.run_of(name, **mesh)
            self.assert_close(run, self.one, name)
            self.assert_traffic(run)
            if "tp" in mesh:
                self.assertEqual(run.tensor_traffic("plan"), run.tensor_traffic("measured"))

    def test_recomputation_changes_no_bit(self):
        run = self.run_of("full", replicas=2, shards=2, activation_checkpoint__mode="full")
        for key in EXACT:
            self.assertEqual(self.copies.column(key), run.column(key), key)

    def test_checkpoints_change_the_mesh_and_lose_no_bit(self):
        # Each start continues the one before, from step 5, 10 and 15; the copies twice.
        saving = {"checkpoint__folder": "checkpoints", "checkpoint__interval": 5,
                  "checkpoint__save_first_step": "false"}
        first = self.run_of("changes", replicas=2, shards=2, **saving)
        for key in EXACT:
            self.assertEqual(first.column(key), self.copies.column(key), key)
        folder = self.workplace.path / "changes"

        def continue_from(step, **mesh):
            for file in (folder / "checkpoints").glob("step_*.h5"):
                if int(file.stem.split("_")[1]) > step:
                    file.unlink()
            return self.run_of("changes", **mesh, **saving)

        again = continue_from(10, replicas=2, shards=2)
        self.assertIn("step 10, written on 4 ranks = pp 1 x dp 2 x 2", again.stdout)
        rows = again.rows()[STEPS:]
        self.assertEqual([row["step"] for row in rows], list(range(11, STEPS + 1)))
        for key in EXACT:  # every copy got the bits of the one that was saved
            self.assertEqual([row[key] for row in rows], self.copies.column(key)[10:], key)

        shutil.rmtree(folder / "checkpoints")
        (folder / "metrics.jsonl").unlink()
        continue_from(0, shards=4)
        changed = continue_from(5, replicas=2, shards=2)
        self.assertIn("step 5, written on 4 ranks = pp 1 x dp 4 x cp 1", changed.stdout)
        changed = continue_from(10, tp=2)
        self.assertIn("step 10, written on 4 ranks = pp 1 x dp 2 x 2", changed.stdout)
        changed = continue_from(15, replicas=4)
        self.assertIn("step 15, written on 2 ranks = pp 1 x dp 1 x cp 1 x tp 2", changed.stdout)
        self.assert_close(changed, self.one, "4 shards, 2 x 2, tp 2, 4 copies")

    def run_on_nodes(self, ranks, ranks_of_a_node, options):
        """The ranks take themselves for ones of different nodes, as NCCL would."""
        command = self.workplace.command(ranks, options, folder="nodes")
        at = command.index(BINARY)
        command[at:at] = ["sh", "-c", "NCCL_HOSTID=node$((OMPI_COMM_WORLD_RANK "
                          f"{ranks_of_a_node})) exec \"$@\"", "sh"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return Run(done, None).stdout

    def test_what_crosses_nodes_is_said(self):
        short = {"training__steps": 1}
        text = self.run_on_nodes(4, "/ 2", settings(2, 2, **short))
        self.assertIn("2 nodes (node0: ranks 0, 1; node1: ranks 2, 3)", text)
        self.assertIn("shard groups within a node, replicas over 2 nodes", text)
        self.assertNotIn("warning", text)
        text = self.run_on_nodes(4, "% 2", settings(2, 2, **short))
        self.assertIn("warning: shard groups cross nodes and need not: ranks 0 and 1 are on node0 "
                      "and node1; place ranks node by node", text)
        text = self.run_on_nodes(4, "/ 2", settings(1, 4, **short))
        self.assertIn("training/data_parallel_replicate_degree = 2 would keep shard groups within "
                      "a node", text)

    def test_what_does_not_divide_is_said(self):
        run = self.workplace.run(4, settings(3, 1), folder="odd")
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("data_parallel_replicate_degree = 3: does not divide the data-parallel "
                      "degree 4", run.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
