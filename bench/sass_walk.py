"""Reads nvdisasm's text, and walks the way that one warp takes through a kernel.

A walk knows what the text itself says, which warp of which block it is, and the arguments that its caller names, but
nothing of memory: a register holds a number per lane or is unknown. Branches on what is known go where the GPU would,
so loops run as often as they do, and what only some of their iterations do is done in those. Of a branch on what is
unknown the side with the longest way to the kernel's end is taken; a loop that only an unknown predicate ends is left
after as many passes as the caller says, and where it does not say, after one, which the walk reports.
"""

import operator
import re
import struct
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat

LANES = 32
WORD = 0xFFFFFFFF


@dataclass
class Instruction:
    address: int
    guard: str  # "P0", "!P0"; "" without one
    opcode: str
    operands: list
    line: str = ""  # file:line, where the text says it
    control: int = 0  # bits 105 to 125 of the encoding
    target: int | None = None  # index of the instruction that it names

    def __post_init__(self):
        self.base, *self.parts = self.opcode.split(".")

    @cached_property
    def writes(self):
        return written(self)

    # What the compiler scheduled (Jia et al. 2018, "Dissecting the NVIDIA Volta GPU architecture", 2.1):
    @property
    def stall(self):
        """Cycles until the warp's next instruction may issue."""
        return self.control & 15

    @property
    def takes(self):
        """The scoreboards that are taken until the result is written, and until the operands are read; 7: none."""
        return self.control >> 5 & 7, self.control >> 8 & 7

    @property
    def waits(self):
        """The scoreboards that must be free before it issues."""
        return [i for i in range(6) if self.control >> 11 + i & 1]


@dataclass
class Kernel:
    name: str
    code: list = field(default_factory=list)


SECTION = re.compile(r"\s*\.section\s+\.text\.([^,\s]+)")
LABEL = re.compile(r"([.$\w]+):")
LINE = re.compile(r'\s*//## File "([^"]*)", line (\d+)')
ENCODING = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/")  # its second half, on a line of its own
INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[T\d]) )?\s*([^;]*?)\s*;")


def parse(text):
    """{mangled name: Kernel} of what nvdisasm -c -hex -g prints; without -hex no control, without -g no lines."""
    kernels, kernel, line, labels = {}, None, "", {}
    for row in text.replace(".reuse", "").splitlines():
        if m := INSTRUCTION.match(row):
            opcode, _, operands = m[3].partition(" ")
            kernel.code.append(
                Instruction(
                    int(m[1], 16),
                    m[2] or "",
                    opcode,
                    [o.strip() for o in operands.split(",")] if operands else [],
                    line,
                )
            )
        elif m := ENCODING.match(row):
            kernel.code[-1].control = int(m[1], 16) >> 41 & (1 << 21) - 1
        elif m := LINE.match(row):
            line = f"{m[1].rsplit('/', 1)[-1]}:{m[2]}"
        elif m := SECTION.match(row):
            kernel = kernels[m[1]] = Kernel(m[1])
            labels[m[1]] = {}
        elif kernel is not None and (m := LABEL.match(row)):
            labels[kernel.name][m[1]] = len(kernel.code)
    for kernel in kernels.values():
        for instruction in kernel.code:
            if instruction.operands and (m := re.fullmatch(r"`\(([^)]+)\)", instruction.operands[-1])):
                instruction.target = labels[kernel.name].get(m[1])
    return kernels


def width(instruction):
    """How many registers the result, or what is stored, takes."""
    base, parts = instruction.base, instruction.parts
    if base == "HMMA" or "128" in parts:
        return 4
    if base == "LDSM":
        return int(parts[-1]) if parts[-1].isdigit() else 1
    if base in ("SHF", "USHF", "I2F") or "SETP" in base:  # which name their operands' width
        return 1
    if (
        "64" in parts
        or "WIDE" in parts
        or base in ("DADD", "DMUL", "DFMA")
        or (base == "CS2R" and "32" not in parts)
        or (base == "F2I" and ("U64" in parts or "S64" in parts))
    ):
        return 2
    return 1


