"""PTX read into functions, variables and statements, each with the line where it stands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


class Refused(Exception):
    """Something that the stand-in does not know."""

    def __init__(self, line: int, text: str, why: str = "is not known to the stand-in") -> None:
        super().__init__(f"line {line}: `{' '.join(text.split())}` {why}")


@dataclass(frozen=True)
class Statement:
    """One instruction or directive, without its semicolon."""

    line: int
    text: str


@dataclass(frozen=True)
class Label:
    """Where a branch goes."""

    line: int
    name: str


@dataclass
class Block:
    """What stands between braces; its registers and labels are its own."""

    items: list[Statement | Label | Block] = field(default_factory=list)


@dataclass(frozen=True)
class Variable:
    """A variable with a place in memory: of a module, of a function, or a parameter."""

    name: str
    space: str
    align: int
    size: int
    initial: bytes | None = None


@dataclass(frozen=True)
class Function:
    """An entry point or a device function; one that is only declared has no body."""

    name: str
    entry: bool
    line: int
    results: tuple[Variable, ...]
    parameters: tuple[Variable, ...]
    limits: dict[str, int]
    body: Block | None


@dataclass(frozen=True)
class Module:
    """All of a PTX text."""

    variables: tuple[Variable, ...]
    functions: tuple[Function, ...]


SIZES = {"pred": 1} | {kind + str(bits): bits // 8 for kind in "busf" for bits in (8, 16, 32, 64)}
LINES_WITHOUT_END = re.compile(r"^[ \t]*\.(version|target|address_size|loc|file)\b.*$", re.MULTILINE)
VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|common|weak)\s+)*\.(?P<space>global|shared|const|local|param)\s+(?:\.align\s+(?P<align>\d+)\s+)?"
    r"(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?\.(?P<type>[busf]\d+)\s+(?:\.ptr\s*(?:\.\w+\s*)?(?:\.align\s+\d+\s+)?)?"
    r"(?P<name>[\w$%]+)\s*(?P<array>\[\s*(?P<count>\d*)\s*\])?\s*(?:=\s*(?P<initial>.*))?$",
    re.DOTALL,
)
HEADER = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.(?P<kind>entry|func)\s*(?:\((?P<results>[^)]*)\))?\s*(?P<name>[\w$]+)\s*"
    r"(?:\((?P<parameters>[^)]*)\))?(?P<rest>.*)$",
    re.DOTALL,
)


def parse(text: str) -> Module:
    """A module of a PTX text.

    Raises
    ------
    Refused
        With the line and its text.
    """
    reader = _Reader(_without_comments(text))
    variables, functions = [], []
    for item in reader.block(top=True).items:
        if isinstance(item, _Pending):
            functions.append(_function(item.header, item.block))
        elif isinstance(item, Statement) and re.search(r"\.(entry|func)\b", item.text):
            functions.append(_function(item, None))
        elif isinstance(item, Statement):
            variables.append(variable_of(item))
        else:
            raise Refused(getattr(item, "line", 0), "a label or block outside of functions")
    return Module(tuple(variables), tuple(functions))


def variable_of(statement: Statement) -> Variable:
    """The variable that a directive declares; one of unknown length has size 0."""
    match = VARIABLE.match(statement.text.strip())
    if match is None:
        raise Refused(statement.line, statement.text)
    width = SIZES[match["type"]]
    count = 1 if match["array"] is None else int(match["count"] or 0)
    size, initial = width * count, None
    if match["initial"]:
        values = [int(part, 0) for part in re.findall(r"-?\w+", match["initial"])]
        initial = b"".join((value % (1 << 8 * width)).to_bytes(width, "little") for value in values)
        size = size or len(initial)
        initial = initial.ljust(size, b"\0")
    return Variable(match["name"], match["space"], int(match["align"] or width), size, initial)


def plain(name: str) -> str:
    """A name of PTX as part of one in C."""
    return re.sub(r"\W", lambda match: f"_{ord(match[0])}_", name).lstrip("_")


@dataclass
class _Pending(Block):
    """A function's body with the header before it."""

    header: Statement = field(default_factory=lambda: Statement(0, ""))

    @property
    def block(self) -> Block:
        return Block(self.items)


class _Reader:
    """Splits a text at semicolons, braces and labels."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.line = text, 0, 1

    def block(self, top: bool = False) -> Block:
        """All up to the brace that closes this block."""
        block, pending, begin, depth = Block(), "", self.line, 0
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            self.line += char == "\n"
            if not pending.strip():
                begin, pending = self.line, pending.strip()
            if char == ";" and depth == 0:
                block.items.append(Statement(begin, pending.strip()))
                pending = ""
            elif char == "{" and depth == 0 and (not pending.strip() or re.search(r"\.(entry|func)\b", pending)):
                inner = self.block()
                header = Statement(begin, pending.strip())
                block.items.append(_Pending(inner.items, header) if header.text else inner)
                pending = ""
            elif char == "}" and depth == 0:
                if pending.strip() or top:
                    raise Refused(self.line, pending, "ends without a semicolon")
                return block
            elif char == ":" and depth == 0 and re.fullmatch(r"[\w$]+", pending.strip()) and self.text[self.at] != ":":
                block.items.append(Label(begin, pending.strip()))
                pending = ""
            else:
                depth += (char == "{") - (char == "}")
                pending += char
        if not top or pending.strip():
            raise Refused(begin, pending, "ends without a brace or semicolon")
        return block


def _function(header: Statement, body: Block | None) -> Function:
    match = HEADER.match(header.text)
    if match is None:
        raise Refused(header.line, header.text)
    limits = {name: int(value) for name, value in re.findall(r"\.(\w+)\s+(\d+)", match["rest"])}
    unknown = set(limits) - {"maxntid", "minnctapersm", "reqntid", "maxnreg"}
    if unknown or re.search(r"\.(?!maxntid|minnctapersm|reqntid|maxnreg)\w+", match["rest"]):
        raise Refused(header.line, match["rest"])
    results, parameters = (_parameters(header, match[part]) for part in ("results", "parameters"))
    return Function(match["name"], match["kind"] == "entry", header.line, results, parameters, limits, body)


def _parameters(header: Statement, text: str | None) -> tuple[Variable, ...]:
    parts = [part.strip() for part in (text or "").split(",")]
    return tuple(variable_of(Statement(header.line, part)) for part in parts if part)


def _without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", lambda match: "\n" * match[0].count("\n"), text, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    return LINES_WITHOUT_END.sub("", text)
