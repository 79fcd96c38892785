"""The tree: each program has its four parts and a row in README, and no module does what none should."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PROGRAMS = sorted(path.name for path in (TOP / "bin").iterdir() if path.is_file())
MODULES = sorted(path for path in (TOP / "lib").rglob("*.py"))
SOURCES = [*(TOP / "bin" / name for name in PROGRAMS), *MODULES]
MODULE_MOST, FUNCTION_MOST = 300, 40  # lines


def name_of(path: Path) -> str:
    return str(path.relative_to(TOP))


every_program = pytest.mark.parametrize("program", PROGRAMS)
every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
every_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Yield every call and the dotted name of what is called."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def lines(path: Path, *nodes: ast.AST) -> list[str]:
    return [f"{name_of(path)}:{node.lineno}: {ast.unparse(node)[:80]}" for node in nodes]  # type: ignore[attr-defined]


# The programs


def test_there_are_programs() -> None:
    assert {"hotpair", "psync", "syncr", "syncr-receive"} <= set(PROGRAMS)


def test_each_module_of_cmd_is_a_program() -> None:
    modules = {path.stem for path in (TOP / "lib/hotpair/cmd").glob("*.py")} - {"__init__"}
    assert modules == {program.replace("-", "_") for program in PROGRAMS}


def test_each_man_page_of_section_8_is_of_a_program() -> None:
    assert sorted(path.stem for path in (TOP / "docs/man").glob("*.8")) == PROGRAMS


def test_the_programs_of_readme_are_those_there_are() -> None:
    text = (TOP / "README.md").read_text()
    table = re.search(r"^\| program \|.*\n\|[-|: ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table, "README.md has no table that begins with | program |"
    rows = re.findall(r"^\| *`([a-z-]+)[^`]*` *\|", table[1], re.MULTILINE)
    assert sorted(rows) == PROGRAMS


@every_program
def test_a_program_can_be_run(program: str) -> None:
    assert os.access(TOP / "bin" / program, os.X_OK)
    assert (TOP / "bin" / program).read_text().startswith("#!/usr/bin/python3 -IS\n")


@every_program
def test_a_program_says_in_its_first_words_which_it_is(program: str) -> None:
    for path in (TOP / "bin" / program, TOP / "lib/hotpair/cmd" / f"{program.replace('-', '_')}.py"):
        text = ast.get_docstring(tree(path))
        assert text, f"{name_of(path)} has no docstring"
        assert re.match(rf"{program}[ :]", text), f"{name_of(path)}: {text.splitlines()[0]}"


@every_program
def test_a_program_has_a_man_page_about_itself(program: str) -> None:
    page = (TOP / "docs/man" / f"{program}.8").read_text().replace("\\-", "-")
    assert re.search(rf"^\.(TH|Dt) \"?{program}\"? \"?8", page, re.MULTILINE | re.IGNORECASE), page[:200]


@every_program
def test_a_program_does_nothing_but_call_its_main_under_the_guard(program: str) -> None:
    path = TOP / "bin" / program
    assert len(path.read_text().splitlines()) <= 20
    assert "guard(main)" in path.read_text()
    assert not [node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@every_program
def test_a_program_is_named_in_a_test(program: str) -> None:
    tests = [path for path in (TOP / "tests").rglob("*.py") if path != Path(__file__)]
    assert any(f'"{program}"' in path.read_text() for path in tests)


# The modules


@every_module
def test_a_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@every_source
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MODULE_MOST


@every_source
def test_a_function_is_short(path: Path) -> None:
    every = [node for node in ast.walk(tree(path)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    long = {node.name: node.end_lineno - node.lineno + 1 for node in every if node.end_lineno}
    assert {name: length for name, length in long.items() if length >= FUNCTION_MOST} == {}


@every_source
def test_no_module_gives_anything_to_a_shell(path: Path) -> None:
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput"}
    bad = [call for call, name in calls(path) if name in shells]
    for call, _ in calls(path):
        for word in call.keywords:
            if word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False):
                bad.append(call)
    assert lines(path, *bad) == []


@every_source
def test_no_module_runs_text_as_code(path: Path) -> None:
    bad = [call for call, name in calls(path) if name in ("eval", "exec", "compile", "builtins.eval", "builtins.exec")]
    bad += [call for call, name in calls(path) if name.startswith(("pickle.load", "marshal.load", "yaml.load"))]
    assert lines(path, *bad) == []


@every_source
def test_no_failure_is_passed_over_in_silence(path: Path) -> None:
    """`except: pass` hides what was meant to be seen; contextlib.suppress says which failure is expected."""
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    empty = [node for node in handlers if all(_says_nothing(statement) for statement in node.body)]
    bare = [node for node in handlers if node.type is None]
    wide = [
        call
        for call, name in calls(path)
        if name in ("suppress", "contextlib.suppress")
        and {ast.unparse(word) for word in call.args} & {"Exception", "BaseException"}
    ]
    assert lines(path, *empty, *bare, *wide) == []


def _says_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


@every_source
def test_no_exit_is_a_bare_number(path: Path) -> None:
    exits = {"sys.exit", "os._exit", "exit", "quit", "SystemExit"}
    bad: list[ast.AST] = [call for call, name in calls(path) if name in exits and any(map(_number, call.args))]
    if path.parent.name == "cmd" or path.name == "exits.py":
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Constant(0)) == "int":
                bad += [
                    one for one in ast.walk(node) if isinstance(one, ast.Return) and one.value and _number(one.value)
                ]
    assert lines(path, *bad) == []


def _number(value: ast.expr) -> bool:
    if isinstance(value, ast.IfExp):
        return _number(value.body) or _number(value.orelse)
    if isinstance(value, ast.UnaryOp):
        return _number(value.operand)
    return isinstance(value, ast.Constant) and type(value.value) is int


@every_source
def test_nothing_in_the_programs_knows_of_tests(path: Path) -> None:
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert not {name for name in imported if name.partition(".")[0] in ("tests", "pytest", "hypothesis", "unittest")}


@pytest.mark.parametrize(
    "code, rule",
    [
        ("import subprocess\nsubprocess.run('ls', shell=True)", test_no_module_gives_anything_to_a_shell),
        ("import subprocess\nsubprocess.run('ls', shell=1)", test_no_module_gives_anything_to_a_shell),
        ("import os\nos.system('ls')", test_no_module_gives_anything_to_a_shell),
        ("eval('1')", test_no_module_runs_text_as_code),
        ("exec('1')", test_no_module_runs_text_as_code),
        ("try:\n    f()\nexcept OSError:\n    pass", test_no_failure_is_passed_over_in_silence),
        ("try:\n    f()\nexcept OSError:\n    ...", test_no_failure_is_passed_over_in_silence),
        ("try:\n    f()\nexcept:\n    g()", test_no_failure_is_passed_over_in_silence),
        ("with suppress(Exception):\n    f()", test_no_failure_is_passed_over_in_silence),
        ("import sys\nsys.exit(3)", test_no_exit_is_a_bare_number),
        ("import os\nos._exit(0)", test_no_exit_is_a_bare_number),
        ("raise SystemExit(1 if f() else 0)", test_no_exit_is_a_bare_number),
        ("\n" * 300, test_a_module_is_short),
        ("def f():\n" + "    g()\n" * 39, test_a_function_is_short),
        ("import pytest", test_nothing_in_the_programs_knows_of_tests),
        ("x = 1", test_a_module_says_what_it_is_for),
    ],
)
def test_a_rule_finds_what_breaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, rule: object) -> None:
    monkeypatch.setitem(globals(), "TOP", tmp_path)
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(AssertionError):
        rule(tmp_path / "bad.py")  # type: ignore[operator]
    (tmp_path / "bad.py").write_text('"""good: does nothing."""\n')
    rule(tmp_path / "bad.py")  # type: ignore[operator]
