"""Lengths, weights, volumes, speeds, temperatures and amounts of data, converted exactly.

Copy this file into `workspace/tools`, then ask: "How much is 350 °F in °C?"
"""

from fractions import Fraction

from nanobot.agent.tools import Tool

# What one of each is worth in the first unit of its line.
KINDS = [
    {"m": 1, "km": 1000, "cm": "1/100", "mm": "1/1000", "mi": "1609.344", "yd": "0.9144", "ft": "0.3048",
     "in": "0.0254", "nmi": 1852},
    {"kg": 1, "g": "1/1000", "t": 1000, "lb": "0.45359237", "oz": "0.028349523125", "st": "6.35029318"},
    {"l": 1, "ml": "1/1000", "gal": "3.785411784", "qt": "0.946352946", "cup": "0.2365882365",
     "tbsp": "0.01478676478125", "tsp": "0.00492892159375"},
    {"m/s": 1, "km/h": "5/18", "mph": "0.44704", "kn": "463/900"},
    {"byte": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20,
     "GiB": 2**30, "TiB": 2**40},
]  # fmt: skip
# How to come from a temperature to kelvin: add, then multiply.
TEMPERATURES = {"K": (0, 1), "°C": ("273.15", 1), "°F": ("459.67", "5/9")}


class ConvertUnits(Tool):
    name = "convert_units"
    description = "Convert between units of length, weight, volume, speed, temperature or data. Exact."
    parameters = {
        "type": "object",
        "properties": {
            "value": {"type": "number"},
            "unit": {"type": "string", "description": "Such as km, lb, cup, mph, °F, GiB"},
            "to": {"type": "string"},
        },
        "required": ["value", "unit", "to"],
    }
    read_only = True

    async def execute(self, value: float, unit: str, to: str, **kwargs) -> str:
        amount = Fraction(str(value))
        if {unit, to} <= TEMPERATURES.keys():
            (offset, scale), (back, shrink) = TEMPERATURES[unit], TEMPERATURES[to]
            result = (amount + Fraction(offset)) * Fraction(scale) / Fraction(shrink) - Fraction(back)
        else:
            kind = next((kind for kind in KINDS if unit in kind and to in kind), None)
            if kind is None:
                known = "; ".join(", ".join(kind) for kind in [*KINDS, TEMPERATURES])
                return f"Error: {unit} cannot be converted to {to}. Units that fit each other: {known}"
            result = amount * Fraction(kind[unit]) / Fraction(kind[to])
        return f"{value:g} {unit} = {float(result):.10g} {to}"
