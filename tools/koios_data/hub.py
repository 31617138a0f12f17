"""Fetching from the Hugging Face hub: its own client, its own defaults, its own cache rules."""

import re
import shutil

from koios_tool import ToolError, line_of_deck

from . import say, say_deck, tables, whole

ALPACA = "tatsu-lab/alpaca"
OPENWEBTEXT = "Skylion007/openwebtext"
C4 = "allenai/c4"


def client():
    try:
        import huggingface_hub.errors
    except ImportError:
        raise ToolError("huggingface_hub is not installed: "
                      "pip install -r tools/requirements-data.txt") from None
    return huggingface_hub


def explained(repository, action):
    """Runs a call of the client; what goes wrong becomes one clear line."""
    hub = client()
    errors = hub.errors
    try:
        return action(hub)
    except errors.GatedRepoError:
        reason = (f"access to {repository} was refused: it is restricted. Accept its licence on its "
                  "page with your account, make a token there, and give it by --token or HF_TOKEN")
    except errors.RepositoryNotFoundError:
        reason = (f"{repository} was refused or does not exist (401 or 404). Check the name; a "
                  "private or restricted one needs --token or HF_TOKEN")
    except errors.LocalEntryNotFoundError as error:  # before what it is a kind of
        reason = f"{repository}: the hub cannot be reached: {first_line(error)}"
    except errors.EntryNotFoundError as error:
        reason = f"{repository} has no such file: {first_line(error)}"
    except errors.RevisionNotFoundError as error:
        reason = f"{repository} has no such revision: {first_line(error)}"
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else "no answer"
        if code in (401, 403):
            reason = (f"access to {repository} was refused ({code}): the token is missing, wrong, or "
                      "not allowed to read it; give one by --token or HF_TOKEN")
        else:
            reason = f"{repository}: the hub answered {code}: {first_line(error)}"
    except errors.HFValidationError as error:
        reason = first_line(error)
    except Exception as error:  # the client's own, those of the network and of the disk among them
        reason = (f"{repository}: {type(error).__name__}: {first_line(error)}; start again to go on "
                  "where it stopped")
    raise ToolError(reason) from None


def first_line(error):
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def pin(repository, options, kind="dataset"):
    """Settles the commit: all files are of that one, also where the repository moves on meanwhile."""
    info = explained(repository, lambda hub: hub.HfApi(token=options.token).repo_info(
        repository, repo_type=kind, revision=options.revision))
    options.revision = info.sha
    say(f"{repository} at commit {info.sha} (--revision gets the same again)")


def files_of(repository, options):
    pin(repository, options)
    return explained(repository, lambda hub: hub.HfApi(token=options.token).list_repo_files(
        repository, repo_type="dataset", revision=options.revision))


def fetch(repository, names, folder, options, kind="dataset"):
    """One file after the other; those that are there whole already are left as they are."""
    for number, name in enumerate(names, 1):
        say(f"{number} of {len(names)}: {name}")
        explained(repository, lambda hub: hub.hf_hub_download(
            repository, name, repo_type=kind, revision=options.revision, local_dir=folder,
            token=options.token))
    return [folder / name for name in names]


def fetch_alpaca(options):
    names = [n for n in files_of(ALPACA, options) if n.endswith((".parquet", "alpaca_data.json"))]
    if not names:
        raise ToolError(f"{ALPACA} no longer holds Parquet files or alpaca_data.json")
    paths = fetch(ALPACA, names, options.out / "hub", options)
    target = options.out / "alpaca_data.json"
    array = [path for path in paths if path.name == "alpaca_data.json"]
    if array:
        with whole(target) as part:
            shutil.copyfile(array[0], part)
    else:
        tables.write_alpaca(paths, target)
    say_deck("alpaca", target)


def first_files(names, count):
    names = sorted(names)
    return names if count is None else names[:count]


def fetch_openwebtext(options):
    names = files_of(OPENWEBTEXT, options)
    archives = [n for n in names if re.search(r"urlsf_subset\d+\.tar$", n)]
    if archives:
        paths = fetch(OPENWEBTEXT, first_files(archives, options.files), options.out, options)
        say_deck("openwebtext", paths[0].parent)
        return
    parquet = [n for n in names if n.endswith(".parquet")]
    if not parquet:
        raise ToolError(f"{OPENWEBTEXT} no longer holds urlsf_subset*.tar or Parquet files")
    paths = fetch(OPENWEBTEXT, first_files(parquet, options.files), options.out / "hub", options)
    tables.write_json_lines(paths, options.out, 100000)
    say_deck("jsonl", options.out)


def fetch_c4(options):
    names = files_of(C4, options)
    train = [n for n in names if re.fullmatch(r"en/c4-train\.\d+-of-\d+\.json\.gz", n)]
    held_out = [n for n in names if re.fullmatch(r"en/c4-validation\.\d+-of-\d+\.json\.gz", n)]
    if not train:
        raise ToolError(f"{C4} no longer holds en/c4-train.*.json.gz")
    wanted = first_files(train, options.files)
    few = len(wanted) < len(train)
    paths = fetch(C4, wanted + first_files(held_out, 1 if few else None), options.out, options)
    folder = paths[0].parent
    if held_out:
        # A glob where only some are there: of a folder Koios asks for all.
        say_deck("c4", f"{folder}/c4-validation.*" if few else folder, "validation")
    say_deck("c4", f"{folder}/c4-train.*" if few else folder)


def fetch_tokenizer(options):
    pin(options.repository, options, kind="model")
    paths = fetch(options.repository, ["tokenizer.model"], options.out.parent / "hub", options,
                  kind="model")
    with whole(options.out) as part:
        shutil.copyfile(paths[0], part)
    say(f"for the deck:\n\n[model]\n{line_of_deck('tokenizer_path', options.out)}\n")
