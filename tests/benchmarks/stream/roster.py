"""Who is measured: our service, what bounds it, what one writes first, and the peers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

PEERS_PYTHON = "POLYACTORS_BENCH_PEERS_PYTHON"
"""The interpreter of an environment with the Python peers; this one is asked first."""
NODE_MODULES = "POLYACTORS_BENCH_NODE_MODULES"
"""The folder `node_modules` with the peers for Node."""

FOLDER = Path(__file__).resolve().parent
STREAMS = frozenset({"saturated", "live"})
BOOKS = frozenset({"memory", "startup", "reset"})


@frozen
class Client:
    """One to measure. `name` is its module in clients/."""

    name: str
    title: str
    scenarios: frozenset[str]
    packages: tuple[str, ...] = ()
    """Distributions that it needs beyond ours."""
    is_node: bool = False
    has_books: bool = True
    needs_no_peer: bool = False
    """Runs wherever polyactors does."""


CLIENTS = (
    Client("ours", "**polyactors**", STREAMS | BOOKS | {"growth", "tls"}, needs_no_peer=True),
    Client(
        "limit",
        "limit: receive, typed decode, no books",
        STREAMS | {"growth", "tls"},
        has_books=False,
        needs_no_peer=True,
    ),
    Client(
        "drain",
        "the exchange alone: received, not looked at",
        frozenset({"saturated", "tls"}),
        has_books=False,
        needs_no_peer=True,
    ),
    Client(
        "asyncio_shape",
        "common asyncio shape",
        STREAMS | BOOKS | {"growth", "tls"},
        packages=("websockets",),
    ),
    Client("straight", "straightforward Trio", STREAMS | BOOKS | {"tls"}, needs_no_peer=True),
    Client(
        "nautilus",
        "NautilusTrader, uvloop",
        STREAMS | BOOKS,
        packages=("nautilus_trader", "uvloop"),
    ),
    Client(
        "poly_websockets",
        "poly-websockets",
        STREAMS | BOOKS | {"growth", "tls"},
        packages=("@nevuamarkets/poly-websockets",),
        is_node=True,
    ),
    Client("polymarket_apis", "polymarket-apis", STREAMS | BOOKS, packages=("polymarket-apis",)),
    Client(
        "polymarket_client",
        "polymarket-client",
        STREAMS,
        packages=("polymarket-client",),
        has_books=False,
    ),
)
NAMES = tuple(client.name for client in CLIENTS)


@frozen
class Ready:
    """How to start a client that is there."""

    client: Client
    command: tuple[str, ...]
    versions: str
    """Of what it is made of, for the table's notes."""
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def find(cls, client: Client) -> "Ready | str":
        """The client, or a word on what is missing."""
        if client.is_node:
            return cls._find_node(client)
        peers_python = os.environ.get(PEERS_PYTHON, "")
        for python in filter(None, (sys.executable, peers_python)):
            versions = _versions(python, client.packages)
            if versions is not None:
                environment = dict(os.environ)
                if python != sys.executable:
                    environment.pop("PYTHONPATH", None)
                command = (python, str(FOLDER / "start.py"), client.name)
                return cls(client, command, versions, environment)
        wanted = " and ".join(client.packages)
        return f"{wanted}: not in this Python" + ("" if peers_python else f", {PEERS_PYTHON} unset")

    @classmethod
    def _find_node(cls, client: Client) -> "Ready | str":
        node, modules = shutil.which("node"), os.environ.get(NODE_MODULES, "")
        if node is None:
            return "node: not on the path"
        if not modules:
            return f"{client.packages[0]}: {NODE_MODULES} unset"
        package = Path(modules, client.packages[0], "package.json")
        if not package.is_file():
            return f"{client.packages[0]}: not in {NODE_MODULES}"
        script = (
            "console.log(process.version.slice(1), "
            "JSON.parse(require('fs').readFileSync(process.argv[1])).version)"
        )
        told = subprocess.run(
            [node, "-e", script, str(package)], capture_output=True, text=True, check=True
        )
        runtime, version = told.stdout.split()
        command = (node, str(FOLDER / "clients" / f"{client.name}.cjs"))
        return cls(client, command, f"{version}, Node {runtime}", dict(os.environ))


def _versions(python: str, packages: tuple[str, ...]) -> str | None:
    """Versions of packages in an environment; None when one is not there."""
    script = (
        "import sys, platform; from importlib.metadata import version\n"
        "print(*(f'{name} {version(name)}' for name in sys.argv[1:]), "
        "'Python ' + platform.python_version(), sep=', ')"
    )
    told = subprocess.run(
        [python, "-c", script, *packages], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() if told.returncode == 0 else None
