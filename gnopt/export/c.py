"""C: one file of C99 that needs the mathematical library alone.

``NAME_predict`` computes the prediction and ``NAME_jacobian`` its derivatives by the inputs; NAME
is that of the file. Compiled with ``-DNAME_MAIN`` the file is a program that reads rows of numbers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from gnopt.engine.arrays.fuse import c_family
from gnopt.engine.arrays.trace import Dialect
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
    identifier,
    literals,
    source_of,
    used,
)
from gnopt.files import write_text
from gnopt.training.content import Content

C = Language("c", "C", Dialect(c_family("(double)", "0.0", "1.0"), "{!r}".format), "x[{0}]")


class CFile(Format):
    """A file of C99."""

    name = "c"
    suffixes = (".c",)

    def write(self, content: Content, out: Path) -> None:
        write_text(out, "\n".join(_file(source_of(content, out, C), out.name)) + "\n")

    def next_step(self, out: Path) -> str:
        return _filter(identifier(out.stem), str(out))


def _filter(name: str, file: str) -> str:
    """Return the command that makes the file a program."""
    return f"cc -std=c99 -O2 -D{name}_MAIN {shlex.quote(file)} -lm -o {name}"


FORMAT = CFile()


class _CWriter(Writer):
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.depth = 1

    def at(self, array: str, index: str = "i") -> str:
        return f"{array}[{index}]"

    def index(self, number: int) -> str:
        return str(number)

    def choice(self, condition: str, one: str, other: str) -> str:
        return f"{condition} ? {one} : {other}"

    def of_weights(self, array: str, row: str, column: str, columns: int) -> str:
        return f"{array}[{row} * {columns} + {column}]"

    def of_jacobian(self, row: str, column: str, columns: int) -> str:
        return f"dydx[{row} * {columns} + {column}]"

    def declare(self, array: str, width: int) -> None:
        self.line(f"double {array}[{width}];")

    def assign(self, target: str, expression: str) -> None:
        self.line(f"{target} = {expression};")

    def call(self, procedure: str, *arguments: str | int) -> None:
        self.line(f"{self.value(procedure, *map(str, arguments))};")

    def value(self, function: str, *arguments: str) -> str:
        return f"{self.own(function)}({', '.join(arguments)})"

    def own(self, name: str) -> str:
        return f"{self.prefix}_{name}"

    def loop(self, variable: str, count: int) -> AbstractContextManager[None]:
        return self.indented(
            f"for (int {variable} = 0; {variable} < {count}; {variable}++) {{", "}"
        )

    def end_unless_wanted(self) -> None:
        self.line("if (dydx == NULL) return;")


def _file(source: Source, file: str) -> Iterator[str]:
    yield from _top(source, file)
    for network in source.networks:
        yield from _arrays(source, network)
    code = list(_encoding(source))
    code += [line for network in source.networks for line in _procedure(source, network)]
    yield from _functions(source, "\n".join(code))
    yield from code
    yield from _public(source, _PREDICT, "{network}(x, y, NULL);")
    yield from _public(source, _JACOBIAN, "{network}(x, y, dydx);")
    if source.deviates:
        yield from _array("double", f"{source.name}_noise", source.noise[None], "")
        spread = f"{source.name}_spread({len(source.networks)}, one, y, std);"
        yield from _public(source, _DEVIATION, f"{{network}}(x, one, NULL);\n    {spread}")
    yield from _MAIN.replace("NAME", source.name).splitlines()


def _public(source: Source, template: str, call: str) -> Iterator[str]:
    """Yield a function of the file, which calls the procedure of every network."""
    calls = [call.format(network=f"{source.name}_{one.name}") for one in source.networks]
    code = template.replace("CALLS", "\n    ".join(calls))
    yield from code.replace("NAME", source.name).splitlines()


def _top(source: Source, file: str) -> Iterator[str]:
    name, inputs, outputs = source.name, source.inputs, source.outputs
    first, *rest = comment(
        [
            *source.about,
            "",
            f"void {name}_predict(const double *x, double *y);",
            f"    makes y[{outputs}] of x[{inputs}].",
            f"void {name}_jacobian(const double *x, double *dydx);",
            f"    dydx[k * {inputs} + j] becomes the exact derivative of y[k] by x[j].",
            *(
                f"void {name}_deviation(const double *x, double *y, double *std);",
                f"    makes y[{outputs}] and its standard deviation std[{outputs}].",
            )[: 2 * source.deviates],
            "",
            f"Compile:  cc -std=c99 -O2 -c {shlex.quote(file)}  and link with -lm.",
            f"A filter: {_filter(name, file)}",
            f"reads rows of {inputs} numbers and writes rows of y, with commas between numbers.",
        ]
    )
    yield f"/* {first}"
    yield from (f" * {line}".rstrip() for line in rest)
    yield from (" */", "#include <math.h>", "#include <stddef.h>", "")
    yield f"enum {{ {name}_inputs = {inputs}, {name}_outputs = {outputs} }};"
    yield f"typedef {'float' if source.single else 'double'} {name}_weight;"


def _arrays(source: Source, network: SourceNetwork) -> Iterator[str]:
    """Yield the numbers of a network: those of its standardisation, and W and b of every layer."""
    prefix = f"{source.name}_{network.name}"
    if network.statistics is not None:
        for part, values in network.statistics._asdict().items():
            yield from _array("double", f"{prefix}_{part}", values[None], "")
    kind, suffix = f"{source.name}_weight", "f" if source.single else ""
    for layer, weights in enumerate(network.weights, start=1):
        yield from _array(kind, f"{prefix}_w{layer}", weights[:, :-1], suffix)
        yield from _array(kind, f"{prefix}_b{layer}", weights[None, :, -1], suffix)


def _array(kind: str, name: str, values: np.ndarray, suffix: str) -> Iterator[str]:
    yield from ("", f"static const {kind} {name}[{values.size}] = {{")
    for row in values:
        *lines, last = filled(literals(row, suffix), WIDTH - 5)
        yield from (f"    {line}" for line in [*lines, f"{last},"])
    yield "};"


def _functions(source: Source, code: str) -> Iterator[str]:
    """Yield the functions that ``code`` calls."""
    name = source.name
    for helper in used(f"{name}_dot {code}", [f"{name}_{helper}" for helper in _HELPERS]):
        yield from _HELPERS[helper.removeprefix(f"{name}_")].replace("NAME", name).splitlines()
    for scalar in source.scalars:
        for kind in ("f", "df"):
            if used(code, [f"{name}_{kind}_{scalar.name}"]):
                arguments = ", ".join(f"double {a}" for a in scalar.arguments(kind)) or "void"
                traced = scalar.part(kind)
                yield from ("", f"static double {name}_{kind}_{scalar.name}({arguments})", "{")
                yield from (f"    const double {v} = {text};" for v, text in traced.statements)
                yield from (f"    return {traced.value};", "}")
    if isinstance(source.link, Coupled):
        for kind, body, written in source.link.procedures():
            if used(code, [f"{name}_{kind}"]):
                yield from ("", f"static void {name}_{kind}({_parameters(body, written)})", "{")
                yield from (f"    {line}" for line in body.strip().splitlines())
                yield "}"


def _parameters(body: str, written: str) -> str:
    kinds = {"n": "int ", written: "double *"}
    return ", ".join(f"{kinds.get(a, 'const double *')}{a}" for a in used(body, ARRAYS))


def _encoding(source: Source) -> Iterator[str]:
    """Yield the functions that encode a row of the table, and give its slopes."""
    if source.columns is None:
        return
    for kind, name in (("f", "encode"), ("df", "encode_slopes")):
        writer = _CWriter(source.name)
        write_encoding(source.columns, kind, writer)
        unused = "" if used("\n".join(writer.lines), ["x"]) else "    (void)x;"
        yield from ("", f"static void {source.name}_{name}(const double *x, double *e)", "{")
        yield from (*filter(None, [unused]), *writer.lines, "}")
    numbers = ", ".join(map(str, source.columns.owners))
    size = len(source.columns.owners)
    yield from ("", "/* The column of each number that the networks take. */")
    yield f"static const int {source.name}_owner[{size}] = {{"
    yield from (f"    {line}" for line in filled(numbers.split(", "), WIDTH - 5))
    yield "};"


def _procedure(source: Source, network: SourceNetwork) -> Iterator[str]:
    writer = _CWriter(source.name)
    Procedure(source, network, writer).write()
    yield from ("", "/* Add to y and, unless it is NULL, to dydx. */")
    yield f"static void {source.name}_{network.name}(const double *x, double *y, double *dydx)"
    yield from ("{", *writer.lines, "}")


_HELPERS = {
    "dot": """
