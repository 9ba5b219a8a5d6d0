"""Penguins by their size and by isotopes in their blood, grouped by nest: a CSV file.

The measures of the bill are left out: with them, size alone tells the species.

pip install palmerpenguins==0.1.6; python -m experiments.own_data.penguins penguins.csv
"""

from __future__ import annotations

import csv
import sys
from importlib.resources import files
from pathlib import Path

#: Modality -> columns of the original table.
COLUMNS = {
    "size": ("Flipper Length (mm)", "Body Mass (g)"),
    "isotopes": ("Delta 15 N (o/oo)", "Delta 13 C (o/oo)"),
}


def write(file: Path) -> None:
    """Write species, nest, and the numbers of each modality; a cell is empty where one is missing.

    Args:
        file: The CSV file.
    """
    text = (files("palmerpenguins") / "data" / "penguins-raw.csv").read_text(encoding="utf-8")
    with file.open("w", newline="", encoding="utf-8") as target:
        writer = csv.writer(target)
        writer.writerow(("species", "nest", *COLUMNS))
        for row in csv.DictReader(text.splitlines()):
            nest = row["Individual ID"].partition("A")[0]  # N1A1 and N1A2 are a pair
            values = [[row[name] for name in names] for names in COLUMNS.values()]
            cells = ["" if "NA" in numbers else " ".join(numbers) for numbers in values]
            group = f"{row['studyName']} {row['Island']} {nest}"
            writer.writerow((row["Species"].partition(" ")[0], group, *cells))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
