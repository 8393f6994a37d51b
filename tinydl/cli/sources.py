"""Where a table comes from: a file or standard input, compressed or not, its bytes as text."""
from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tinydl.cli.errors import CommandError

SEPARATORS = (",", ";", "\t", "|")
#: what a file that is no table of ours begins with, what it is, and what of pandas reads it
OTHERS = ((rb"\xd0\xcf\x11\xe0", "an Excel workbook", "read_excel"), (rb'\s*(\{\s*"|\[\s*[\[{])', "JSON", "read_json"),
          (rb"<stata_dta>|[\x71-\x73][\x01\x02]\x01\x00", "a Stata file", "read_stata"),
          (rb"\$FL[23]", "an SPSS file", "read_spss"), (rb"\0{12}\xc2\xea\x81\x60|HEADER RECORD\*{7}", "a SAS file", "read_sas"),
          (rb"\x89HDF", "an HDF5 file", "read_hdf"), (rb"SQLite format 3\0", "an SQLite database", "read_sql"),
          (rb"(?i)\s*<(!doctype|html|table|\?xml)", "a web page or XML", "read_html"))
#: bytes that are looked at for how the file is written
SAMPLE = 1 << 16


def standard_input(path: Path) -> bool:
    return str(path) == "-"


def name_of(path: Path) -> str:
    """For messages."""
    return "standard input" if standard_input(path) else str(path)


class Source:
    """The bytes of `path` (- is standard input), decompressed; they can be read more than once."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, name_of(path)
        self._given: bytes | None = None
        if standard_input(path):
            if sys.stdin is None:
                raise CommandError("standard input is closed")
            self._given = sys.stdin.buffer.read()
        elif not path.is_file():        # a pipe, as of <(...), can be read once
            self._given = path.read_bytes()
        with self._raw() as f:
            self.magic = f.read(6)
        with self.open() as f:
            self.sample = f.read(SAMPLE)

    def _raw(self) -> IO[bytes]:
        return open(self.path, "rb") if self._given is None else io.BytesIO(self._given)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """From its beginning; CommandError where it is compressed and damaged."""
        with self._raw() as raw:
            try:
                if self.magic.startswith(b"PK\3\4"):
                    with zipfile.ZipFile(raw) as z, z.open(self._only_member(z)) as f:
                        yield f
                    return
                for magic, module in ((b"\x1f\x8b", gzip), (b"\xfd7zXZ\0", lzma), (b"BZh", bz2)):
                    if self.magic.startswith(magic):
                        with module.open(raw) as f:
                            yield f
                        return
                yield raw
            except (zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as e:
                raise CommandError(f"{self.name} is compressed, and damaged or truncated: {e}") from None

    def _only_member(self, z: zipfile.ZipFile) -> zipfile.ZipInfo:
        members = [m for m in z.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if any(m.filename.startswith("xl/") for m in members):
            raise self._other("an Excel workbook", "read_excel")
        if members and all(m.filename.endswith(".npy") for m in members):
            raise CommandError(f"{self.name} is an .npz, which is read from a file whose name ends in .npz alone: save it there")
        if len(members) != 1:
            names = ", ".join(repr(m.filename) for m in members[:4]) + ", ..." * (len(members) > 4)
            raise CommandError(f"{self.name} is a zip of {len(members)} files ({names}); it must have one: unpack it")
        return members[0]

    def _other(self, what: str, reads: str) -> CommandError:
        return CommandError(f"{self.name} is {what}, and a CSV, .npz, Parquet or Feather file is needed: where pandas.{reads} "
                            "reads it, to_csv(path, index=False) of the table writes one")

    def encoding(self) -> str:
        """By its first bytes; UTF-8 where they say nothing."""
        if self.sample.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        for begins, what, reads in OTHERS:
            if re.match(begins, self.sample):
                raise self._other(what, reads)
        if b"\0" in self.sample:
            raise CommandError(f"{self.name} is not a CSV: it has bytes that are 0, as no text has (but UTF-16, which needs its "
                               "mark at the beginning)")
        return "utf-8-sig"


def separator_of(source: Source, encoding: str) -> str:
    """Of , ; tab and |, the one that cuts the first lines into most cells, and into equally many; a comma where none does."""
    text = source.sample.decode(encoding, "replace")
    if len(source.sample) == SAMPLE:        # whose last line is cut off
        text = text[:text.rfind("\n") + 1] or text
    best, most = ",", 1
    for separator in SEPARATORS:
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row][:50]
        except csv.Error:
            continue
        sizes = {len(row) for row in rows[1:]}
        if rows and len(rows[0]) > most and len(sizes) <= 1 and sizes <= {len(rows[0]), len(rows[0]) + 1}:
            best, most = separator, len(rows[0])
    return best
