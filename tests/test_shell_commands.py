"""Commands in hints work when they are pasted into a shell."""

from __future__ import annotations

import shlex

from xmodal_cli import shell_commands
from xmodal_cli.shell_commands import install_command, xmodal_command


def test_words_are_quoted():
    assert xmodal_command("index", "/a/b") == "xmodal index /a/b"
    words = ["index", "/Urlaub & mehr/S\u00fcden", "--index", "my photos"]
    assert shlex.split(xmodal_command(*words)) == ["xmodal", *words]


def test_the_install_command_is_for_this_environment(monkeypatch):
    monkeypatch.setattr(shell_commands, "find_spec", lambda _: None)
    monkeypatch.setattr("sys.executable", "/env/bin/python")
    assert install_command("a>=1") == 'uv pip install --python /env/bin/python "a>=1"'
    monkeypatch.setattr(shell_commands, "find_spec", lambda _: object())
    assert install_command("a") == "/env/bin/python -m pip install a"
    monkeypatch.setattr("sys.executable", "/my env/bin/python")
    assert install_command("a") == '"/my env/bin/python" -m pip install a'