STORES = {
    "STG",
    "STS",
    "STL",
    "ST",
    "RED",
    "REDG",
    "BRA",
    "BRX",
    "BAR",
    "EXIT",
    "CALL",
    "RET",
    "BSSY",
    "BSYNC",
    "NOP",
    "WARPSYNC",
}
PREDICATE_FIRST = {"LOP3", "ULOP3", "SHFL", "MATCH", "ATOMG", "ATOMS"}


def written(instruction):
    """Names of the registers and predicates that an instruction writes: what its operands begin with."""
    if instruction.base in STORES:
        return []
    if instruction.base == "R2P":
        return [f"P{i}" for i in range(7)]
    registers, predicates = [], []
    for operand in instruction.operands:
        if re.fullmatch(r"U?P[T\d]", operand) and len(predicates) < 2:
            predicates.append(operand)
        elif (
            (m := re.fullmatch(r"(U?R)(\d+|Z)", operand))
            and not registers
            and (not predicates or instruction.base in PREDICATE_FIRST)
        ):
            count = 1 if m[2] == "Z" else width(instruction)
            registers = [m[1] + m[2]] if count == 1 else [f"{m[1]}{int(m[2]) + i}" for i in range(count)]
        else:
            break
    return registers + predicates


# ---- control flow ----

UNLIKELY = 1 << 20


class Graph:
    """Successors of every instruction, natural loops ({header: its instructions}), and the longest ways to the end.

    avoid(body) says of a loop that it is not entered where there is another way.
    """

    def __init__(self, kernel, avoid=lambda body: False):
        self.kernel = kernel
        self.after = [self._successors(i) for i in range(len(kernel.code))]
        order, self.back = self._depth_first()
        self.reached = set(order)
        self.loops = self._natural_loops()
        self._around = {}
        shunned = {i for body in self.loops.values() if avoid(body) for i in body}
        self.longest = {}
        for i in order:
            weight = -UNLIKELY if is_rare(kernel.code[i]) or i in shunned else 1
            ways = [self.longest[j] for j in self.after[i] if (i, j) not in self.back]
            self.longest[i] = weight + max(ways, default=0)

    def _successors(self, i):
        instruction, fall = self.kernel.code[i], [i + 1] if i + 1 < len(self.kernel.code) else []
        unconditional = instruction.guard in ("", "PT")
        if instruction.base == "EXIT":
            return [] if unconditional else fall
        if instruction.base in ("RET", "BRX"):
            return []
        # A warp whose lanes have parted leaves for a copy of what needs them together; ours have not.
        if instruction.base != "BRA" or instruction.target is None or instruction.parts in (["U"], ["DIV"]):
            return fall
        if unconditional and not re.match(r"!?U?P\d", instruction.operands[0]):
            return [instruction.target]
        return [*fall, instruction.target]

    def _depth_first(self):
        """Instructions, each after all it leads to; and the edges that close a loop."""
        order, back, state, stack = [], set(), {0: "open"}, [(0, 0)]
        while stack:
            i, k = stack.pop()
            if k == len(self.after[i]):
                state[i] = "done"
                order.append(i)
                continue
            stack.append((i, k + 1))
            j = self.after[i][k]
            if state.get(j) == "open":
                back.add((i, j))
            elif j not in state:
                state[j] = "open"
                stack.append((j, 0))
        return order, back

    def _natural_loops(self):
        before = {}
        for i in self.reached:
            for j in self.after[i]:
                before.setdefault(j, []).append(i)
        loops = {}
        for latch, header in self.back:
            body = loops.setdefault(header, {header})
            work = [latch]
            while work:
                i = work.pop()
                if i not in body:
                    body.add(i)
                    work += before[i]
        return loops

    def around(self, i):
        """Headers of the loops that an instruction is in, innermost first."""
        if i not in self._around:
            inside = [header for header, body in self.loops.items() if i in body]
            self._around[i] = sorted(inside, key=lambda header: len(self.loops[header]))
        return self._around[i]