/* Four sums at a time: each addition waits for the one before it. */
static double NAME_dot(int n, const NAME_weight *w, const double *a)
{
    double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;
    int j = 0;
    for (; j + 3 < n; j += 4) {
        s0 += w[j] * a[j];
        s1 += w[j + 1] * a[j + 1];
        s2 += w[j + 2] * a[j + 2];
        s3 += w[j + 3] * a[j + 3];
    }
    for (; j < n; j++) s0 += w[j] * a[j];
    return (s0 + s1) + (s2 + s3);
}
""",
    "affine": """
/* h = W a + b */
static void NAME_affine(int rows, int columns, const NAME_weight *w, const NAME_weight *b,
                        const double *a, double *h)
{
    for (int i = 0; i < rows; i++, w += columns) h[i] = b[i] + NAME_dot(columns, w, a);
}
""",
    "linear": """
/* h = W a */
static void NAME_linear(int rows, int columns, const NAME_weight *w, const double *a,
                        double *h)
{
    for (int i = 0; i < rows; i++, w += columns) h[i] = NAME_dot(columns, w, a);
}
""",
    "transposed": """
/* u is v times W */
static void NAME_transposed(int rows, int columns, const NAME_weight *w, const double *v,
                            double *u)
{
    for (int j = 0; j < columns; j++) u[j] = 0.0;
    for (int i = 0; i < rows; i++, w += columns)
        for (int j = 0; j < columns; j++) u[j] += w[j] * v[i];
}
""",
}

_PREDICT = """
void NAME_predict(const double *x, double *y);

