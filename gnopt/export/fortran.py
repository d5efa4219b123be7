"""Fortran: one module of Fortran 2008 that needs nothing else.

Its pure subroutines ``predict`` and ``jacobian`` compute the prediction and its derivatives by the
inputs; the module has the name of the file.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from gnopt.engine.arrays.trace import COMPARISONS, LOGIC, Dialect, Traced
from gnopt.engine.source_form import Coupled
from gnopt.export.format import Format
from gnopt.export.procedure import Procedure, Writer, write_encoding
from gnopt.export.source import (
    ARRAYS,
    WIDTH,
    Language,
    Source,
    SourceNetwork,
    comment,
    filled,
    literals,
    source_of,
    used,
)
from gnopt.files import write_text
from gnopt.training.content import Content

ONE, ZERO = "1.0_real64", "0.0_real64"
SAME = ("exp", "log", "sqrt", "sin", "cos", "sinh", "cosh", "tanh", "erf", "abs")
RENAMED = {
    "absolute": "abs",
    "fabs": "abs",
    "arctan": "atan",
    "arcsinh": "asinh",
    "expm1": "exp_minus_1",
    "log1p": "log_of_1_plus",
}
SIGNS = dict(zip(COMPARISONS, ("<", "<=", ">", ">=", "==", "/="), strict=True))
TEMPLATES = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "true_divide": "{0} / {1}",
    "power": "{0} ** {1}",
    "negative": "-{0}",
    "square": "{0} * {0}",
    "reciprocal": f"{ONE} / {{0}}",
    "maximum": "merge({1}, {0}, {0} <= {1})",
    "minimum": "merge({1}, {0}, {0} >= {1})",
    "sign": f"merge(sign({ONE}, {{0}}), {{0}}, abs({{0}}) > {ZERO})",
    "where": f"merge({{1}}, {{2}}, abs({{0}}) > {ZERO})",
    **dict(
        zip(
            LOGIC,
            (
                "{0} * {1}",
                f"merge({ONE}, {ZERO}, {{0}} + {{1}} > {ZERO})",
                "abs({0} - {1})",
                f"{ONE} - {{0}}",
            ),
            strict=True,
        )
    ),
    **{name: f"{name}({{0}})" for name in SAME},
    **{name: f"{function}({{0}})" for name, function in RENAMED.items()},
    **{name: f"merge({ONE}, {ZERO}, {{0}} {sign} {{1}})" for name, sign in SIGNS.items()},
}


def _number(value: float) -> str:
    text = f"{value!r}_real64"
    return f"({text})" if text.startswith("-") else text


FORTRAN = Language("fortran", "Fortran", Dialect(TEMPLATES, _number), "x({1})")
# Compilers take 255 continuation lines at least, and three numbers fill a line.
STATEMENT = 500


class FortranFile(Format):
    """A module of Fortran 2008."""

    name = "fortran"
    suffixes = (".f90",)

    def write(self, content: Content, out: Path) -> None:
        write_text(out, "\n".join(_file(source_of(content, out, FORTRAN), out.name)) + "\n")

    def next_step(self, out: Path) -> str:
        return _compile(str(out))


def _compile(file: str) -> str:
    return f"gfortran -std=f2008 -O2 -c {shlex.quote(file)}"


FORMAT = FortranFile()


class _FortranWriter(Writer):
    def __init__(self) -> None:
        super().__init__()
        self.depth = 2
        self.declared: list[str] = []
        self.variables: set[str] = set()

    def at(self, array: str, index: str = "i") -> str:
        return f"{array}({index})"

    def index(self, number: int) -> str:
        return str(number + 1)

    def choice(self, condition: str, one: str, other: str) -> str:
        return f"merge({one}, {other}, {condition})"

    def of_weights(self, array: str, row: str, column: str, columns: int) -> str:
        return f"{array}({column}, {row})"

    def of_jacobian(self, row: str, column: str, columns: int) -> str:
        return f"dydx({row}, {column})"

    def declare(self, array: str, width: int) -> None:
        self.declared.append(f"        real(real64) :: {array}({width})")

    def assign(self, target: str, expression: str) -> None:
        self.line(f"{target} = {expression}")

    def call(self, procedure: str, *arguments: str | int) -> None:
        self.line(f"call {self.value(procedure, *map(str, arguments))}")

    def value(self, function: str, *arguments: str) -> str:
        return f"{function}({', '.join(arguments)})"

    def own(self, name: str) -> str:
        return name

    def loop(self, variable: str, count: int) -> AbstractContextManager[None]:
        self.variables.add(variable)
        return self.indented(f"do {variable} = 1, {count}", "end do")

    def end_unless_wanted(self) -> None:
        self.line("if (.not. present(dydx)) return")


def _file(source: Source, file: str) -> Iterator[str]:
    name = f"{source.name}_net" if source.name.lower() in _TAKEN else source.name
    yield from (f"! {line}".rstrip() for line in _about(source, file, name))
    yield f"module {name}"
    yield from _HEAD.format(
        weight="real32" if source.single else "real64",
        inputs=source.inputs,
        outputs=source.outputs,
        public=", ".join(_offered(source)),
    ).splitlines()
    if source.deviates:
        yield from _array("real64", "noise", source.noise)
    if source.columns is not None:
        owners = [str(owner + 1) for owner in source.columns.owners]
        yield from ("", "    ! The column of each number that the networks take.")
        yield f"    integer, parameter :: owner({len(owners)}) = [ &"
        *lines, last = filled(owners, WIDTH - 12, " &")
        yield from (f"        {line}" for line in [*lines, f"{last} ]"])
    for network in source.networks:
        yield from _arrays(network)
    code = list(_encoding(source))
    code += [line for network in source.networks for line in _procedure(network, source)]
    yield from _public(source, _PREDICT, "call {network}(x, y)")
    yield from _public(source, _JACOBIAN, "call {network}(x, y, dydx)")
    if source.deviates:
        call = f"call {{network}}(x, one)\n        call spread({len(source.networks)}, one, y, std)"
        yield from _public(source, _DEVIATION, call)
    yield from code
    yield from _functions(source, "\n".join(code))
    yield f"end module {name}"


def _public(source: Source, template: str, call: str) -> Iterator[str]:
    """Yield a procedure of the module, which calls that of every network."""
    calls = [call.format(network=network.name) for network in source.networks]
    yield from template.replace("CALLS", "\n        ".join(calls)).splitlines()


def _about(source: Source, file: str, name: str) -> Iterator[str]:
    yield from comment(
        [
            *source.about,
            "",
            f"use {name}, only: {', '.join(_offered(source))}",
            "call predict(x, y)",
            f"    makes y({source.outputs}) of x({source.inputs}), both real(real64).",
            "call jacobian(x, dydx)",
            "    dydx(k, j) becomes the exact derivative of y(k) by x(j).",
            *(
                "call deviation(x, y, std)",
                f"    makes y({source.outputs}) and its standard deviation std({source.outputs}).",
            )[: 2 * source.deviates],
            "",
            f"Compile: {_compile(file)}",
        ]
    )


def _offered(source: Source) -> list[str]:
    return ["predict", "jacobian", *["deviation"] * source.deviates]


def _arrays(network: SourceNetwork) -> Iterator[str]:
    """Yield the numbers of a network: those of its standardisation, and W and b of every layer."""
    if network.statistics is not None:
        for part, values in network.statistics._asdict().items():
            yield from _array("real64", f"{network.name}_{part}", values)
    for layer, weights in enumerate(network.weights, start=1):
        yield from _array("wp", f"{network.name}_w{layer}", weights[:, :-1])
        yield from _array("wp", f"{network.name}_b{layer}", weights[:, -1])


def _array(kind: str, name: str, values: np.ndarray) -> Iterator[str]:
    """Yield an array with its numbers; a matrix is declared with its columns first."""
    shape = ", ".join(map(str, reversed(values.shape)))
    yield from ("", f"    real({kind}), save :: {name}({shape})")
    for number, row in enumerate(values.reshape(-1, values.shape[-1]), start=1):
        for start in range(0, len(row), STATEMENT):
            part = row[start : start + STATEMENT]
            place = f"{start + 1}:{start + len(part)}" + (f", {number}" if values.ndim > 1 else "")
            yield f"    data {name}({place}) / &"
            *lines, last = filled(literals(part, f"_{kind}"), WIDTH - 10, " &")
            yield from (f"        {line}" for line in [*lines, f"{last} /"])


def _encoding(source: Source) -> Iterator[str]:
    """Yield the procedures that encode a row of the table, and give its slopes."""
    if source.columns is None:
        return
    size = len(source.columns.owners)
    for kind, name in (("f", "encode"), ("df", "encode_slopes")):
        writer = _FortranWriter()
        write_encoding(source.columns, kind, writer)
        yield from ("", f"    pure subroutine {name}(x, e)")
        yield "        real(real64), intent(in) :: x(inputs)"
        yield f"        real(real64), intent(out) :: e({size})"
        yield from writer.lines
        yield "    end subroutine"


def _procedure(network: SourceNetwork, source: Source) -> Iterator[str]:
    writer = _FortranWriter()
    Procedure(source, network, writer).write()
    yield from ("", "    ! Add to y and, if it is there, to dydx.")
    yield f"    pure recursive subroutine {network.name}(x, y, dydx)"
    yield "        real(real64), intent(in) :: x(inputs)"
    yield "        real(real64), intent(inout) :: y(outputs)"
    yield "        real(real64), intent(inout), optional :: dydx(outputs, inputs)"
    yield from writer.declared
    yield f"        integer :: {', '.join(sorted(writer.variables))}"
    yield from writer.lines
    yield "    end subroutine"


def _functions(source: Source, code: str) -> Iterator[str]:
    """Yield the functions that ``code`` calls, and those that they call."""
    made: list[str] = []
    for scalar in source.scalars:
        for kind in ("f", "df"):
            if used(code, [f"{kind}_{scalar.name}"]):
                made += _scalar(f"{kind}_{scalar.name}", scalar.part(kind), scalar.arguments(kind))
    if isinstance(source.link, Coupled):
        for kind, body, written in source.link.procedures():
            if used(code, [kind]):
                made += _coupled(kind, body, written)
    yield from made
    for helper in used("\n".join([code, *made]), _HELPERS):
        yield from _HELPERS[helper].splitlines()


def _scalar(name: str, traced: Traced, arguments: list[str]) -> Iterator[str]:
    yield from ("", f"    pure function {name}({', '.join(arguments)}) result(value)")
    yield from (f"        real(real64), intent(in) :: {a}" for a in arguments)
    declared = filled(["value", *(v for v, _ in traced.statements)], WIDTH - 30, " &")
    yield from (f"        {'real(real64) ::' * (i == 0)} {line}" for i, line in enumerate(declared))
    yield from (
        f"        {v} = {text}" for v, text in [*traced.statements, ("value", traced.value)]
    )
    yield "    end function"


def _coupled(name: str, body: str, written: str) -> Iterator[str]:
    arguments = used(body, ARRAYS)
    yield from ("", f"    pure subroutine {name}({', '.join(arguments)})")
    for argument in arguments:
        intent = "out" if argument == written else "in"
        if argument == "n":
            yield "        integer, intent(in) :: n"
        else:
            yield f"        real(real64), intent({intent}) :: {argument}(:)"
    yield from (f"        {line}" for line in body.strip().splitlines())
    yield "    end subroutine"


_HEAD = """\
    use, intrinsic :: iso_fortran_env, only: real32, real64
    implicit none
    private
    public :: {public}
    integer, parameter, public :: inputs = {inputs}, outputs = {outputs}
    integer, parameter :: wp = {weight} ! of the weights
