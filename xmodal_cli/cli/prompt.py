"""The prompt of ``xmodal search``: index and model stay loaded, each line is a query or a ``:command``."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.cli import hits, output
from xmodal_cli.cli.completion import COMMANDS, complete_by_tab
from xmodal_cli.cli.history import open_history
from xmodal_cli.cli.viewer import show
from xmodal_cli.errors import ConfigError, UnknownName, XmodalError, bug_lines, error_lines, is_debugging

if TYPE_CHECKING:
    from xmodal_cli.recipes.search import Searcher, SearchResult

PROMPT = "search> "
HELP = """\
two dogs running            photos of that; words that follow each other are one sentence
dog +snow -person           more of one thing, less of another
"a red ball"^0.5 dog        a term in quotes, at half the weight
holiday.jpg at night        photos like this one, at night

:open 3                     show the third photo
:k 20                       show 20 photos an answer
:index NAME                 search another index; without NAME, list them
:help                       this
:quit, Ctrl-D               leave"""


def run_prompt(index: str | None, num_hits: int) -> None:
    """Read and answer lines until the end of input or ``:quit``. Raises what opening the index raises."""
    with contextlib.closing(Prompt(index, num_hits)) as prompt, contextlib.closing(open_history()) as history:
        complete_by_tab()
        prompt.greet()
        while True:
            try:
                line = input(PROMPT).strip()
                history.add(line)
                if not prompt.take(line):
                    return
            except KeyboardInterrupt:  # the line is dropped, the prompt stays
                output.print_line()
            except (EOFError, OSError):  # Ctrl-D, or the terminal is gone
                output.print_line()
                return


def parse_command(line: str) -> tuple[str, str]:
    """``:open 3`` -> ("open", "3"); a command may be shortened. Raises UnknownName."""
    word, _, argument = line.removeprefix(":").strip().partition(" ")
    matching = [name for name in COMMANDS if name.startswith(word)]
    if not word or len(matching) != 1:
        raise UnknownName.of("command", f":{word}", [f":{name}" for name in COMMANDS])
    return matching[0], argument.strip()


class Prompt:
    """What a line does. ``take`` never raises for what is typed: whatever goes wrong is two lines, as everywhere."""

    def __init__(self, index: str | None, num_hits: int) -> None:
        if num_hits < 1:
            raise ConfigError(f"-k must be at least 1, not {num_hits}", "the default is 10")
        self._num_hits = num_hits
        self._last: SearchResult | None = None
        self._viewers: list[subprocess.Popen[bytes]] = []
        self._searcher = _open(index)

    def close(self) -> None:
        """Let go of the index."""
        self._searcher.close()

    def greet(self) -> None:
        """Say what is searched."""
        found = self._searcher
        text = f"{len(found):,} photos in the index {found.index_name}, model {found.model}; :help for help"
        output.print_line(output.printable(text))

    def take(self, line: str) -> bool:
        """Do what ``line`` says; False when it is to leave."""
        try:
            if line.startswith(":"):
                return self._command(*parse_command(line))
            self._ask(line)
        except KeyboardInterrupt:
            _print_error(error_lines("interrupted"))
        except XmodalError as error:
            _print_error(error_lines(error.message, error.hint))
        except Exception as error:  # a bug must not cost the session
            if is_debugging():
                traceback.print_exc()
            _print_error(bug_lines(error))
        return True

    def _command(self, name: str, argument: str) -> bool:
        if name == "quit":
            return False
        if name == "help":
            output.print_line(HELP)
        elif name == "open":
            self._open_photo(argument)
        elif name == "k":
            self._set_num_hits(argument)
        elif argument:
            self._change_index(argument)
            self._last = None
        else:
            self._list_indexes()
        return True

    def _ask(self, line: str) -> None:
        from xmodal_cli.retrieval.query_line import split_line

        if words := split_line(line):
            self._answer(words)

    def _answer(self, words: Sequence[str]) -> None:
        if not self._searcher.is_current():  # `xmodal index` has run meanwhile
            self._change_index(str(self._searcher.folder))
        start = time.perf_counter()
        self._last = self._searcher.search(words, self._num_hits)
        hits.print_hits(self._last, time.perf_counter() - start)
        hits.warn(self._last)

    def _open_photo(self, argument: str) -> None:
        found = self._last.hits if self._last is not None else ()
        if not found:
            raise ConfigError("there is no answer yet to open a photo of", "ask for something first")
        rank = _number(argument or "1", ":open 3")
        if rank > len(found):
            raise ConfigError(f"the last answer has {len(found)} photos, not {rank}", ":k 20 asks for more")
        self._viewers = [viewer for viewer in self._viewers if viewer.poll() is None]
        if (viewer := show(Path(found[rank - 1].path))) is not None:
            self._viewers.append(viewer)

    def _set_num_hits(self, argument: str) -> None:
        if not argument:
            output.print_line(f"{self._num_hits} photos an answer")
            return
        self._num_hits = _number(argument, ":k 20")
        if self._last is not None:  # who wants more wants more of this
            self._answer(self._last.query)

    def _change_index(self, name: str) -> None:
        other = _open(name)
        self._searcher.close()
        self._searcher = other
        self.greet()

    def _list_indexes(self) -> None:
        from xmodal_cli.retrieval.registry import names

        for name in names():
            output.print_line(output.printable(f"{'*' if name == self._searcher.index_name else ' '} {name}"))


def _open(index: str | None) -> Searcher:
    """The index, with its model loaded, so that the first answer is as quick as the others."""
    from xmodal_cli.recipes.search import open_searcher

    searcher = open_searcher(index, output.TerminalReporter())
    with contextlib.suppress(XmodalError):  # the first sentence will say what is wrong; pictures may do without
        searcher.search(["a photo"], 1)
    return searcher


def _number(argument: str, example: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", argument):
        raise ConfigError(f"{argument!r} is no number of photos", f"for example: {example}")
    return int(argument)


def _print_error(lines: Sequence[str]) -> None:
    output.print_error([output.printable(line) for line in lines])
