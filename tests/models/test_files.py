"""A model file is read when it is the one that was pinned, and refused before any loader when it is anything else."""

import grp
import hashlib
import io
import json
import os
import pickle
import pwd
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.errors import DeclarationError, MissingExtra, ModelRefused
from tenure.models import Format, ModelFile

ONNX = b"\x08\x0a\x12\x07pytorch"
PICKLE = pickle.dumps({"weights": [0.1, 0.2]})
UNKNOWN = "0" * 64


def safetensors(**header: object) -> bytes:
    """Lay out a file of tensors with this header and four bytes of data."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4)


def torch_archive() -> bytes:
    """Lay out a file as `torch.save` does: a zip with a pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", PICKLE)
    return buffer.getvalue()


TENSOR = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
SAFETENSORS = safetensors(weight=TENSOR)


def pinned(path: Path, content: bytes, format: Format = "onnx", **limits: int) -> ModelFile:  # noqa: A002
    """Write a file, and pin what was written."""
    path.write_bytes(content)
    path.chmod(0o644)
    return ModelFile(path, sha256=hashlib.sha256(content).hexdigest(), format=format, **limits)


def refusal(file: ModelFile) -> str:
    """Read a file that must be refused, and give the sentence that says why."""
    with pytest.raises(ModelRefused) as caught:
        file.read()
    assert caught.value.path == (str(Path(file.path).absolute()),)
    assert caught.value.hint
    return caught.value.message


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder that its owner alone can write, and make it removable again."""
    tmp_path.chmod(0o755)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("model.onnx", ONNX, "onnx"),
        ("MODEL.ONNX", ONNX, "onnx"),
        ("model.safetensors", SAFETENSORS, "safetensors"),
        ("vocab.txt", "[PAD]\nnaïve\n".encode(), "text"),
        ("tokenizer.json", b'{"version": "1.0"}', "text"),
    ],
)
def test_gives_the_bytes_of_the_pinned_file(folder: Path, name: str, content: bytes, format: Format) -> None:  # noqa: A002
    """A file with the named format and the pinned checksum is given as it is."""
    assert pinned(folder / name, content, format).read() == content


def test_a_header_whose_length_looks_like_a_pickle_is_tensors(folder: Path) -> None:
    """A header of 640 bytes makes a file of tensors begin with the bytes of a pickle; it is none."""
    content = safetensors(weight=TENSOR, __metadata__={"note": "x" * 544})
    assert content[:2] == pickle.PROTO + b"\x02"
    assert pinned(folder / "model.safetensors", content, "safetensors").read() == content


@pytest.mark.parametrize(
    "name", ["model.pkl", "model.pickle", "model.joblib", "model.pt", "model.PTH", "pytorch_model.bin"]
)
def test_a_pickle_is_refused_by_its_name(folder: Path, name: str) -> None:
    """A pickle under its own name is refused before it is opened, although its checksum is pinned."""
    assert refusal(pinned(folder / name, PICKLE)) == (
        f"the model file {name} has the suffix of a pickle, which runs code when it is loaded"
    )


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("suffix", "format"), [("onnx", "onnx"), ("safetensors", "safetensors"), ("txt", "text")])
def test_a_renamed_pickle_is_refused_by_its_bytes(folder: Path, protocol: int, suffix: str, format: Format) -> None:  # noqa: A002
    """A pickle under another name is refused by what it begins with."""
    content = pickle.dumps(["weights"], protocol=protocol)
    assert refusal(pinned(folder / f"model.{suffix}", content, format)) == (
        f"the model file model.{suffix} holds a pickle, which runs code when it is loaded"
    )


def test_a_zip_with_a_pickle_is_refused(folder: Path) -> None:
    """What `torch.save` writes is a zip with a pickle in it, and is refused as one."""
    assert refusal(pinned(folder / "model.onnx", torch_archive())) == (
        "the model file model.onnx holds a pickle, which runs code when it is loaded"
    )


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("model.onnx", SAFETENSORS, "onnx"),
        ("model.onnx", b"", "onnx"),
        ("model.onnx", b"PK\x03\x04 cut off", "onnx"),
        ("model.safetensors", ONNX, "safetensors"),
        ("model.safetensors", (2**40).to_bytes(8, "little") + b"{}", "safetensors"),
        ("vocab.txt", b"\xff\xfe", "text"),
        ("vocab.txt", b"token\0", "text"),
    ],
)
def test_content_of_another_format_is_refused(folder: Path, name: str, content: bytes, format: Format) -> None:  # noqa: A002
    """A file that does not begin as its format does is refused."""
    assert refusal(pinned(folder / name, content, format)) == f"the model file {name} does not hold {format}"


def test_a_suffix_of_another_format_is_refused(folder: Path) -> None:
    """The loader is the one that was named: no other is tried when the suffix disagrees."""
    assert refusal(pinned(folder / "model.safetensors", SAFETENSORS, "onnx")) == (
        "the model file model.safetensors is not named as onnx is: .onnx"
    )


def test_another_checksum_is_refused(folder: Path) -> None:
    """One bit makes it another file; both checksums are told."""
    file = pinned(folder / "model.onnx", ONNX)
    changed = ONNX[:-1] + bytes([ONNX[-1] ^ 1])
    (folder / "model.onnx").write_bytes(changed)
    assert refusal(file) == (
        f"the model file model.onnx has the checksum {hashlib.sha256(changed).hexdigest()}, not {file.sha256}"
    )


def test_a_file_that_is_too_large_is_refused(folder: Path) -> None:
    """The limit is compared before anything is read."""
    file = pinned(folder / "model.onnx", ONNX, max_bytes=len(ONNX) - 1)
    assert refusal(file) == f"the model file model.onnx holds {len(ONNX)} bytes, and {len(ONNX) - 1} are allowed"


def test_a_file_as_large_as_allowed_is_read(folder: Path) -> None:
    """The limit itself is allowed."""
    assert pinned(folder / "model.onnx", ONNX, max_bytes=len(ONNX)).read() == ONNX


def test_a_file_that_everybody_can_write_is_refused(folder: Path) -> None:
    """Whoever may write the file may change the model."""
    file = pinned(folder / "model.onnx", ONNX)
    (folder / "model.onnx").chmod(0o646)
    assert refusal(file) == "the model file model.onnx can be written by every user"


def test_a_file_in_a_folder_that_everybody_can_write_is_refused(folder: Path) -> None:
    """Whoever may write the folder may put another file in its place."""
    file = pinned(folder / "model.onnx", ONNX)
    folder.chmod(0o777)
    assert refusal(file) == "the model file model.onnx can be replaced by every user"


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o2775])
def test_a_folder_that_is_sticky_or_of_a_group_of_ones_own_is_fine(folder: Path, mode: int) -> None:
    """A folder as /tmp is, where only its owner can replace a file, and a group without other users are fine."""
    file = pinned(folder / "model.onnx", ONNX)
    (folder / "model.onnx").chmod(0o664)
    folder.chmod(mode)
    assert file.read() == ONNX


@pytest.mark.parametrize("is_primary", [False, True])
def test_what_a_group_of_others_can_write_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_primary: bool
) -> None:
    """A group to which the system counts another user may write neither the file nor its folder."""
    # Only the superuser could make such a group, and would have to leave it behind.
    others = [pwd.struct_passwd(("ann", "x", 54321, os.getegid() if is_primary else 54321, "", "/", "/bin/sh"))]
    monkeypatch.setattr(pwd, "getpwall", lambda every=pwd.getpwall: [*every(), *others])
    if not is_primary:
        monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group(("team", "x", number, ["ann"])))
    file = pinned(folder / "model.onnx", ONNX)
    assert file.read() == ONNX
    (folder / "model.onnx").chmod(0o664)
    assert refusal(file).startswith("the model file model.onnx can be written by others of its group, as ")
    (folder / "model.onnx").chmod(0o644)
    folder.chmod(0o775)
    assert refusal(file).startswith("the model file model.onnx can be replaced by others of its group, as ")


def test_a_link_is_followed(folder: Path) -> None:
    """Installers and mounted volumes link files into place; what counts is the file at its end."""
    file = pinned(folder / "blob.onnx", ONNX)
    (folder / "model.onnx").symlink_to(folder / "blob.onnx")
    assert ModelFile(folder / "model.onnx", sha256=file.sha256, format="onnx").read() == ONNX


def test_a_link_into_a_folder_that_everybody_can_write_is_refused(folder: Path) -> None:
    """The folder at the end of a link is held to the same as the folder of the link."""
    (folder / "open").mkdir()
    file = pinned(folder / "open" / "model.onnx", ONNX)
    (folder / "open").chmod(0o777)
    (folder / "model.onnx").symlink_to(folder / "open" / "model.onnx")
    linked = ModelFile(folder / "model.onnx", sha256=file.sha256, format="onnx")
    assert refusal(linked) == "the model file model.onnx can be replaced by every user"


def test_a_pipe_is_refused_at_once(folder: Path) -> None:
    """A pipe that nobody writes into does not hold up the start."""
    os.mkfifo(folder / "model.onnx")
    assert refusal(ModelFile(folder / "model.onnx", sha256=UNKNOWN, format="onnx")) == (
        "the model file model.onnx is not a plain file"
    )


def test_a_folder_is_refused(folder: Path) -> None:
    """A folder is not a file."""
    (folder / "model.onnx").mkdir()
    refusal(ModelFile(folder / "model.onnx", sha256=UNKNOWN, format="onnx"))


def test_a_missing_file_is_refused(folder: Path) -> None:
    """What is not there is refused like all else, with the path that was looked for."""
    assert refusal(ModelFile(folder / "model.onnx", sha256=UNKNOWN, format="onnx")) == (
        "the model file model.onnx cannot be read: No such file or directory"
    )


@pytest.mark.parametrize("sha256", ["", "8199be6f699a", "G" * 64, UNKNOWN + "\n", UNKNOWN.replace("0", "A")])
def test_a_checksum_that_is_none_is_refused_when_declared(sha256: str) -> None:
    """A pin that could never match is a mistake in the declaration."""
    with pytest.raises(DeclarationError, match="is not a SHA-256 checksum"):
        ModelFile("model.onnx", sha256=sha256, format="onnx")


def test_an_unknown_format_is_refused_when_declared() -> None:
    """Formats that could run code are not among those that can be named."""
    with pytest.raises(DeclarationError, match="cannot have the format 'pickle'"):
        ModelFile("model.pkl", sha256=UNKNOWN, format="pickle")  # type: ignore[arg-type]


def field(number: int, content: bytes | int) -> bytes:
    """Lay out a field of a message as ONNX has it."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Lay out a number."""
    parts = bytearray()
    while value >= 128:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


