"""What tools/get_dataset.py is made of."""


class Failure(Exception):
    """Something that the user can mend; the text says how."""


def say(text):
    print(f"get_dataset: {text}", flush=True)


def say_deck(dataset, path, section="training"):
    say(f"for the deck:\n\n[{section}]\ndataset = {dataset}\ndataset_path = {path}\n")