def is_rare(instruction):
    """A call of what divides and takes roots where operands are out of the ordinary."""
    return instruction.base == "CALL" and "__cuda_sm" in ",".join(instruction.operands)


# ---- values: a number or truth, None where it is unknown; one for all lanes, or a tuple of one for each ----


def every(f, *values):
    """f of every lane's values."""
    if tuple not in map(type, values):
        return f(*values)
    result = tuple(map(f, *(value if type(value) is tuple else repeat(value, LANES) for value in values)))
    return result[0] if result.count(result[0]) == LANES else result


def each(f, *values):
    """The same, unknown where one of them is."""
    if None in values:
        return None
    if any(type(value) is tuple and None in value for value in values):
        return every(lambda *v: None if None in v else f(*v), *values)
    return every(f, *values)


def lanes_of(value):
    return value if isinstance(value, tuple) else (value,)


def signed(x):
    return x - (1 << 32) if x >> 31 else x


class Lanes:
    """What is known of a warp: registers ("R5", "UR5"), predicates ("P0", "UP0"), arguments, special registers."""

    def __init__(self, constants, special):
        self.known, self.constants, self.special = {}, constants, special

    def read(self, operand):
        """An operand's value; None: unknown."""
        if operand in ("RZ", "URZ", "SRZ"):
            return 0
        if operand in self.known:
            return self.known[operand]
        if operand[0] in "-~" and not operand[1:2].isdigit():
            negate = operand[0] == "-"
            return each(lambda v: (-v if negate else ~v) & WORD, self.read(operand[1:]))
        if re.fullmatch(r"-?0x[0-9a-f]+|-?\d+", operand):
            return int(operand, 0) & WORD
        if m := re.fullmatch(r"c\[0x0\]\[(0x[0-9a-f]+)\]", operand):
            return self.constants.get(int(m[1], 16))
        return None

    def holds(self, predicate):
        if predicate.startswith("!"):
            return each(operator.not_, self.holds(predicate[1:]))
        return True if predicate in ("PT", "UPT", "") else self.known.get(predicate)

    def write(self, name, value, active):
        """active: whether each lane does."""
        if name not in ("RZ", "URZ", "PT", "UPT"):
            self.known[name] = (
                value
                if active is True
                else every(
                    lambda on, new, old: None if on is None else new if on else old, active, value, self.known.get(name)
                )
            )


COMPARE = {
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
}
COMBINE = {"AND": lambda x, y: bool(x and y), "OR": lambda x, y: bool(x or y), "XOR": lambda x, y: x != y}


