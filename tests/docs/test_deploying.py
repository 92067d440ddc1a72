"""The guide to deploying, and roster's Dockerfile and compose.yaml: their times, paths, files and commands agree."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).parents[2]
ROSTER = ROOT / "examples" / "roster"
GUIDE = (ROOT / "docs" / "guides" / "deploying.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLOSES = 10
"""Seconds that closes are granted: one `close_timeout`."""
AFTER_CANCEL = 1
LIVE, READY = "/livez", "/readyz"


def blocks(language: str) -> list[str]:
    """Give the blocks of the guide that are in a language."""
    return [source for found, source in BLOCK.findall(GUIDE) if found == language]


def manifests() -> dict[str, Any]:
    """Give what Kubernetes is to make, by kind."""
    found = [manifest for block in blocks("yaml") for manifest in yaml.safe_load_all(block)]
    return {manifest["kind"]: manifest for manifest in found if "kind" in manifest}


def settings() -> dict[str, float]:
    """Give the times that the guide's app names."""
    [first, *_] = blocks("python")
    calls = [node for node in ast.walk(ast.parse(first)) if isinstance(node, ast.Call)]
    [call] = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "lifespan"]
    return {str(given.arg): ast.literal_eval(given.value) for given in call.keywords if given.arg != "deployment"}


def needed() -> float:
    """Give how long an end may take, in seconds."""
    return settings()["drain_delay"] + settings()["grace"] + AFTER_CANCEL + CLOSES


def instructions() -> list[tuple[str, str]]:
    """Give the instructions of the Dockerfile, each with its arguments on one line."""
    lines = (line for line in (ROSTER / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in whole.splitlines()) if name]


def said(name: str) -> list[str]:
    """Give the arguments of all instructions of one name."""
    return [arguments for found, arguments in instructions() if found == name]