TENSOR_HERE = field(1, 3) + field(2, 1) + field(8, b"weight") + field(9, bytes(12)) + field(14, 0)
TENSOR_ELSEWHERE = field(8, b"weight") + field(14, 1) + field(13, field(1, b"location") + field(2, b"../weights.bin"))


def within(path: list[int], message: bytes) -> bytes:
    """Lay a message into others, as the field of each that a path says; beside it stands what says nothing."""
    for number in reversed(path):
        message = field(3, b"name") + field(number, message)
    return field(1, 8) + message


PATHS_TO_TENSORS = [
    [7, 5],  # an initializer of the graph
    [7, 15, 1],  # a sparse one
    [7, 15, 2],
    [7, 1, 5, 5],  # an attribute of a node
    [7, 1, 5, 10],
    [7, 1, 5, 6, 5],  # an initializer of a graph that is an attribute, as a loop's is
    [7, 1, 5, 11, 1, 5, 5],
    [7, 1, 5, 22, 1],
    [25, 7, 5, 5],  # in a function
    [25, 11, 5],
    [20, 1, 5],  # in what trains it
    [20, 2, 5],
]


@pytest.mark.parametrize("path", PATHS_TO_TENSORS)
def test_tensors_in_other_files_are_refused(folder: Path, path: list[int]) -> None:
    """Wherever in an ONNX model a tensor says that it lies in another file, the model is refused."""
    assert pinned(folder / "model.onnx", within(path, TENSOR_HERE)).read()
    assert refusal(pinned(folder / "model.onnx", within(path, TENSOR_ELSEWHERE))) == (
        "the model file model.onnx has tensors in other files, which its checksum does not cover"
    )


