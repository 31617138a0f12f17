"""What Koios' Python tools share: a failure is one line, and a hostile file harms nobody."""

import io
import os
import re
import signal
import stat
import sys
import traceback

GIB = 1 << 30
LFS_POINTER = b"version https://git-lfs"


class ToolError(Exception):
    """Something the user can mend; the text says how, in one line."""


def printable(text):
    """Control characters as \\x1b: a name or a text from a file must not steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]",
                  lambda found: found[0].encode("unicode_escape").decode(), str(text))


def say(*values, **options):
    print(*map(printable, values), **{"flush": True, **options})


def line_of_deck(key, path):
    """In a deck $ begins a variable, ~ before a path a home folder, and # or ; after a blank a
    comment; blanks around a value are no part of it, and one in quotes is refused."""
    text = str(path)
    if re.search(r"\s[#;]|\s$", text):
        return (f'# {key}: a deck has no place for {path}, because of the " #", the " ;" or the '
                "blank at the end: rename it")
    folder = "./" if text.startswith(tuple("~#;'\" ")) else ""
    return f"{key} = {folder}" + text.replace("$", "\\$")


def one_line(error):
    """A library's message, which may have many lines, or none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 500 else text[:497] + "..."


def run(name, action):
    """Runs a tool's action; every way it can fail ends in one line and the exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    # What is half written is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Also when started in the background by a script, where interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        action()
        sys.stdout.flush()
        return
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as of "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except ToolError as error:
        reason = str(error)
    except OSError as error:
        reason = (f"{error.filename}: {error.strerror}" if error.filename and error.strerror
                  else one_line(error))
    except MemoryError:
        reason = "there is not enough memory for this"
    except Exception as error:  # noqa: BLE001
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = (f"{type(error).__name__}: {one_line(error)} ({os.path.basename(at.filename)}:"
                  f"{at.lineno}); this is a fault of the tool: please report this line")
    sys.exit(f"{name}: error: {printable(' '.join(reason.splitlines()))}")


def open_to_read(path, follow_links=True):
    """Opens a file; pipes and devices, which may hang or never end, are refused."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_links else os.O_NOFOLLOW)
    if not follow_links and os.path.islink(path):
        raise ToolError(f"{path} is a link; put the file itself there")
    descriptor = os.open(path, flags)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise ToolError(f"{path} is {'a folder' if stat.S_ISDIR(mode) else 'not a file'}")
    return os.fdopen(descriptor, "rb")


def read_file(path, most_bytes, what):
    """All of a file that is expected to be small."""
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most_bytes:
            raise ToolError(f"{path} is {size:,} bytes; {what} has at most {most_bytes:,}")
        data = file.read(most_bytes)
    refuse_pointer(path, data)
    return data


def refuse_pointer(path, begin):
    if begin.startswith(LFS_POINTER):
        raise ToolError(f"{path} is a Git LFS pointer, not the file itself: fetch it with "
                        "`git lfs pull`")
