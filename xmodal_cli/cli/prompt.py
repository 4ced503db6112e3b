"""The interactive prompt of ``xmodal search``. Index and model stay loaded; each line is a query or a ``:command``."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from xmodal_cli import interrupts
from xmodal_cli.cli import hits, output
from xmodal_cli.cli.completion import COMMANDS, enable_tab_completion
from xmodal_cli.cli.history import open_history
from xmodal_cli.errors import ConfigError, UnknownName, XmodalError, bug_lines, error_lines, is_debugging
from xmodal_cli.retrieval.search_options import SearchOptions

if TYPE_CHECKING:
    from xmodal_cli.recipes.search import Searcher
    from xmodal_cli.retrieval.search_result import SearchResult

PROMPT = "search> "
HELP = """\
two dogs running            consecutive words are one sentence
dog +snow -person           rank photos of snow higher, of persons lower
"a red ball"^0.5 dog        quotes make one term; ^0.5 gives it half the weight
holiday.jpg at night        photos similar to this one, at night

:open 3                     open the third photo
:k 20                       show 20 photos per query
:index NAME                 search another index; without NAME, list them
:help                       show this help
:quit, Ctrl-D               exit"""


def run_prompt(
    index: str | None, options: SearchOptions = SearchOptions(), preview: bool = False, runtime: str = "auto"
) -> None:
    """Read and run lines until the end of input or ``:quit``. Raises the errors of opening the index."""
    with (
        contextlib.closing(Prompt(index, options, preview, runtime)) as prompt,
        contextlib.closing(open_history()) as history,
    ):
        enable_tab_completion()
        prompt.print_index()
        while True:
            try:
                line = input(PROMPT).strip()
                history.add(line)
                if not prompt.run_line(line):
                    return
            except interrupts.Terminated:
                raise
            except KeyboardInterrupt:  # drops the line, keeps the prompt
                interrupts.forget()
                output.print_line()
            except (EOFError, OSError):  # Ctrl-D, or the terminal was closed
                output.print_line()
                return


def parse_command(line: str) -> tuple[str, str]:
    """``:open 3`` -> ("open", "3"); commands can be abbreviated. Raises UnknownName."""
    word, _, argument = line.removeprefix(":").strip().partition(" ")
    matching = [name for name in COMMANDS if name.startswith(word)]
    if not word or len(matching) != 1:
        raise UnknownName.of("command", f":{word}", [f":{name}" for name in COMMANDS])
    return matching[0], argument.strip()


class Prompt:
    """Runs the lines of the prompt. ``run_line`` prints errors instead of raising them."""

    def __init__(self, index: str | None, options: SearchOptions, preview: bool = False, runtime: str = "auto") -> None:
        options.check()
        self._options, self._preview, self._runtime = options, preview, runtime
        self._last: SearchResult | None = None
        self._viewers: list[subprocess.Popen[bytes]] = []
        self._searcher = _open_loaded(index, runtime)

    def close(self) -> None:
        """Close the index."""
        self._searcher.close()

    def print_index(self) -> None:
        """Print the number of photos, the index and the model."""
        searcher = self._searcher
        text = f"{len(searcher):,} photos in the index {searcher.index_name}, model {searcher.model}; :help for help"
        output.print_line(text)

    def run_line(self, line: str) -> bool:
        """Run one line, a query or a command; False for ``:quit``."""
        try:
            if line.startswith(":"):
                return self._run_command(*parse_command(line))
            self._run_query(line)
        except interrupts.Terminated:
            raise
        except KeyboardInterrupt:
            interrupts.forget()
            output.print_error([interrupts.message()])
        except XmodalError as error:
            output.print_error(error_lines(error.message, error.hint))
        except Exception as error:  # a bug must not end the session
            if is_debugging():
                traceback.print_exc()
            output.print_error(bug_lines(error))
        return True

    def _run_command(self, name: str, argument: str) -> bool:
        if name == "quit":
            return False
        if name == "help":
            output.print_text(HELP)
        elif name == "open":
            self._open_hit(argument)
        elif name == "k":
            self._set_num_hits(argument)
        elif argument:
            self._change_index(argument)
            self._last = None
        else:
            self._list_indexes()
        return True

    def _run_query(self, line: str) -> None:
        from xmodal_cli.retrieval.query_line import split_line

        if terms := split_line(line):
            self._search(terms)

    def _search(self, terms: Sequence[str]) -> None:
        if not self._searcher.is_current():  # `xmodal index` has updated it in the meantime
            self._change_index(str(self._searcher.folder))
        start = time.perf_counter()
        self._last = self._searcher.search(terms, self._options)
        hits.print_hits(self._last, time.perf_counter() - start)
        hits.print_warnings(self._last)
        if self._preview:
            from xmodal_cli.cli.preview import print_preview

            print_preview(self._last)

    def _open_hit(self, argument: str) -> None:
        if self._last is None or not self._last.hits:
            raise ConfigError("there are no results to open", "run a query first")
        rank = _parse_number(argument or "1", ":open 3")
        self._viewers = [viewer for viewer in self._viewers if viewer.poll() is None]
        from xmodal_cli.cli.hit_files import open_hit

        if (viewer := open_hit(self._last, rank, ":k")) is not None:
            self._viewers.append(viewer)

    def _set_num_hits(self, argument: str) -> None:
        if not argument:
            output.print_line(f"{self._options.num_hits} photos per query")
            return
        self._options = replace(self._options, num_hits=_parse_number(argument, ":k 20"))
        if self._last is not None:  # repeat the last query with the new number
            self._search(self._last.query)

    def _change_index(self, name: str) -> None:
        searcher = _open_loaded(name, self._runtime)
        self._searcher.close()
        self._searcher = searcher
        self.print_index()

    def _list_indexes(self) -> None:
        from xmodal_cli.retrieval.registry import names

        for name in names():
            output.print_line(f"{'*' if name == self._searcher.index_name else ' '} {name}")


def _open_loaded(index: str | None, runtime: str) -> Searcher:
    """Open the index and load its model, so that the first query is as fast as the others."""
    from xmodal_cli.recipes.search import open_searcher

    searcher = open_searcher(index, output.TerminalReporter(), runtime)
    with contextlib.suppress(XmodalError):  # raised again by the first sentence; photos may work without the model
        searcher.search(["a photo"], SearchOptions(num_hits=1))
    return searcher


def _parse_number(argument: str, example: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,6}", argument):
        raise ConfigError(f"{argument!r} is not a valid number", f"for example: {example}")
    return int(argument)
