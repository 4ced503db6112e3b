"""The command line: one file per command, listed in ``app.COMMANDS``.

``fast_path`` answers plain searches before typer is loaded.
"""