"""

_PREDICT = """
contains

    pure subroutine predict(x, y)
        real(real64), intent(in) :: x(inputs)
        real(real64), intent(out) :: y(outputs)
        y = 0.0_real64
        CALLS
    end subroutine
"""

_JACOBIAN = """
    pure subroutine jacobian(x, dydx)
        real(real64), intent(in) :: x(inputs)
        real(real64), intent(out) :: dydx(outputs, inputs)
        real(real64) :: y(outputs)
        y = 0.0_real64
        dydx = 0.0_real64
        CALLS
    end subroutine
"""

_DEVIATION = """
    pure subroutine deviation(x, y, std)
        real(real64), intent(in) :: x(inputs)
        real(real64), intent(out) :: y(outputs), std(outputs)
        real(real64) :: one(outputs)
        call predict(x, y)
        std = noise
        one = 0.0_real64
        CALLS
        std = sqrt(std)
    end subroutine

    ! Add a share of the squared distance of a network's prediction from the mean y, and clear it.
    pure subroutine spread(networks, one, y, variance)
        integer, intent(in) :: networks
        real(real64), intent(inout) :: one(outputs), variance(outputs)
        real(real64), intent(in) :: y(outputs)
        variance = variance + (one * networks - y)**2 / networks
        one = 0.0_real64
    end subroutine
