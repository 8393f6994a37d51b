"""A table of a model's layers: what each is, reads and gives, its parameters and multiply-adds."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl.nn.graph import Graph
from tinydl.nn.layer import Layer, Parameter

Shape = tuple[int, ...]
Row = tuple[str, str, str, str, str, str]


def table(layer: Layer, shapes: Sequence[Shape]) -> list[str]:
    """The lines, for samples of these shapes (one for each input). Of a graph, inputs come first and outputs last, a column
    says what each layer reads, and a layer that is called again is numbered 3 #2."""
    rows: list[Row] = []
    seen: set[Parameter] = set()

    def visit(path: str, layer: Layer, shapes: Sequence[Shape], reads: str) -> Shape:
        out = layer.output_shape(*shapes)
        children = list(layer.children())
        if isinstance(layer, Graph):
            _graph(path, layer, shapes)
        elif not children or layer.makes_children:
            new = {p for _, _, p in layer.named_parameters() if type(p) is Parameter} - seen
            seen.update(new)
            rows.append((path or "-", type(layer).__name__, reads, str(out), f"{sum(p.size for p in new):,}",
                         f"{layer.flops(*shapes):,}"))
        else:
            shape = shapes[0]
            for name, child in children:
                shape, reads = visit(f"{path}.{name}" if path else name, child, (shape,), reads), ""
        return out

    def _graph(path: str, graph: Graph, shapes: Sequence[Shape]) -> None:
        every, before = graph.shapes(*shapes), f"{path}." if path else ""
        names = [name for name, _, _ in graph.inputs]
        rows.extend((before + name, f"Input {dtype}" if dtype == "int64" else "Input", "", str(shape), "", "")
                    for name, shape, dtype in graph.inputs)
        called: dict[int, int] = {}
        for number, values in graph.calls:
            called[number] = called.get(number, 0) + 1
            names.append(f"{number} #{called[number]}" if called[number] > 1 else str(number))
            visit(before + names[-1], graph.layers[number], [every[v] for v in values], _listed([names[v] for v in values]))
        if len(graph.outputs) > 1 or graph.output_names:
            outputs = graph.output_names or [f"output {i}" for i in range(len(graph.outputs))]
            rows.extend((before + name, "Output", names[v], str(every[v]), "", "")
                        for name, v in zip(outputs, graph.outputs, strict=True))
    visit("", layer, shapes, "")
    rows.insert(0, ("layer", "type", "reads", "output", "parameters", "multiply-adds"))
    shown = [c for c in range(6) if c != 2 or any(r[2] for r in rows[1:])]
    widths = [max(len(r[c]) for r in rows) for c in range(6)]
    rows.insert(1, tuple("-" * w for w in widths))      # type: ignore[arg-type]
    return ["  ".join(r[c].rjust(widths[c]) if c > 3 else r[c].ljust(widths[c]) for c in shown).rstrip() for r in rows]


def _listed(names: list[str]) -> str:
    return ", ".join(names if len(names) <= 4 else [*names[:3], f"... ({len(names)})"])


def shown(names: Sequence[str], shapes: Any) -> str:
    """The shapes of inputs or outputs by their names, for a headline: of one without a name, its shape."""
    if isinstance(shapes, dict):
        return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if shapes and isinstance(shapes[0], tuple):
        named = zip(names, shapes, strict=True) if names else ((shape,) for shape in shapes)
        return ", ".join(" ".join(map(str, each)) for each in named)
    return str(shapes)
