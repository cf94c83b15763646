"""FloQL's answers computed plainly, from SPEC section 6: lists of points, one loop a stage, nothing clever. The tests compare with it."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

from flo.floql.query import AGGREGATES, Comparison, Expression, FixedRange, Negative, Number, Operation, Query, Value

Points = list[tuple[int, float]]
Key = tuple[str, tuple[tuple[str, str], ...], str]  # measurement, tags, field
Data = dict[Key, Points]


@dataclass
class Line:
    """A series of the answer."""

    name: str
    tags: dict[str, str]
    field: str
    points: Points

    def order(self) -> tuple[str, list[tuple[str, str]], str]:
        return self.name, sorted(self.tags.items()), self.field


def answer(query: Query, data: Data) -> list[Line]:
    """The answer to a query with a fixed range."""
    assert isinstance(query.range, FixedRange)
    start, end = query.range.start, query.range.end
    lines = []
    for (name, tags, field_name), points in data.items():
        known = dict(tags)
        named = query.measurement == name if isinstance(query.measurement, str) else query.measurement.search(name)
        if named and all(matcher.matches(known.get(matcher.name, "")) for matcher in query.matchers):
            lines.append(Line(name, known, field_name, [(t, v) for t, v in sorted(points) if start <= t <= end]))
    lines.sort(key=Line.order)
    window: int | None = None
    descending = False
    for stage in query.stages:
        arguments = stage.arguments
        match stage.name:
            case "field":
                lines = [line for line in lines if line.field == arguments[0]]
            case "window":
                assert isinstance(arguments[0], int)
                window = grid = arguments[0]
            case name if name in AGGREGATES:
                own = arguments[-1]
                width = own if isinstance(own, int) else window
                grid, window = width or 0, None
                lines = [replace(line, points=aggregated(line.points, name, arguments[0], width, start)) for line in lines]
            case "rate":
                assert isinstance(arguments[0], int)
                grid = arguments[0]
                lines = [replace(line, points=rate(line.points, grid)) for line in lines]
            case "delta":
                lines = [replace(line, points=[(t, v - line.points[i][1]) for i, (t, v) in enumerate(line.points[1:])]) for line in lines]
            case "where":
                assert isinstance(arguments[0], Comparison)
                comparison = arguments[0]
                lines = [replace(line, points=[(t, v) for t, v in line.points if holds(v, comparison)]) for line in lines]
            case "group_by":
                assert isinstance(arguments[0], tuple)
                lines = grouped(lines, arguments[0])
            case "topk" | "bottomk":
                assert isinstance(arguments[0], int)
                lines = ranked(lines, arguments[0], stage.name == "topk")
            case "math":
                expression = arguments[0]
                assert isinstance(expression, Expression)
                lines = [
                    replace(line, points=[(t, r) for t, v in line.points if (r := result(expression, v)) is not None]) for line in lines
                ]
            case "alias":
                lines = [replace(line, name=str(arguments[0])) for line in lines]
            case "abs" | "ceil" | "floor" | "round":
                functions: dict[str, Callable[[float], float]] = {"abs": abs, "ceil": math.ceil, "floor": math.floor}
                function = functions.get(stage.name)
                digits = arguments[0] if arguments else 0
                assert digits is None or isinstance(digits, int)
                lines = [
                    replace(line, points=[(t, float(function(v) if function else round(v, digits or 0))) for t, v in line.points])
                    for line in lines
                ]
            case "fill":
                lines = [replace(line, points=filled(line.points, str(arguments[0]), grid, start, end)) for line in lines]
            case "limit":
                assert isinstance(arguments[0], int)
                count = arguments[0]
                lines = [replace(line, points=line.points[-count:] if descending else line.points[:count]) for line in lines]
            case "sort":
                descending = arguments[0] == "-time"
    lines = [line for line in lines if line.points]
    for line in lines:
        if descending:
            line.points.reverse()
    return lines


def aggregated(points: Points, name: str, argument: object, width: int | None, start: int) -> Points:
    windows: dict[int, list[float]] = {}
    if name == "first":
        points = [(t, -v) for t, v in sorted([(t, -v) for t, v in points])]  # of those at one time, the largest first
    elif name == "last":
        points = sorted(points)
    for t, v in points:
        windows.setdefault(t // width * width if width else start, []).append(v)
    results = [(t, one_value(name, argument, values)) for t, values in sorted(windows.items())]
    return [(t, v) for t, v in results if v is not None]


def one_value(name: str, argument: object, values: list[float]) -> float | None:
    count = len(values)
    match name:
        case "avg":
            return math.fsum(values) / count
        case "sum":
            return math.fsum(values)
        case "count":
            return float(count)
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "first":
            return values[0]
        case "last":
            return values[-1]
        case "stddev":
            return statistics.stdev(values) if count > 1 else None
        case "median":
            return statistics.median(values)
    assert isinstance(argument, float)
    return sorted(values)[max(1, math.floor(count * argument / 100 + 0.5)) - 1]


def rate(points: Points, width: int) -> Points:
    rises: dict[int, float] = {}
    for (_, before), (t, v) in pairwise(points):
        at = t // width * width
        rises[at] = rises.get(at, 0.0) + (v - before if v >= before else v)
    return [(t, rise / (width / 1000)) for t, rise in sorted(rises.items())]


def holds(value: float, comparison: Comparison) -> bool:
    number = comparison.number
    return {
        ">": value > number,
        ">=": value >= number,
        "<": value < number,
        "<=": value <= number,
        "==": value == number,
        "!=": value != number,
    }[comparison.operator]


def grouped(lines: list[Line], tags: tuple[str, ...]) -> list[Line]:
    groups: dict[tuple[str, tuple[str, ...], str], Line] = {}
    for line in lines:
        values = tuple(line.tags.get(tag, "") for tag in tags)
        group = groups.setdefault((line.name, values, line.field), Line(line.name, dict(zip(tags, values, strict=True)), line.field, []))
        group.points += line.points
    for group in groups.values():
        group.points.sort(key=lambda point: point[0])
    return sorted(groups.values(), key=Line.order)


def ranked(lines: list[Line], count: int, largest: bool) -> list[Line]:
    def mean(line: Line) -> float:
        return math.fsum(v for _, v in line.points) / len(line.points) * (-1 if largest else 1)

    return sorted([line for line in lines if line.points], key=lambda line: (mean(line), line.order()))[:count]


def result(expression: Expression, value: float) -> float | None:
    """The expression's value, None if it has none."""
    try:
        number = calculate(expression, value)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def calculate(expression: Expression, value: float) -> float:
    match expression:
        case Number(number):
            return number
        case Value():
            return value
        case Negative(operand):
            return -calculate(operand, value)
        case Operation(operator, left, right):
            a, b = calculate(left, value), calculate(right, value)
            match operator:
                case "+":
                    return a + b
                case "-":
                    return a - b
                case "*":
                    return a * b
                case "/":
                    return a / b
            return math.fmod(a, b)
    raise AssertionError(expression)


def filled(points: Points, how: str, width: int, start: int, end: int) -> Points:
    if how == "none" or not points:
        return points
    known = dict(points)
    times = sorted(known)
    complete: Points = []
    for t in range(start // width * width, end + 1, width):
        earlier = [time for time in times if time < t]
        later = [time for time in times if time > t]
        if t in known:
            complete.append((t, known[t]))
        elif how == "0":
            complete.append((t, 0.0))
        elif how == "previous" and earlier:
            complete.append((t, known[earlier[-1]]))
        elif how == "linear" and earlier and later:
            a, b = earlier[-1], later[0]
            complete.append((t, known[a] + (known[b] - known[a]) * (t - a) / (b - a)))
    return complete
