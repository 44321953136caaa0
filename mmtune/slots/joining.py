"""Whether a Ray cluster can be joined, found out quietly: Ray itself tries for long, aloud, and names no reason."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_SECONDS = 10.0  # to answer
_HEADS = "`ray get-auth-token` on its head shows it"
_PLACES = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"


def check_cluster(address: str) -> None:
    """Returns if the cluster at ``address`` lets this process in, with the token that is here where it wants one.

    Args:
        address: host:port as ``ray start`` prints it, or 'auto' on a node of the cluster.

    Raises:
        ValueError: no address, nothing answers there, or it wants a token that is not here.
    """
    if address.startswith("ray://"):
        raise ValueError(
            f"'{address}': a search must run on a node of the cluster, which Ray Client does not; hand it in from here "
            "with scripts/submit, or write host:port on a node"
        )
    _check_form(address)
    where = _running_here() if address == "auto" else address
    status = _ask(where, token=None)
    if status == "OK":
        return
    if status != "UNAUTHENTICATED":
        raise ValueError(f"no Ray cluster answers at '{address}': what listens there is no head of Ray ({status})")
    found = _token()
    if found is None:
        raise ValueError(f"the Ray cluster at '{address}' wants its token: set {_PLACES}; {_HEADS}")
    token, place = found
    if _ask(where, token=token) != "OK":
        raise ValueError(f"the Ray cluster at '{address}' wants another token than that of {place}; {_HEADS}")
    _switch_on()


def _check_form(address: str) -> None:
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"'{address}' is no address of a Ray cluster; write host:port or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at '{address}': {error}") from None


def _running_here() -> str:
    """The address of the cluster that this machine is a node of."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found = canonicalize_bootstrap_address("auto")
    except (ConnectionError, ValueError):
        found = None
    if found is None:
        raise ValueError("no Ray cluster answers at 'auto': this machine is no node of one; start it with `ray start`")
    _check_form(found)
    return found


def _ask(address: str, *, token: str | None) -> str:
    """What the head says to a first question: the name of a gRPC status."""
    import grpc
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest  # pyright: ignore[reportAttributeAccessIssue]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    metadata = None if token is None else [("authorization", f"Bearer {token}")]
    with grpc.insecure_channel(address) as channel:
        try:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=_SECONDS, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name  # pyright: ignore[reportAttributeAccessIssue]
    return "OK"


def _token() -> tuple[str, str] | None:
    """The token that Ray would take, and where it lies; None if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return (token, str(path)) if token else None


def _switch_on() -> None:
    """Has Ray send the token: without a mode it sends none to a cluster that it did not start."""
    from ray._raylet import Config  # pyright: ignore[reportAttributeAccessIssue]

    os.environ["RAY_AUTH_MODE"] = "token"
    Config.initialize("")  # Ray has read its settings when it was imported
