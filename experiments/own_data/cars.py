"""Fuel consumption of cars by their name and their numbers: a CSV file.

pip install vega-datasets==0.9.0; python -m experiments.own_data.cars cars.csv
"""

from __future__ import annotations

import csv
import json
import sys
from importlib.resources import files
from pathlib import Path

NUMBERS = ("Cylinders", "Displacement", "Horsepower", "Weight_in_lbs", "Acceleration", "Year")


def write(file: Path) -> None:
    """Write name, numbers, origin, and miles per gallon of the cars for which these are known.

    Cars of one name (of several years) are a group.

    Args:
        file: The CSV file.
    """
    text = (files("vega_datasets") / "_data" / "cars.json").read_text(encoding="utf-8")
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(("miles_per_gallon", "model", "name", *NUMBERS, "Origin"))
        for car in json.loads(text):
            if car["Miles_per_Gallon"] is None:
                continue
            numbers = {**car, "Year": car["Year"][:4]}
            cells = ["" if numbers[name] is None else numbers[name] for name in NUMBERS]
            name = car["Name"]
            writer.writerow((car["Miles_per_Gallon"], name, name, *cells, car["Origin"]))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
