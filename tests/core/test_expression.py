"""Expressions: what is refused, with the place in the text, and what is read, differentiated and written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minet import MinetError
from minet.core.expression import cuda, formula, printing
from minet.core.expression.functions import FUNCTIONS, evaluated
from minet.core.expression.parse import LONGEST, pointed

ROOT = Path(__file__).parents[2]
REFUSED = {  # the part that is pointed at, the message, a hint
    "x * sigmod(b * x)": ("sigmod", "there is no function 'sigmod'", "did you mean sigmoid?"),
    "x * foo(x)": ("foo", "there is no function 'foo'", "there are abs, cos, erf"),
    "x * bb": ("bb", "'bb' is not known", "did you mean b?"),
    "x * é + foo": ("é", "'é' is not known", "é=1.0"),
    "é * x + foo(x)": ("é", "'é' is not known", "é=1.0"),
    "b * tanh": ("tanh", "tanh is a function", "write tanh(...)"),
    "__import__('os')": ("__import__", "there is no function", ""),
    "x.real": ("x.real", "this is not part of expressions", "use numbers, names"),
    "(lambda: x)()": ("(lambda: x)()", "this is not part of expressions", ""),
    "[x][0]": ("[x][0]", "this is not part of expressions", ""),
    "x * 'a'": ("'a'", "this is not part of expressions", ""),
    "x * True": ("True", "this is not part of expressions", ""),
    "x * 2j": ("2j", "this is not part of expressions", ""),
    "max(x, *b)": ("*b", "this is not part of expressions", ""),
    "max(x, y=1)": ("max(x, y=1)", "this is not part of expressions", ""),
    "max(x)": ("max(x)", "max takes 2, not 1", "max(x, y)"),
    "where(x > 0, 1)": ("where(x > 0, 1)", "where takes 3, not 2", "where(condition, a, b)"),
    "where(x, 1, 2)": ("x", "this is not a condition", "such as x > 0"),
    "where(x in b, 1, 2)": ("x in b", "this comparison is not one of numbers", "use < <="),
    "x + (x > 0)": ("x > 0", "a condition is not a number", "where(condition, 1, 0)"),
    "x + floor(b * x)": ("floor", "floor cannot be differentiated", "its slope is 0"),
    "x % 2": ("x % 2", "a remainder has no useful derivative", ""),
    "x ^ 2": ("x ^ 2", "^ is not a power", "write **"),
    "x + log(-1)": ("log(-1)", "this has no value: it is outside the function's domain", ""),
    "x + (-8) ** (1 / 3)": ("(-8) ** (1 / 3)", "this has no value", ""),
    "x + 0 ** -1": ("0 ** -1", "this has no value", ""),
    "x / (2 - 2)": ("x / (2 - 2)", "this divides by 0", ""),
    "x * 1e999": ("1e999", "this number is too large", ""),
    "x * exp(1000)": ("exp(1000)", "this number is too large", ""),
    "x * 9 ** 9 ** 9": ("9 ** 9 ** 9", "this number is too large", ""),
    "x ** 100": ("x ** 100", "the exponent is above 64", ""),
    "(-2) ** x": ("(-2) ** x", "a power of -2 has no derivative", ""),
    "((1.1 * x) ** 64) ** 64": ("((1.1 * x) ** 64) ** 64", "a number in this is too large", ""),
    "x * log(b - 1)": ("log(b - 1)", "this has no finite value at b = 0.5", ""),
    "x / (b - 0.5)": ("x / (b - 0.5)", "this has no finite value at b = 0.5", ""),
    "x +": (" ", "the expression does not parse: invalid syntax", ""),
    "x; b": (";", "the expression does not parse", ""),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_pointed_at(text):
    part, message, hint = REFUSED[text]
    with pytest.raises(MinetError) as caught:
        formula(text, {"b": (0.5, 2.0)})
    error = caught.value
    assert error.message.startswith(message) and hint in error.hint
    shown, carets = error.message.splitlines()[-2:]
    at = carets.index("^")
    assert shown.strip() == text and set(carets.strip()) == {"^"}
    assert (shown + " ")[at : at + carets.count("^")] == part


@pytest.mark.parametrize("text", ["", "  ", None, 3, b"x", ["x"]])
def test_what_is_no_text(text):
    with pytest.raises(MinetError, match="the expression must be text"):
        formula(text, {})


def test_what_is_too_long_or_too_deep():
    with pytest.raises(MinetError, match=f"has {LONGEST + 1} characters"):
        formula("x" * (LONGEST + 1), {})
    with pytest.raises(MinetError, match="does not parse: too many nested parentheses"):
        formula("(" * 300 + "x" + ")" * 300, {})
    with pytest.raises(MinetError, match="more than 20 functions deep"):
        formula("sin(" * 30 + "x" + ")" * 30, {})
    with pytest.raises(MinetError, match="too deeply nested"):
        formula("-" * 999 + "x", {})
    assert str(formula("-" * 200 + "x", {}).y) == "x"
    assert str(formula(" + ".join(["x"] * 240), {}).y) == "240*x"
    assert cuda.source(formula("sin(" * 18 + "x" + ")" * 18, {}), ())


def test_of_a_long_text_what_is_near_is_shown():
    assert pointed("a" * 100 + "b" + "c" * 100, 100, 101) == (
        f"    ...{'a' * 40}b{'c' * 40}...\n    {' ' * 43}^"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("b + 1", "x does not occur in the expression:\n    b \\+ 1"),
        ("x * b - b * x + b", "x does not occur"),
        ("where(x > 0, b, 1)", "x has the derivative 0 everywhere"),
        ("x + where(b > x, 1, 0)", "b has the derivative 0 everywhere"),
        ("x", "b does not occur"),
    ],
)
def test_what_would_learn_nothing(text, found):
    with pytest.raises(MinetError, match=found):
        formula(text, {"b": (1.0,)})


@pytest.mark.parametrize("name", ["x", "pi", "exp", "β", "a b", "1a"])
def test_names_that_parameters_cannot_have(name):
    with pytest.raises(MinetError, match=f"a parameter cannot be called '{name}'"):
        formula("x", {name: (1.0,)})


@pytest.mark.parametrize("name", ["float", "values", "beta", "M", "t1", "b_c", "dx", "sums", "expf", "LANES"])
def test_names_that_the_code_uses_may_be_parameters(name):
    assert f"{name}_all[c]" in cuda.source(formula(f"x * {name}", {name: (1.0,)}), ())


def test_spaces_and_lines_do_not_matter():
    of = formula("x\n   * b", {"b": (1.0,)})
    assert of.text == "x * b" and str(of.y) == "b*x"


MATHEMATICS = {
    "x - 1": "x - 1",
    "1 - x": "1 - x",
    "-x - 1": "-x - 1",
    "x / 2 / b": "0.5 * x / b",
    "x / (2 * b) ** 2": "0.25 * x / (b**2)",
    "-2 * x": "-2 * x",
    "2 * (x - b) * (1 - x)": "(1 - x) * (2 * x - 2 * b)",
    "(x + 1) ** 3": "(x + 1)**3",
    "x - (b - x) ** 2": "x - (b - x)**2",
    "sqrt(x) ** -1": "1 / sqrt(x)",
    "x ** 0.5 + x ** b": "sqrt(x) + x**b",
    "x if x > 0 else -x if b > 0 else b": "x if x > 0 else -x if b > 0 else b",
    "2 * where(x > 0 and (x < 1 or not b > 2), x, b)": "2 * (x if x > 0 and (x < 1 or not (b > 2)) else b)",
    "where(where(x > 0, 1, b) < 1, x, b)": "x if (1 if x > 0 else b) < 1 else b",
    "x / (1 + exp(-b * x))": "x * sigmoid(b * x)",
    "b * log(1 + exp(2 * x))": "b * softplus(2 * x)",
    "x / 3 + 0.1 * b": "0.1 * b + 0.3333333333333333 * x",
    "b * exp(-x ** 2 / (2 * pi))": "b * exp(-0.15915494309189535 * x**2)",
    "1e30 * x + 1e-30": "1e+30 * x + 1e-30",
}


@pytest.mark.parametrize("text", MATHEMATICS)
def test_an_expression_is_written_as_mathematics(text):
    parsed = formula(text, {"b": (1.0,)} if "b" in text else {})
    assert printing.Printer()(parsed.y) == MATHEMATICS[text]


CALLS = st.sampled_from(["sin", "tanh", "sigmoid", "abs", "relu"])
LEAVES = st.sampled_from(["x", "b", "2", "0.3", "(-1.5)"])
TEXTS = st.recursive(
    LEAVES,
    lambda parts: st.one_of(
        st.tuples(parts, st.sampled_from("+-*/"), parts).map(lambda p: f"({p[0]} {p[1]} {p[2]})"),
        st.tuples(parts, st.integers(-3, 9)).map(lambda p: f"({p[0]}) ** {p[1]}"),
        st.tuples(CALLS, parts).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(parts, st.sampled_from(["<", ">="]), parts, parts).map(
            lambda p: f"({p[3]} if {p[0]} {p[1]} {p[2]} else {p[0]})"
        ),
    ),
    max_leaves=8,
)


@given(TEXTS)
def test_what_is_written_means_what_was_read(text):
    """Python itself evaluates the text, and what is written in the language of the loops."""
    space = {name: getattr(np, name) for name in ("sin", "tanh", "abs")}
    space |= {"sigmoid": lambda v: 1 / (1 + np.exp(-v)), "relu": lambda v: max(v, 0.0), "real": np.float64}
    try:
        read = formula(f"x + b + ({text})", {"b": (0.75,)})
    except MinetError:
        return
    parts, rest = printing.shared_parts([read.y, read.dx])
    for x in (-1.3, 0.4, 2.1):
        names = {"x": np.float64(x), "b": np.float64(0.75), "dy": np.float64(1)}
        with np.errstate(all="ignore"):
            try:
                expected = float(eval(f"x + b + ({text})", space, names))
            except (ZeroDivisionError, OverflowError):
                continue
            for symbol, part in parts:
                names[symbol.name] = eval(printing.Python()(part), space, names)
            found = float(eval(printing.Python()(rest[0]), space, names))
        if np.isfinite(expected) and abs(expected) < 1e9:
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
            plain = {"x": x, "b": 0.75}
            np.testing.assert_allclose(evaluated(read.y, plain), expected, rtol=1e-9, atol=1e-9)


def test_every_function_has_a_derivative_and_a_value():
    for name, (_, count) in FUNCTIONS.items():
        args = {1: "x", 2: "x, b * x", 3: "x > b, x, 2 * x"}[count]
        of = formula(f"{name}({args}) + b * x", {"b": (0.5,)})
        for x in (0.3, 0.8):
            at = {"x": x, "b": 0.7, "dy": 1.0}
            high, low = (evaluated(of.y, at | {"x": x + step}) for step in (1e-6, -1e-6))
            assert abs(evaluated(of.dx, at) - (high - low) / 2e-6) < 1e-8, name


def test_sympy_is_imported_by_expressions_alone():
    code = "import sys; from minet.layers import all_layers; all_layers(); print('sympy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("text", ["x * sigmoid(x)  # swish\n + 1", 'x # """'])
def test_comments_are_refused_as_they_would_hide_the_rest(text):
    with pytest.raises(MinetError, match="an expression has no comments, found #"):
        formula(text, {})
