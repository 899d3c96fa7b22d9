"""The yield tables in plain pandas, written as one would in an afternoon: for `benchmarks.report` to compare with.

python -m benchmarks.report_plain PARQUET_FOLDER OUT.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def tables(folder: Path) -> dict[str, object]:
    """First-pass and final yield, Pareto, step times, step yields, cycle times, measurements against limits."""
    attempts = pd.read_parquet(folder / "attempts.parquet")
    phases = pd.read_parquet(folder / "phases.parquet")
    measurements = pd.read_parquet(folder / "measurements.parquet")
    counted = attempts[attempts["counted"]]
    by_board = counted.groupby("board", sort=False)
    first, last = by_board.first(), by_board.last()
    failures = counted[~counted["good"]].groupby("board", sort=False).first()
    good = phases[phases["outcome"].isin(["pass", "marginal"])]
    judged = measurements[measurements["order"].isin(counted["order"])]
    measured = judged.groupby(["step", "name", "unit_of", "minimum", "maximum"], dropna=False, observed=True)["value"]
    found = measured.agg(["count", "min", "median", "max"]).reset_index()
    outside = judged.assign(bad=judged["outcome"] == "fail").groupby("name", observed=True)["bad"].sum()
    reached = phases.merge(attempts[["order", "board", "attempt"]], on="order")
    reached = reached[(reached["attempt"] == 1) & reached["outcome"].notna()]
    by_step = reached.assign(well=reached["outcome"].isin(["pass", "marginal"])).groupby("step", observed=True)
    return {
        "first_pass": [int(first["good"].sum()), len(first)],
        "final": [int(last["good"].sum()), len(last)],
        "pareto": {str(code): int(n) for code, n in failures["code"].value_counts().items() if n},
        "medians": dict(zip(found["name"].astype(str), found["median"], strict=True)),
        "outside": {str(name): int(n) for name, n in outside.items()},
        "steps": good.groupby("step", observed=True)["duration_s"].quantile([0.5, 0.95]).unstack().to_dict("index"),
        "step_yields": by_step["well"].mean().to_dict(),
        "cycle": counted["cycle_s"].quantile([0.5, 0.95]).tolist(),
        "by_run": counted.groupby("run", observed=True)["good"].mean().describe().to_dict(),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(tables(Path(sys.argv[1]))))