def in_context(source: str) -> bool:
    """Tell whether a file of the repository gets to the Docker engine."""
    kept = False
    for line in (ROSTER / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and (fnmatch.fnmatch(source, pattern) or source.startswith(f"{pattern}/")):
            kept = line.startswith("!")
    return kept


def seconds(duration: str | float) -> float:
    """Read a duration as Docker has it."""
    return float(str(duration).removesuffix("s"))


def test_sum_of_an_end() -> None:
    """Whatever may kill the app grants more than its end takes, and the guide's own sum says so."""
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    compose = yaml.safe_load((ROSTER / "compose.yaml").read_text())
    limits = re.findall(r"--(?:graceful-timeout|workers-kill-timeout) (\d+)", GUIDE)
    granted = [
        pod["terminationGracePeriodSeconds"],
        *map(int, re.findall(r"^TimeoutStopSec=(\d+)$", blocks("ini")[0], re.MULTILINE)),
        seconds(compose["services"]["roster"]["stop_grace_period"]),
        *map(int, limits),
    ]
    assert len(limits) == 2
    assert min(granted) > needed()
    assert max(map(int, limits)) < pod["terminationGracePeriodSeconds"]
    assert f"5 + 5 + {AFTER_CANCEL} + {CLOSES} is less than {pod['terminationGracePeriodSeconds']}" in GUIDE


def test_probes() -> None:
    """Liveness asks no database, readiness is noticed within the drain, and a start has the time that it may take."""
    deployment, service = manifests()["Deployment"]["spec"], manifests()["Service"]["spec"]
    [container] = deployment["template"]["spec"]["containers"]
    [port] = container["ports"]
    start, live, ready = (container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert [probe["httpGet"]["path"] for probe in (start, live, ready)] == [LIVE, LIVE, READY]
    assert {probe["httpGet"]["port"] for probe in (start, live, ready)} == {port["name"]}
    assert service["ports"][0]["targetPort"] == port["name"]
    assert ready["periodSeconds"] * ready["failureThreshold"] < settings()["drain_delay"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 120
    assert str(port["containerPort"]) in container["args"]


def test_selectors() -> None:
    """What selects pods selects those that the deployment makes."""
    made = manifests()["Deployment"]["spec"]["template"]["metadata"]["labels"]
    kinds = manifests()
    assert kinds["Deployment"]["spec"]["selector"]["matchLabels"] == made
    assert kinds["Service"]["spec"]["selector"] == made
    assert kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == made


@pytest.mark.parametrize("source", [name for given in said("COPY") for name in shlex.split(given)[:-1]])
def test_what_is_copied_is_there(source: str) -> None:
    """Each file that the Dockerfile copies is in the repository, and gets into the context; or was made before."""
    if source.startswith(("--from=", "/")):
        made = {name.partition(" AS ")[2] for name in said("FROM")}
        assert source.removeprefix("--from=") in made or any(source in given for given in said("RUN"))
        return
    assert (ROOT / source).exists()
    assert in_context(source)


def test_context_has_no_secrets() -> None:
    """Neither data nor settings of the machine that builds the image get into it."""
    for kept in ("examples/roster/.env", "examples/roster/.var", ".git", ".venv", "requirements/dev.txt"):
        assert not in_context(kept), kept


def test_image_runs_as_a_user() -> None:
    """The last stage names a user who is not root, its command and its health check are lists, which get signals."""
    user = said("USER")[-1]
    assert any("--uid 10001 " in given and given.endswith(f" {user}") for given in said("RUN"))
    assert manifests()["Deployment"]["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 10001
    health = json.loads(said("HEALTHCHECK")[0].partition("CMD ")[2])
    command = json.loads(said("CMD")[0])
    assert health[:2] == ["tenure", "health"]
    assert health[2] == f"http://127.0.0.1:{command[command.index('--port') + 1]}{READY}"
    assert all(json.dumps(words) in GUIDE for words in (health, command))


def test_health_check(roster: httpx.Client) -> None:
    """The command by which Docker asks how the container is, says that a roster which serves is well."""
    program, *arguments = json.loads(said("HEALTHCHECK")[0].partition("CMD ")[2])
    roster.get("/stats").raise_for_status()  # it has started
    arguments[1] = arguments[1].replace("http://127.0.0.1:8000", str(roster.base_url).rstrip("/"))
    command = [Path(sys.executable).parent / program, *arguments]
    asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert asked.returncode == 0, asked.stderr


def test_packages_are_pinned() -> None:
    """Whatever is installed from an index is pinned with its hash."""
    installs = [given for given in said("RUN") if "pip install" in given]
    assert len(installs) == 3
    for given in installs:
        assert "--require-hashes -r" in given or "--no-deps --no-build-isolation --offline" in given
    pin = re.compile(r"^[a-z0-9-]+==.*(?:\n    .*)*", re.MULTILINE)
    for name in ("installer", "run"):
        pins = pin.findall((ROOT / f"requirements/{name}.txt").read_text())
        assert pins
        assert all("--hash=sha256:" in each for each in pins)


def test_compose() -> None:
    """compose.yaml builds that Dockerfile, starts roster on a database that is ready, and keeps its data."""
    compose = yaml.safe_load((ROSTER / "compose.yaml").read_text())
    roster, database = compose["services"]["roster"], compose["services"]["database"]
    build = roster["build"]
    assert (ROSTER / build["context"] / build["dockerfile"]).resolve() == ROSTER / "Dockerfile"
    assert roster["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert roster["init"]
    assert roster["ports"] == ["127.0.0.1:8000:8000"]
    assert said("EXPOSE") == ["8000"]
    environment = database["environment"]
    password = environment["POSTGRES_PASSWORD"]
    dsn = f"postgresql://{environment['POSTGRES_USER']}:{password}@database:5432/{environment['POSTGRES_DB']}"
    assert roster["environment"]["ROSTER_DSN"] == dsn
    assert {volume.partition(":")[0] for volume in database["volumes"]} == set(compose["volumes"])