"""

_HELPERS = {
    "affine": """
    ! h = W a + b; the columns of W are the rows of the array w
    pure subroutine affine(rows, columns, w, b, a, h)
        integer, intent(in) :: rows, columns
        real(wp), intent(in) :: w(columns, rows), b(rows)
        real(real64), intent(in) :: a(columns)
        real(real64), intent(out) :: h(rows)
        integer :: i
        do i = 1, rows
            h(i) = b(i) + dot_product(w(:, i), a)
        end do
    end subroutine
""",
    "linear": """
    ! h = W a
    pure subroutine linear(rows, columns, w, a, h)
        integer, intent(in) :: rows, columns
        real(wp), intent(in) :: w(columns, rows)
        real(real64), intent(in) :: a(columns)
        real(real64), intent(out) :: h(rows)
        integer :: i
        do i = 1, rows
            h(i) = dot_product(w(:, i), a)
        end do
    end subroutine
""",
    "transposed": """
    ! u is v times W
    pure subroutine transposed(rows, columns, w, v, u)
        integer, intent(in) :: rows, columns
        real(wp), intent(in) :: w(columns, rows)
        real(real64), intent(in) :: v(rows)
        real(real64), intent(out) :: u(columns)
        integer :: i
        u = 0.0_real64
        do i = 1, rows
            u = u + v(i) * w(:, i)
        end do
    end subroutine
""",
    # Kahan's formulas, for small numbers.
    "exp_minus_1": """
    pure function exp_minus_1(x) result(value)
        real(real64), intent(in) :: x
        real(real64) :: value, u
        u = exp(x)
        value = u - 1.0_real64
        if (abs(x) > 1.0_real64) return
        if (abs(value) > 0.0_real64) then
            value = value * (x / log(u))
        else
            value = x
        end if
    end function
""",
    "log_of_1_plus": """
    pure function log_of_1_plus(x) result(value)
        real(real64), intent(in) :: x
        real(real64) :: value, u
        u = 1.0_real64 + x
        if (abs(u - 1.0_real64) > 0.0_real64) then
            value = log(u) * (x / (u - 1.0_real64))
        else
            value = x
        end if
    end function
""",
}
_TAKEN = {
    *_HELPERS,
    "predict",
    "jacobian",
    "deviation",
    "spread",
    "noise",
    "inputs",
    "outputs",
    "wp",
    "network",
}
