"""``xmodal vectors``: indexes of vectors that were computed elsewhere, and the vectors of an index for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import IndexName, Json

app = typer.Typer(
    help="Index precomputed vectors, join indexes, or export the vectors of an index.", no_args_is_help=True
)


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with img_emb/*.npy and metadata, as of clip-retrieval.")
    ],
    index: Annotated[
        str | None, typer.Option("--index", metavar="INDEX", help="Index name or folder (default: the name of DIR).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="Model that computed the vectors, to search with sentences."),
    ] = None,
    recall: Annotated[
        float | None, typer.Option("--recall", metavar="R", help="Recall of searches in a large index (default: 0.99).")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="fp16|fp32", help="Precision of stored vectors (default: fp16).")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Replace an existing index.")] = False,
    json: Json = False,
) -> None:
    """Build a search index of precomputed image vectors. The photos are not read and need not exist.

    Examples:

      xmodal vectors import embeddings/ --index laion --model open_clip/ViT-B-32/laion2b_s34b_b79k

      xmodal vectors import embeddings/ --index laion --rebuild --recall 0.95
    """
    from xmodal_cli.cli.index_management import describe_calibration
    from xmodal_cli.inference.precomputed_vectors import index_vectors

    found = index_vectors(source, index, model, recall, rebuild, output.TerminalReporter(), store)
    if json:
        output.print_json(found)
        return
    model_name = found.model or "not known: give it with --model to search with sentences"
    output.print_line(f"index {found.index}: {found.photos:,} photos, vectors of {found.source}, model {model_name}")
    if found.calibration is not None:
        output.print_line(describe_calibration(found.calibration))


@app.command("commit")
def commit(
    sources: Annotated[list[str], typer.Argument(metavar="DIR...", help="Folders or names of the other indexes.")],
    index: Annotated[
        str, typer.Option("--index", metavar="INDEX", help="Index that gets the photos; created if it does not exist.")
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="M", help="Their model on this machine, if it has another name here."),
    ] = None,
    json: Json = False,
) -> None:
    """Add the photos and vectors of other indexes, such as those of other machines, to an index.

    Nothing is computed again, and photos are not read. All indexes must have been built by the same model. Of several
    photos with the same path the one with the latest modification time is kept. The command can be repeated at any
    time, also after DIR was updated; photos that were removed from DIR are removed by the next xmodal index.

    Examples:

      xmodal vectors commit parts/1 parts/2 parts/3 parts/4 --index archive

      xmodal vectors commit /mnt/laptop/indexes/family --index family --model runs/vse/model.safetensors
    """
    from xmodal_cli.inference.committed_indexes import join_indexes

    found = join_indexes(sources, index, model, output.TerminalReporter())
    if json:
        output.print_json(found)
        return
    kinds = ("added", "updated", "unchanged")
    changes = ", ".join(f"{getattr(found, kind):,} {kind}" for kind in kinds if getattr(found, kind))
    output.print_line(f"index {found.index}: {found.photos:,} photos ({changes or 'none'}), model {found.model}")


@app.command("export")
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="FILE.parquet, FILE.jsonl, or a folder for .npy files.")],
    index: IndexName = None,
    json: Json = False,
) -> None:
    """Write the vectors of an index with paths and captions, for vector databases and other programs.

    Examples:

      xmodal vectors export family.parquet --index family

      xmodal vectors export embeddings/ --index family
    """
    from xmodal_cli.retrieval import registry
    from xmodal_cli.retrieval.index import open_index
    from xmodal_cli.retrieval.vector_export import export_index

    folder = registry.find_index(index)
    with open_index(folder) as opened:
        found = export_index(opened, folder.name, out, output.TerminalReporter())
    if json:
        output.print_json(found)
    else:
        output.print_line(f"{found.out}: the vectors of {found.photos:,} photos, {found.dim} x {found.dtype}")
