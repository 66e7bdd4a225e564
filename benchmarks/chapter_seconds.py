"""What each chapter takes, from the copies that a demo executed: data/results/chapter_seconds.csv.

    make demo
    .venv/bin/python benchmarks/chapter_seconds.py demo/notebooks

`rsrl notebooks` tells it before it starts. Nothing else should run meanwhile.
"""

import json
import sys
from pathlib import Path

import pandas as pd

TABLE = Path(__file__).parents[1] / "data" / "results" / "chapter_seconds.csv"


def main(folder: Path) -> None:
    """Write the seconds that papermill noted in each executed notebook of a folder."""
    rows = []
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        noted = json.loads(path.read_text())["metadata"]["papermill"]
        rows.append({"chapter": path.stem, "seconds": round(noted["duration"], 1)})
    pd.DataFrame(rows).to_csv(TABLE, index=False)
    print(TABLE.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