def results(instruction, lanes):
    """{name: value} of what is known of an instruction's results."""
    base, parts, operands, read = instruction.base, instruction.parts, instruction.operands, lanes.read
    if not instruction.writes:
        return {}
    if base in ("LDC", "ULDC"):
        m = re.fullmatch(r"c\[0x0\]\[(0x[0-9a-f]+)\]", operands[1])
        return (
            {name: lanes.constants.get(int(m[1], 16) + 4 * i) for i, name in enumerate(instruction.writes)} if m else {}
        )
    if base in ("S2R", "S2UR"):
        return {operands[0]: lanes.special.get(operands[1])}
    if base == "B2R":  # of __syncthreads_or
        return {name: lanes.special.get("vote") for name in instruction.writes}
    if base in ("MOV", "UMOV", "R2UR"):
        return {operands[0]: read(operands[1])}
    if base == "CS2R" and operands[1] == "SRZ":
        return dict.fromkeys(instruction.writes, 0)
    if base == "HFMA2" and operands[1:3] == ["-RZ", "RZ"]:  # moves a constant
        return {operands[0]: half(operands[3]) << 16 | half(operands[4])}
    if base in ("ISETP", "UISETP"):
        return comparison(instruction, lanes)
    if base in ("PLOP3", "UPLOP3"):
        sources = [lanes.holds(o) for o in operands[2:5]]
        tables = [int(o, 16) for o in operands[5:7]]
        return {
            operands[k]: each(lambda a, b, c, k=k: bool(tables[k] >> (4 * a + 2 * b + c) & 1), *sources) for k in (0, 1)
        }
    if base == "P2R":
        mask = int(operands[3], 16)
        bits = [lanes.holds(f"P{i}") if mask >> i & 1 else False for i in range(7)]
        return {
            operands[0]: each(
                lambda x, *bits: x & ~mask | sum(bool(bit) << i for i, bit in enumerate(bits)), read(operands[2]), *bits
            )
        }
    if base in ("SEL", "USEL"):
        return {
            operands[0]: every(
                lambda a, b, p: None if p is None else a if p else b,
                read(operands[1]),
                read(operands[2]),
                lanes.holds(operands[3]),
            )
        }
    if (
        "MNMX" in base and base[0] == "V"
    ):  # the smallest where the predicate holds, else the largest; ADD: of the first two's sum
        values, p = [read(o) for o in operands[1:-1]], lanes.holds(operands[-1])
        number = (lambda x: x) if "U32" in parts else signed
        head = 2 if "ADD" in base else 1
        return {
            operands[0]: each(
                lambda p, *v: (min if p else max)(sum(v[:head]) & WORD, *v[head:], key=number), p, *values
            )
        }
    function = arithmetic(base.removeprefix("U"), parts)
    to, *sources = operands[1:] if base == "LOP3" and operands[0][0] == "P" else operands
    values = [read(o) for o in sources if not re.fullmatch(r"!?U?P[T\d]", o)]
    if function is None or to[0] == "P":
        return {}
    value = each(function, *values)
    return {to: value, **({operands[0]: each(bool, value)} if to != operands[0] and operands[-1] == "!PT" else {})}


def half(text):
    """The bits of an fp16 immediate."""
    return struct.unpack("<H", struct.pack("<e", float(text.replace("+", "").replace("QNAN", "nan"))))[0]


def arithmetic(base, parts):
    """The function of its operands that an integer instruction computes, without carries; None: not known here."""
    if "X" in parts or "WIDE" in parts or ("HI" in parts and base == "IMAD") or "U64" in parts or "S64" in parts:
        return None
    if base == "IMAD":
        return lambda a, b, c: (a * b + c) & WORD
    if base in ("IADD3", "VIADD"):
        return lambda *terms: sum(terms) & WORD
    if base == "LOP3":
        return lambda a, b, c, table: logic(table, a, b, c)
    if base == "LEA" and "HI" not in parts:
        return lambda a, b, shift: ((a << shift) + b) & WORD
    if base == "LEA" and "SX32" not in parts:
        return lambda a, b, high, shift: (((high << 32 | a) << shift >> 32) + b) & WORD
    if base == "SHF" and "L" in parts and "HI" not in parts:
        return lambda a, shift, _: a << shift & WORD if shift < 32 else 0
    if base == "SHF" and "R" in parts and "HI" in parts:
        return lambda _, shift, a: ((signed(a) if "S32" in parts else a) >> min(shift, 32)) & WORD
    if base == "IABS":
        return lambda a: abs(signed(a)) & WORD
    return None


def logic(table, a, b, c):
    """LOP3: of every three bits, the bit that a table of eight has for them."""
    result = 0
    for k in range(8):
        if table >> k & 1:
            result |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return result & WORD


