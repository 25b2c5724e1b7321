"""C of a PTX module: a function for each entry point and device function, and tables of what a launch must know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.gpu.standin import control, memory
from tests.gpu.standin.arithmetic import C_TYPES, computation
from tests.gpu.standin.ptx import Block, Function, Label, Module, Refused, Statement, Variable, plain, variable_of

GAP = 64  # bytes between shared variables, which belong to none
SPECIAL = {
    **{f"%{name}.{axis}": f"t->{name}[{i}]" for name in ("tid", "ntid", "ctaid", "nctaid") for i, axis in enumerate("xyz")},
    "%laneid": "t->lane", "%warpid": "t->warp", "%nwarpid": "((t->ntid[0] * t->ntid[1] * t->ntid[2] + 31) / 32)",
    "%clock": "(uint32_t)standin_clock()", "%clock64": "standin_clock()", "%globaltimer": "standin_clock()",
    "%lanemask_eq": "(1u << t->lane)", "%lanemask_lt": "((1u << t->lane) - 1)", "%lanemask_le": "(~0u >> (31 - t->lane))",
    "%lanemask_gt": "(~0u << t->lane << 1)", "%lanemask_ge": "(~0u << t->lane)", "WARP_SZ": "32u",
}  # fmt: skip
WORD = r"[\w$]+"
FLOAT_BITS = re.compile(r"0([fF])([0-9a-fA-F]{8})|0([dD])([0-9a-fA-F]{16})")
NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+)U?")


@dataclass
class Scope:
    """What one block declares."""

    registers: dict[str, str] = field(default_factory=dict)  # PTX name or its beginning, with "<", to its type
    used: dict[str, str] = field(default_factory=dict)  # name in C to its type in C
    memory: dict[str, Variable] = field(default_factory=dict)  # .local and .param variables
    labels: dict[str, str] = field(default_factory=dict)
    tables: dict[str, list[str]] = field(default_factory=dict)  # of branches


class Layout:
    """Where variables of one kind of memory stand, one after the other."""

    def __init__(self, gap: int = 0) -> None:
        self.size, self.gap, self.places = 0, gap, dict[str, tuple[int, int]]()

    def place(self, variable: Variable) -> int:
        begin = -(-self.size // variable.align) * variable.align
        self.places[variable.name] = begin, variable.size
        self.size = begin + variable.size + self.gap
        return begin

    def map(self) -> str:
        taken = bytearray(-(-self.size // 4))
        for begin, size in self.places.values():
            taken[begin // 4 : -(-(begin + size) // 4)] = b"\1" * (-(-(begin + size) // 4) - begin // 4)
        return ", ".join(str(byte) for byte in taken) or "0"


class FunctionWriter:
    """Writes one function, statement by statement."""

    def __init__(self, module: ModuleWriter, function: Function) -> None:
        self.module, self.function = module, function
        self.scopes: list[Scope] = []
        self.place = function.line, 0  # the line of a statement, and how many stand on it before
        self.text = ""
        self.count = 0

    def body(self) -> str:
        if self.function.body is None:
            return ""
        return "\n".join(self._block(self.function.body))

    def refuse(self, why: str = "is not known to the stand-in") -> Refused:
        return Refused(self.place[0], self.text, why)

    @property
    def site(self) -> int:
        """The statement's number in C: its line, and above 20 bits its place in the line."""
        return self.place[0] | self.place[1] << 20

    def fresh(self, name: str) -> str:
        self.count += 1
        return f"{name}_{self.count}"

    def _block(self, block: Block) -> list[str]:
        scope = Scope()
        self.scopes.append(scope)
        depth = len(self.scopes)
        for item in block.items:
            if isinstance(item, Label):
                scope.labels[item.name] = self.fresh("l_" + plain(item.name))
            elif isinstance(item, Statement) and ".branchtargets" in item.text:
                scope.tables[self._label_before(block, item)] = re.findall(WORD, item.text.split(".branchtargets")[1])
        lines = []
        for item in block.items:
            if isinstance(item, Label):
                lines.append(f"{scope.labels[item.name]}:;")
            elif isinstance(item, Block):
                lines += self._block(item)
            else:
                lines += self._statement(item, scope)
        poison = {"float": "float_of(~0u)", "double": "double_of(~0ull)"}
        declarations = [
            f"{type_} {name} = {'{~0ull}' if name.endswith(']') else poison.get(type_, '~0')};"
            for name, type_ in scope.used.items()
        ]
        self.scopes.pop()
        return ["{", *declarations, *lines, "}"] if depth > 1 else [*declarations, *lines]

    @staticmethod
    def _label_before(block: Block, statement: Statement) -> str:
        label = block.items[block.items.index(statement) - 1]
        assert isinstance(label, Label)
        return label.name

    def _statement(self, statement: Statement, scope: Scope) -> list[str]:
        self.place = (statement.line, self.place[1] + 1 if statement.line == self.place[0] else 0)
        self.text = statement.text
        text = statement.text
        if text.startswith("."):
            self._directive(statement, scope)
            return []
        match = re.match(r"@(!?)\s*(%?[\w$]+)\s+(.*)$", text, re.DOTALL)
        if match:
            guard = self.read(match[2], "pred")
            inner = self._instruction(match[3])
            return [f"if ({match[1]}{guard}) {{ {' '.join(inner)} }}"]
        return self._instruction(text)

    def _directive(self, statement: Statement, scope: Scope) -> None:
        text = statement.text
        if match := re.match(r"\.reg\s+(?:\.v\d\s+)?\.(\w+)\s+(.*)$", text, re.DOTALL):
            if match[1] not in C_TYPES or ".v" in text.split(".reg")[1][:4]:
                raise self.refuse()
            for name in match[2].split(","):
                counted = re.fullmatch(r"\s*(%?[\w$]+)\s*(<\s*\d+\s*>)?\s*", name)
                if counted is None:
                    raise self.refuse()
                scope.registers[counted[1] + ("<" if counted[2] else "")] = match[1]
        elif re.match(r"\.(local|param)\b", text):
            variable = variable_of(statement)
            scope.memory[variable.name] = variable
            if variable.space == "local":
                self.module.local.place(variable)
            else:
                scope.used[f"c_{plain(variable.name)}[{-(-variable.size // 16) * 2}]"] = "uint64_t"
        elif text.startswith(".shared"):
            variable = variable_of(statement)
            self.module.shared.place(variable)
        elif not re.match(r"\.(pragma|branchtargets)\b", text):
            raise self.refuse()

    def _instruction(self, text: str) -> list[str]:
        match = re.match(r"([\w.:]+)\s*(.*)$", text, re.DOTALL)
        if match is None:
            raise self.refuse()
        opcode, operands = match[1], list(_operands(match[2]))
        for known in (memory.statement, control.statement):
            lines = known(self, opcode, operands)
            if lines is not None:
                return lines
        return self._computation(opcode, operands)

    def _computation(self, opcode: str, operands: list[str]) -> list[str]:
        if match := re.fullmatch(r"(add|sub)(c?)((?:\.cc)?)\.[us](32|64)", opcode):
            return self._carry(*match.groups(), operands)
        found = computation(opcode)
        if found is None or len(operands) != 1 + len(found.operands):
            raise self.refuse()
        value = found.write([self.read(operand, type_) for operand, type_ in zip(operands[1:], found.operands, strict=True)])
        if "|" in operands[0]:  # setp p|q
            first, second = operands[0].split("|")
            name = self.fresh("flag")
            return [f"{{ int {name} = {value}; {self.write(first, 'pred', name)} {self.write(second, 'pred', '!' + name)} }}"]
        return [self.write(operands[0], found.result, value)]

    def _carry(self, operation: str, takes: str, leaves: str, bits: str, operands: list[str]) -> list[str]:
        if not takes and not leaves:
            value = computation(f"{operation}.u{bits}")
            assert value is not None
            return [self.write(operands[0], f"u{bits}", value.write([self.read(part, f"u{bits}") for part in operands[1:]]))]
        a, b = (self.read(part, f"u{bits}") for part in operands[1:])
        out = "&t->carry" if leaves else "&(uint32_t){0}"
        call = f"{operation}_cc_u{bits}({a}, {b}, {'t->carry' if takes else 0}, {out})"
        return [self.write(operands[0], f"u{bits}", call)]

    # ---- operands ----

    def register(self, name: str) -> tuple[str, str] | None:
        """A register's name in C and its type in PTX."""
        for depth, scope in reversed(list(enumerate(self.scopes))):
            counted = re.match(r"(.*?)(\d+)$", name)
            type_ = scope.registers.get(name) or (counted and scope.registers.get(counted[1] + "<"))
            if type_:
                in_c = f"r{depth}_{plain(name)}"
                scope.used[in_c] = C_TYPES[type_]
                return in_c, type_
        return None

    def label(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope.labels:
                return scope.labels[name]
        raise self.refuse("names a label that is not there")

    def table(self, name: str) -> list[str]:
        for scope in reversed(self.scopes):
            if name in scope.tables:
                return scope.tables[name]
        raise self.refuse("names a table that is not there")

    def in_function(self, name: str) -> Variable | None:
        for scope in reversed(self.scopes):
            if name in scope.memory:
                return scope.memory[name]
        return None

    def read(self, operand: str, type_: str) -> str:
        """An operand's value as an expression of this type."""
        operand = operand.strip()
        if operand.startswith("!"):
            return f"!{self.read(operand[1:], 'pred')}"
        found = self.register(operand)
        if found:
            return _as_type(found[0], found[1], type_)
        if match := FLOAT_BITS.fullmatch(operand):
            bits, of = (match[2], "b32") if match[1] else (match[4], "b64")
            return _as_type(f"0x{bits}{'u' if of == 'b32' else 'ull'}", of, type_)
        if NUMBER.fullmatch(operand):
            number = int(operand.rstrip("U"), 0)
            if type_[0] == "f":
                return f"({C_TYPES[type_]}){number}"
            return f"(({C_TYPES[type_]}){number % (1 << 64)}ull)" if type_ != "pred" else str(int(number != 0))
        if type_[0] == "f" and re.fullmatch(r"-?\d+\.\d*(?:[eE][-+]?\d+)?", operand):
            return f"({C_TYPES[type_]}){operand}"
        if operand in SPECIAL:
            return f"(({C_TYPES[type_]}){SPECIAL[operand]})"
        address = self.symbol(operand)
        if address is not None:
            return f"(({C_TYPES[type_]})({address}))"
        raise self.refuse(f"has an operand {operand!r} that is not known to the stand-in")

    def symbol(self, name: str) -> str | None:
        """The address of a variable, in its own space."""
        if name in self.module.shared.places:
            return f"{self.module.shared.places[name][0]}ull"
        if name in self.module.dynamic:
            return f"((uint64_t)t->static_shared + {self.module.dynamic[name]}ull)"
        if name in self.module.local.places and self.in_function(name):
            return f"{self.module.local.places[name][0]}ull"
        if name in self.module.globals:
            return f"address_{self.module.globals[name]}"
        if self.function.entry and name in self.module.parameters:
            return f"{self.module.parameters[name]}ull"
        return None

    def write(self, operand: str, type_: str, value: str) -> str:
        """The statement that leaves a value of this type in a register."""
        operand = operand.strip()
        if operand == "_":
            return f"(void)({value});"
        found = self.register(operand)
        if found is None:
            raise self.refuse(f"writes to {operand!r}, which is no register")
        return f"{found[0]} = {_as_type(f'({C_TYPES[type_]})({value})', type_, found[1])};"


class ModuleWriter:
    """Writes a whole module."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.shared, self.local = Layout(GAP), Layout()
        self.dynamic: dict[str, int] = {}
        self.globals: dict[str, int] = {}
        self.parameters: dict[str, int] = {}
        self.functions = {function.name: function for function in module.functions if not function.entry}
        for variable in module.variables:
            if variable.space == "shared" and variable.size:
                self.shared.place(variable)
            elif variable.space == "shared":
                self.dynamic[variable.name] = 0
            elif variable.space in ("global", "const"):
                self.globals[variable.name] = len(self.globals)
            else:
                raise Refused(0, f".{variable.space} {variable.name}", "stands outside of functions")

    def text(self) -> str:
        parts = ['#include "arithmetic.h"', '#include "device.h"', *self._globals()]
        device = [function for function in self.functions.values() if function.body]
        parts += [f"{_signature(function)};" for function in device]
        parts += [self._function(function) for function in device]
        entries = [function for function in self.module.functions if function.entry]
        parts += [self._function(function) for function in entries]
        shared = -(-self.shared.size // 16) * 16
        parts.append(f"static const uint8_t shared_map[] = {{{self.shared.map()}, 0, 0, 0, 0}};")
        parts.append(f"static const Kernel kernels[] = {{{', '.join(self._kernel(f, shared) for f in entries)}}};")
        known = len(self.globals)
        parts.append(
            f"PUBLIC const StandinModule standin_module = {{kernels, {len(entries)}, {'globals' if known else '0'}, {known}}};"
        )
        return "\n".join(parts) + "\n"

    def _globals(self) -> Iterator[str]:
        found = [variable for variable in self.module.variables if variable.name in self.globals]
        for variable in found:
            number = self.globals[variable.name]
            yield f"static uint64_t address_{number};"
            values = variable.initial or bytes(variable.size)  # PTX: zero where nothing is said
            yield f"static const uint8_t initial_{number}[] = {{{', '.join(str(byte) for byte in values)}}};"
        rows = (
            f'{{"{variable.name}", &address_{i}, {variable.size}, {variable.align}, initial_{i}}}'
            for i, variable in enumerate(found)
        )
        if found:
            yield f"static const Global globals[] = {{{', '.join(rows)}}};"

    def _function(self, function: Function) -> str:
        self.parameters, self.layout = {}, Layout()
        if function.entry:
            self.parameters = {variable.name: self.layout.place(variable) for variable in function.parameters}
        writer = FunctionWriter(self, function)
        return f"{_signature(function)} {{\n{writer.body()}\n}}"

    def _kernel(self, function: Function, shared: int) -> str:
        layout, most = Layout(), function.limits.get("maxntid", function.limits.get("reqntid", 1024))
        places = [(variable, layout.place(variable)) for variable in function.parameters]
        rows = ", ".join(f'{{"{variable.name[-40:]}", {place}, {variable.size}}}' for variable, place in places)
        return (
            f'{{"{function.name}", k_{plain(function.name)}, (const Parameter[]){{{rows or "{0}"}}}, {len(places)}, '
            f"{layout.size}, {shared}, {self.local.size}, {most}, shared_map}}"
        )


def c_of(module: Module) -> str:
    """The whole C text."""
    return ModuleWriter(module).text()


def _signature(function: Function) -> str:
    if function.entry:
        return f"static void k_{plain(function.name)}(Thread *t)"
    buffers = [f"uint64_t *c_{plain(variable.name)}" for variable in (*function.results, *function.parameters)]
    return f"static void d_{plain(function.name)}({', '.join(['Thread *t', *buffers])})"


def _operands(text: str) -> Iterator[str]:
    """Parts between commas, but for those in brackets of any kind."""
    depth, part = 0, ""
    for char in text:
        depth += (char in "{[(") - (char in "}])")
        if char == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += char
    if part.strip():
        yield part.strip()


def _as_type(value: str, of: str, to: str) -> str:
    """A value of one type as another of the same bits, or of fewer or more where both are integers."""
    if of == to or (of[0] == to[0] == "f"):
        return value
    if "pred" in (of, to):
        return f"({C_TYPES[to]})({value})" if of == "pred" else f"(({value}) != 0)"
    if to == "f32":
        return f"float_of((uint32_t)({value}))"
    if to == "f64":
        return f"double_of((uint64_t)({value}))"
    if of == "f32":
        return f"({C_TYPES[to]})bits_of({value})"
    if of == "f64":
        return f"({C_TYPES[to]})wide_bits_of({value})"
    return f"({C_TYPES[to]})({value})"
