"""``xmodal demo``: the whole road on the sample set, in about a minute."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_retrieval


def demo(as_json: options.Json = False) -> None:
    """Make pictures, train a matcher on them, evaluate it, index the test pictures and search them.

    Needs no network and no data. What was finished is not done again.

    Examples:

      xmodal demo

      xmodal demo --json
    """
    from xmodal_cli.recipes.demo import demo as run

    result = run(output.TerminalReporter())
    if as_json:
        made = {"run": str(result.run), "index": result.index["folder"], "picture": str(result.picture)}
        output.print_json({**made, "eval": result.test, "searches": result.searches})
        return
    counts = f"{result.test['images']} pictures, {result.test['captions']} captions"
    print_retrieval(f"test: {counts}", {"demo": result.test})
    for found in result.searches:
        ranks = [hit["rank"] for hit in found["hits"] if Path(hit["path"]).name == Path(found["right"]).name]
        place = f"the right picture is number {ranks[0]}" if ranks else "the right picture is not among the first"
        output.print_line(f'"{found["query"]}": {place}')
    output.print_line(f"\npicture of the results: {result.picture}")
    output.print_line("next:")
    output.print_line('  xmodal search "a red circle" --index demo')
    output.print_line("  xmodal train --model order-emb --data shapes")
    output.print_line("  xmodal data get f8k")
