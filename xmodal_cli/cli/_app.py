"""All commands put together: one file each, one line here. Importing it loads typer and nothing heavy."""

from __future__ import annotations

import typer

from xmodal_cli import __version__

app = typer.Typer(
    name="xmodal",
    help="Pictures and words: train matchers, evaluate them as the papers do, search photos with a sentence.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"xmodal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


from xmodal_cli.cli import caption, data, demo, doctor, features, index, models, search, train  # noqa: E402
from xmodal_cli.cli import eval as eval_  # noqa: E402 - the commands need the app above

app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("eval")(eval_.evaluate)
app.command("features")(features.features)
app.command("index")(index.index)
app.command("search", cls=search.SearchCommand)(search.search)
app.command("caption")(caption.caption)
app.add_typer(models.app, name="models")
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
