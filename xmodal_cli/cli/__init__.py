"""The command line: one file per command, listed in ``app.COMMANDS``.

``fast_path`` runs plain searches without importing typer.
"""
