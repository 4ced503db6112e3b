"""A fake of ``recipes.search`` with two indexes of photos that are named after their content.

As a program: ``xmodal search`` on these indexes.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from xmodal_cli.errors import UnknownName
from xmodal_cli.recipes import search as recipe
from xmodal_cli.retrieval.query import parse_terms
from xmodal_cli.retrieval.search_result import Hit, SearchResult

INDEXES = {"colors": ("red", "green", "blue"), "animals": ("dog", "cat")}


class FakeSearcher:
    """A Searcher whose first hits are the photos that the query names. ``queries`` records its calls."""

    def __init__(self, name, folder):
        self.index_name, self.model, self.photos = name, "toy", folder
        self.folder = Path("/indexes", name)
        self.queries, self.closed, self.current = [], False, True

    def __len__(self):
        return len(INDEXES[self.index_name])

    def search(self, words, num_hits=10, fold=True):
        assert not self.closed
        parse_terms(words)
        self.queries.append((tuple(words), num_hits))
        text = " ".join(words)
        if "bug" in text:
            raise ZeroDivisionError("by nothing")
        names = sorted(INDEXES[self.index_name], key=lambda name: name not in text)[:num_hits]
        hits = tuple(Hit(n, str(self.photos / f"{name}.jpg"), 1 / n) for n, name in enumerate(names, 1))
        unknown = ("mauve",) if "mauve" in text else ()
        return SearchResult(self.index_name, "toy", "cosine", tuple(words), hits, len(self), 0, unknown)

    def is_current(self):
        return self.current

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def fake_open(folder, opened):
    """A fake ``open_searcher`` that appends its searchers to ``opened``."""

    def open_searcher(name=None, reporter=None, runtime="auto"):
        name = name and Path(name).name
        if name is not None and name not in INDEXES:
            raise UnknownName.of("index", name, INDEXES)
        opened.append(FakeSearcher(name or "colors", folder))
        return opened[-1]

    return open_searcher


if __name__ == "__main__":
    from xmodal_cli.__main__ import main

    if sys.stdin.isatty():
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C is sent to this process
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    recipe.open_searcher = fake_open(Path(sys.argv[1]), [])
    code = main(["search", *sys.argv[2:]])
    print("heavy:", [m for m in ("torch", "transformers", "open_clip", "torchvision") if m in sys.modules])
    sys.exit(code)