def comparison(instruction, lanes):
    parts, operands = instruction.parts, instruction.operands
    a, b, c = lanes.read(operands[2]), lanes.read(operands[3]), lanes.holds(operands[4])
    combine = COMBINE[next(part for part in parts if part in COMBINE)]
    if c is False and "AND" in parts:
        return dict.fromkeys(operands[:2], False)
    if "EX" in parts:  # the upper half of 64 bits
        return {}
    number = (lambda x: x) if "U32" in parts else signed
    truth = each(lambda a, b: COMPARE[parts[0]](number(a), number(b)), a, b)
    return {operands[0]: each(combine, truth, c), operands[1]: each(lambda t, c: combine(not t, c), truth, c)}


# ---- the walk ----


class Walk:
    """steps: indices of the instructions in the order of their issue; idle: places among them where no lane takes part;
    unknown: headers of loops whose passes neither the text nor the caller tells."""

    def __init__(self, graph, constants, special, passes=lambda header: None, limit=400_000):
        """constants: {offset in bank 0: word}; special: {special register: value}; passes(header): see the top."""
        self.graph, self.passes = graph, passes
        self.lanes = Lanes(constants, special)
        self.steps, self.idle, self.unknown = [], set(), set()
        self._repeats = {}  # {header: passes begun by going back, since the loop was entered}
        self._masks, self._joins, self._calls = [(None, True)], [], []  # where lanes that have parted meet again
        i = 0
        while i is not None:
            if len(self.steps) > limit:
                raise ValueError(f"{graph.kernel.name} has not ended after {limit} instructions")
            i = self._step(i)

    def _step(self, i):
        """Issues one instruction; returns the next one's index."""
        if i in self.graph.loops:
            goes_back = bool(self.steps) and (self.steps[-1], i) in self.graph.back
            self._repeats[i] = self._repeats.get(i, 0) + 1 if goes_back else 0
        while self._masks[-1][0] == i:
            self._masks.pop()
        instruction, mask = self.graph.kernel.code[i], self._masks[-1][1]
        self.steps.append(i)
        active = every(lambda m, g: g if m else False, mask, self.lanes.holds(instruction.guard))
        if active is False:
            self.idle.add(len(self.steps) - 1)
        if instruction.base == "BRA":
            return self._branch(i, instruction, mask, active)
        if instruction.base == "EXIT" and active == mask:
            return None
        if instruction.base == "CALL" and instruction.target is not None:
            self._calls.append(i + 1)
            return instruction.target
        if instruction.base == "RET":
            return self._calls.pop() if self._calls else None
        if instruction.base == "BSSY":
            self._joins.append(instruction.target)
        elif instruction.base == "BSYNC" and self._joins:
            self._joins.pop()
        known = results(instruction, self.lanes)
        for name in instruction.writes:
            self.lanes.write(name, known.get(name), active)
        return i + 1 if i + 1 < len(self.graph.kernel.code) else None

    def _branch(self, i, instruction, mask, active):
        if len(self.graph.after[i]) < 2:
            return self.graph.after[i][0]
        fall, target = i + 1, instruction.target
        extra = self.lanes.holds(instruction.operands[0]) if len(instruction.operands) > 1 else True
        takes = every(
            lambda a, e: False if a is False or e is False else None if None in (a, e) else True, active, extra
        )
        if takes == mask:
            return target
        if takes is False:
            return fall
        to = self._choose(i, fall, target)
        join = self._joins[-1] if self._joins else target if to == fall and target > i else None
        if join is not None and None not in lanes_of(takes):
            self._masks.append((join, takes if to == target else every(lambda t, m: m and not t, takes, mask)))
        return to

    def _choose(self, i, fall, target):
        """Where a branch goes of which that is not known, or on which lanes part."""
        for header in self.graph.around(i):
            body = self.graph.loops[header]
            stays = [j for j in (fall, target) if j in body]
            if len(stays) != 1:
                continue
            passes = self.passes(header)
            if passes is None:
                self.unknown.add(header)
                passes = 1
            begun = self._repeats[header] + ((i, stays[0]) in self.graph.back)
            return stays[0] if begun < passes else fall + target - stays[0]
        return max((target, fall), key=self.graph.longest.get)
