"""data/document_mask with the real binary: the same losses on 1, 2 and 3 ranks, tensor-parallel and
with recomputed activations, in training and validation; others than without the mask; and the one
combination that is refused.
"""

import json
import os
import random
import subprocess
import unittest

from koios_run import MPIEXEC, SOURCE, Workplace

GLOBAL_BATCH = 12
STEPS = 6
LOSS_BOUND = 2e-4  # of the design: sums in another order


def write_documents(path):
    """The text of the tests cut into documents of 1 to 60 words: many borders in 96 tokens."""
    words = (SOURCE / "build/assets/kjv.txt").read_text()[:200_000].split()
    lengths = random.Random(3)
    with path.open("w") as file:
        while words:
            count = lengths.randint(1, 60)
            file.write(json.dumps({"text": " ".join(words[:count])}) + "\n")
            del words[:count]


class DocumentMask(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.workplace = Workplace().__enter__()
        cls.documents = cls.workplace.path / "documents.jsonl"
        write_documents(cls.documents)

    @classmethod
    def tearDownClass(cls):
        cls.workplace.__exit__()

    def run_koios(self, ranks, folder, **more):
        settings = {"training/dataset": "jsonl", "training/dataset_path": self.documents,
                    "training/batch_size": GLOBAL_BATCH // ranks, "training/seq_len": 96,
                    "training/steps": STEPS, "optimizer/lr": 2e-3, "data/document_mask": "true",
                    "validation/dataset": "jsonl", "validation/dataset_path": self.documents,
                    "validation/steps": 1}
        settings.update({key.replace("__", "/"): value for key, value in more.items()})
        return self.workplace.run(ranks, settings, folder=folder)

    def losses(self, *args, **more):
        run = self.run_koios(*args, **more)
        self.assertEqual(run.returncode, 0, run.output)
        self.assertEqual(len(run.losses()), STEPS)
        return run.losses() + [run.rows()[-1]["validation_metrics/loss"]]

    def test_losses_do_not_depend_on_the_ranks(self):
        one = self.losses(1, "np1")
        variants = {
            "2 ranks": self.losses(2, "np2"),
            "3 ranks": self.losses(3, "np3"),
            "3 ranks, 2 micro-batches": self.losses(
                3, "micro", training__gradient_accumulation_steps=2, training__batch_size=2,
                validation__steps=2),
            "2 ranks, tensor-parallel": self.losses(
                2, "tp2", training__batch_size=GLOBAL_BATCH, training__tensor_parallel_degree=2),
            "recomputed": self.losses(2, "full", activation_checkpoint__mode="full"),
        }
        for name, losses in variants.items():
            worst = max(abs(a - b) for a, b in zip(one, losses))
            print(f"1 rank against {name}: largest loss difference {worst:.2e}")
            self.assertLessEqual(worst, LOSS_BOUND, name)
        unmasked = self.losses(1, "unmasked", data__document_mask="false")
        self.assertGreater(max(abs(a - b) for a, b in zip(one, unmasked)), LOSS_BOUND)

    def test_a_token_file_has_the_same_documents(self):
        # In published order both sources cut the same tokens into the same samples.
        made = self.workplace.path / "documents.tokens"
        done = subprocess.run(
            [MPIEXEC, "--oversubscribe", "--bind-to", "none", "-np", "2",
             os.environ["KOIOS_TOKENIZE"], "training/dataset=jsonl",
             f"model/tokenizer_path={SOURCE / 'build/assets/tokenizer.model'}",
             f"training/dataset_path={self.documents}", "--output", str(made)],
            capture_output=True, text=True, timeout=100, check=False, cwd=self.workplace.path)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        text = self.losses(1, "text", data__shuffle="false")
        tokens = self.losses(1, "tokens", data__shuffle="false", training__dataset="tokens",
                             training__dataset_path=made)
        self.assertEqual(text, tokens)

    def test_cudnn_in_a_fixed_order_is_refused(self):
        run = self.run_koios(1, "refused", model__attention="cudnn", job__deterministic="true")
        self.assertNotEqual(run.returncode, 0)
        lines = [line for line in run.output.splitlines() if "cudnn" in line]
        self.assertEqual(len(lines), 1, run.output)
        self.assertIn("attention = cudnn is not deterministic", lines[0])


if __name__ == "__main__":
    unittest.main(verbosity=2)
