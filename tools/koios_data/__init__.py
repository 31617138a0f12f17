"""What tools/get_dataset.py is made of."""

import contextlib


class Failure(Exception):
    """Something that the user can mend; the text says how."""


@contextlib.contextmanager
def whole(target):
    """Yields the path to write to, which becomes `target` once it is written wholly."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def say(text):
    print(f"get_dataset: {text}", flush=True)


def say_deck(dataset, path, section="training"):
    say(f"for the deck:\n\n[{section}]\ndataset = {dataset}\ndataset_path = {path}\n")
