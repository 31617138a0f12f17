"""What tools/get_dataset.py is made of."""

import contextlib

from koios_tool import line_of_deck
from koios_tool import say as say_plain


@contextlib.contextmanager
def whole(target):
    """Yields the path to write to, which becomes `target` once it is written wholly."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)  # of an earlier run, or a link to something else
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def say(text):
    say_plain(f"get_dataset: {text}")


def say_deck(dataset, path, section="training"):
    say(f"for the deck:\n\n[{section}]\ndataset = {dataset}\n{line_of_deck('dataset_path', path)}\n")
