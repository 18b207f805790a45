"""Nothing in the platform executes what it reads: no pickle, no eval, no shell, no SQL put together from strings.

Ruff's rules of the group S look for the same; this looks without exceptions, and names each that is allowed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "shop_platform"

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
SHELLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn", "commands.getoutput",
}  # fmt: skip
LOADERS = {
    "torch.load",
    "yaml.load",
    "yaml.unsafe_load",
    "pd.read_pickle",
    "pandas.read_pickle",
}

#: DuckDB, in memory, on files of a mapping, which is SQL by design: whoever writes one may execute SQL in it anyway.
DUCKDB = {
    f"sources/{name}.py"
    for name in ("copies", "diagnosing", "examining", "hints", "mapped", "oddities", "quarantine", "textfiles")
}


def name_of(node: ast.expr) -> str:
    """A dotted name, such as `os.system`; of anything else the last part."""
    if isinstance(node, ast.Attribute):
        before = name_of(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return node.id if isinstance(node, ast.Name) else ""


def is_put_together(node: ast.expr) -> bool:
    """Whether a text is an f-string with values, `%`, `.format()` or a sum of such."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        by_percent = isinstance(node.op, ast.Mod) and isinstance(node.left, (ast.Constant, ast.JoinedStr))
        return by_percent or is_put_together(node.left) or is_put_together(node.right)
    if isinstance(node, ast.Call) and name_of(node.func).endswith("SQL"):
        return any(map(is_put_together, node.args))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # `sql.SQL("...").format(...)` composes quoted identifiers; `"...".format(...)` does not.
        return node.func.attr in ("format", "join") and (
            isinstance(node.func.value, ast.Constant) or is_put_together(node.func.value)
        )
    return False


def faults(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and kind of all that must not be."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in called(node))


def called(call: ast.Call) -> Iterator[str]:
    name = name_of(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in SHELLS | LOADERS or (isinstance(call.func, ast.Name) and name in BUILTINS):
        yield name
    if "shell" in keywords:
        yield "shell="
    allowed = keywords.get("allow_pickle")
    refused = isinstance(allowed, ast.Constant) and allowed.value is False
    if not refused and (allowed is not None or name in ("np.load", "numpy.load")):
        yield "allow_pickle"
    if "trust_remote_code" in keywords:
        yield "trust_remote_code"
    if name.rsplit(".")[-1] in ("execute", "executemany", "copy") and call.args and is_put_together(call.args[0]):
        yield "SQL by formatting"


def found(path: Path) -> set[str]:
    return {what for _, what in faults(ast.parse(path.read_text(encoding="utf-8")))}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_executes_what_it_reads(path: Path) -> None:
    allowed = {"SQL by formatting"} if str(path.relative_to(ROOT)) in DUCKDB else set()
    assert found(path) <= allowed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "eval('1')", "exec(x)", "os.system('ls')", "np.load(p)",
        "subprocess.run(x, shell=True)", "np.load(p, allow_pickle=True)", "torch.load(p)", "yaml.load(f)",
        "c.execute(f'SELECT {x}')", "c.execute('SELECT %s' % x)", "c.execute('SELECT {}'.format(x))",
        "c.execute('SELECT ' + f'{x}')", "c.execute(sql.SQL(f'SELECT {x}'))", "c.execute(', '.join(x))",
        "Model(p, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_such_code_is_found(code: str) -> None:
    assert list(faults(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "c.execute('SELECT %s', [x])", "c.execute(sql.SQL('SELECT {}').format(sql.Identifier(x)))", "c.execute(text)",
        "c.execute('a' 'b')", "model.eval()", "np.load(p, allow_pickle=False)", "re.compile('a')",
    ],
)  # fmt: skip
def test_other_code_is_not(code: str) -> None:
    assert not list(faults(ast.parse(code)))


def test_the_exceptions_are_needed_and_know_nothing_of_postgres() -> None:
    for name in DUCKDB:
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "SQL by formatting" in found(ROOT / name), f"{name} needs no exception"
        assert "psycopg" not in text, f"{name} talks to PostgreSQL"
