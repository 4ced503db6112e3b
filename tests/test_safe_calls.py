"""Calls that could run code from a file or write outside a folder are not in the package; each ban is tested."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "xmodal_cli"
ROOT = PACKAGE.parent
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "examples").rglob("*.py")])
Argument = Callable[[ast.expr | None], bool]


def is_constant(value: object) -> Argument:
    return lambda node: isinstance(node, ast.Constant) and node.value is value


def is_given(node: ast.expr | None) -> bool:
    return node is not None


REQUIRED: dict[str, tuple[str, Argument]] = {  # a call's last names -> a keyword that it must have, and its value
    "torch.load": ("weights_only", is_constant(True)),
    "np.load": ("allow_pickle", is_constant(False)),
    "numpy.load": ("allow_pickle", is_constant(False)),
    "Image.open": ("formats", is_given),
}
ALLOWED: dict[str, object] = {"shell": False, "trust_remote_code": False, "allow_pickle": False}  # keywords of any call
FORBIDDEN_CALLS = ("eval", "exec", "compile", "os.system", "os.popen", "tempfile.mktemp", "yaml.load")
FORBIDDEN_METHODS = ("extractall",)
FORBIDDEN_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
ONLY_ERRORS = ("UnpicklingError", "PickleError")  # what may be used of them


def name_of(node: ast.expr) -> str:
    """``a.b.c`` for such an expression, ``?.c`` for the attribute ``c`` of any other one."""
    if isinstance(node, ast.Attribute):
        return f"{name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def violations(code: str) -> Iterator[str]:
    """The forbidden calls in code, with their lines."""
    for node in ast.walk(ast.parse(code)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Call):
            yield from (f"line {line}: {problem}" for problem in _call_problems(node))
        elif isinstance(node, ast.Attribute) and name_of(node.value) in FORBIDDEN_MODULES:
            if node.attr not in ONLY_ERRORS:
                yield f"line {line}: {name_of(node)}"
        elif isinstance(node, ast.ImportFrom) and (node.module or "") in FORBIDDEN_MODULES:
            yield f"line {line}: from {node.module}"
        elif isinstance(node, ast.Import):
            yield from (f"line {line}: {a.name} has another name" for a in node.names if _is_renamed(a))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ALLOWED and not _is_allowed(str(key.value), value):
                    yield f"line {line}: {key.value}"


def _is_renamed(alias: ast.alias) -> bool:
    return alias.name in FORBIDDEN_MODULES and alias.asname is not None


def _is_allowed(keyword: str, value: ast.expr) -> bool:
    return is_constant(ALLOWED[keyword])(value)


def _call_problems(call: ast.Call) -> Iterator[str]:
    name = name_of(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if name in FORBIDDEN_CALLS or name.rpartition(".")[2] in FORBIDDEN_METHODS:
        yield name
    for called, (keyword, is_right) in REQUIRED.items():
        if (name == called or name.endswith(f".{called}")) and not is_right(keywords.get(keyword)):
            yield f"{name} without {keyword}"
    yield from (f"{name} with {k}" for k in keywords if k in ALLOWED and not _is_allowed(k, keywords[k]))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_forbidden_call(file: Path) -> None:
    assert list(violations(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "np.load(file)",
        "np.load(file, allow_pickle=True)",
        "read(file, allow_pickle=True)",
        "Image.open(file)",
        "PIL.Image.open(file)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "archive.extractall(folder)",
        "open_tar(file).extractall(folder)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "options = {'trust_remote_code': True}",
        "pickle.load(stream)",
        "pickle.loads",
        "from pickle import load",
        "import pickle as p",
        "os.system(text)",
    ],
)
def test_a_planted_call_is_found(code: str) -> None:
    assert list(violations(code))


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(file, weights_only=True)",
        "np.load(file, allow_pickle=False)",
        "Image.open(file, formats=['PNG'])",
        "model.eval()",
        "load(name).eval()",
        "re.compile(pattern)",
        "except_ = pickle.UnpicklingError",
        "subprocess.run(command, shell=False)",
    ],
)
def test_a_safe_call_is_allowed(code: str) -> None:
    assert list(violations(code)) == []