@pytest.mark.parametrize("content", [ONNX[:-1], ONNX + b"\x3b", field(1, 8) + b"\xff" * 11, ONNX + b"\x3a\x05\x0a"])
def test_a_garbled_graph_is_refused(folder: Path, content: bytes) -> None:
    """What cannot be read as ONNX, so that it is not known what it leads to, is refused."""
    assert refusal(pinned(folder / "model.onnx", content)) == (
        "the model file model.onnx does not hold onnx: it is cut off or garbled"
    )


def test_a_graph_without_an_end_is_refused(folder: Path) -> None:
    """Graphs within graphs, deeper than any model has them, do not exhaust the stack."""
    message = b""
    for _ in range(12):
        message = field(1, field(5, field(6, message)))
    assert pinned(folder / "model.onnx", field(1, 8) + field(7, message)).read()
    for _ in range(200):
        message = field(1, field(5, field(6, message)))
    assert "garbled" in refusal(pinned(folder / "model.onnx", field(1, 8) + field(7, message)))


@pytest.fixture
def package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package that carries a model, and that cannot be imported."""
    inside = folder / "explosive_model"
    inside.mkdir()
    (inside / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(folder)
    return inside


def test_a_file_of_a_package_is_found_without_importing_it(package: Path) -> None:
    """A package's code is not run to find its file."""
    (package / "data").mkdir()
    expected = pinned(package / "data" / "model.onnx", ONNX)
    file = ModelFile.of_package("explosive_model", "data/model.onnx", sha256=expected.sha256, format="onnx")
    assert file == expected
    assert file.read() == ONNX


def test_a_file_that_its_package_lacks_is_refused_when_read(package: Path) -> None:
    """A package without the file is told by the path where the file should be."""
    file = ModelFile.of_package("explosive_model", "model.onnx", sha256=UNKNOWN, format="onnx")
    assert file.path == package / "model.onnx"
    refusal(file)


@pytest.mark.parametrize("package", ["no_such_model", "pickle"])
def test_a_package_that_is_not_installed_says_how_to_install_it(package: str) -> None:
    """A missing package, or a module without files of its own, is a missing extra."""
    with pytest.raises(MissingExtra) as caught:
        ModelFile.of_package(package, "model.onnx", sha256=UNKNOWN, format="onnx")
    assert caught.value.hint == f"pip install {package.replace('_', '-')}"


def test_a_package_inside_of_another_is_refused(package: Path) -> None:
    """Finding an inner package would import the outer one."""
    with pytest.raises(DeclarationError, match="would be imported"):
        ModelFile.of_package(f"{package.name}.inner", "model.onnx", sha256=UNKNOWN, format="onnx")