void NAME_predict(const double *x, double *y)
{
    for (int k = 0; k < NAME_outputs; k++) y[k] = 0.0;
    CALLS
}
"""

_JACOBIAN = """
void NAME_jacobian(const double *x, double *dydx);

void NAME_jacobian(const double *x, double *dydx)
{
    double y[NAME_outputs] = { 0.0 };
    for (int i = 0; i < NAME_outputs * NAME_inputs; i++) dydx[i] = 0.0;
    CALLS
}
"""

_DEVIATION = """
/* Add a share of the squared distance of a network's prediction from the mean y, and clear it. */
static void NAME_spread(int networks, double *one, const double *y, double *variance)
{
    for (int k = 0; k < NAME_outputs; k++) {
        const double distance = one[k] * networks - y[k];
        variance[k] += distance * distance / networks;
        one[k] = 0.0;
    }
}

void NAME_deviation(const double *x, double *y, double *std);

void NAME_deviation(const double *x, double *y, double *std)
{
    double one[NAME_outputs] = { 0.0 };
    NAME_predict(x, y);
    for (int k = 0; k < NAME_outputs; k++) std[k] = NAME_noise[k];
    CALLS
    for (int k = 0; k < NAME_outputs; k++) std[k] = sqrt(std[k]);
}
"""

_MAIN = """
#ifdef NAME_MAIN
#include <stdio.h>

/* Numbers of a row are separated by blanks, commas or semicolons. */
int main(void)
{
    static double x[NAME_inputs], y[NAME_outputs];
    int count = 0;
    for (long row = 1;;) {
        int c = getchar();
        while (c == ' ' || c == '\\t' || c == '\\r' || c == ',' || c == ';') c = getchar();
        if (c == '\\n' || c == EOF) {
            if (count == NAME_inputs) {
                NAME_predict(x, y);
                for (int k = 0; k < NAME_outputs; k++) printf(k ? ",%.17g" : "%.17g", y[k]);
                putchar('\\n');
            } else if (count) {
                fprintf(stderr, "row %ld: %d numbers, expected %d\\n", row, count, NAME_inputs);
                return 1;
            }
            if (c == EOF) return 0;
            count = 0;
            row++;
            continue;
        }
        double value;
        ungetc(c, stdin);
        if (scanf("%lf", &value) != 1) {
            fprintf(stderr, "row %ld, column %d: not a number\\n", row, count + 1);
            return 1;
        }
        if (count < NAME_inputs) x[count] = value;
        count++;
    }
}
#endif
"""
