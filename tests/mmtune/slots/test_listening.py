"""What a local cluster listens with on every interface answers nobody without its token (docs/trouble.md)."""

import os
import subprocess
import sys

import pytest

LOOK = """
import http.client
import os
from pathlib import Path

import grpc
import ray

from mmtune.slots.cluster import ray_session

METHODS = {  # of each of Ray's services one that reads
    "GCS": "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
    "raylet": "/ray.rpc.NodeManagerService/GetNodeStats",
    "workers": "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
    "agent": "/ray.rpc.ReporterService/HealthCheck",
}


def below(pid):
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            found += below(int(entry.name)) if parent == pid else []
    return found


def ports(pids):
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].split(":")[0] in ("0" * 8, "0" * 32):  # listens, on every interface
                sockets[f"socket:[{fields[9]}]"] = int(fields[1].split(":")[1], 16)
    links = [link for pid in pids for link in Path("/proc").glob(f"{pid}/fd/*")]
    return {sockets[name] for link in links if (name := readlink(link)) in sockets}


def readlink(link):
    try:
        return os.readlink(link)
    except OSError:
        return ""


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        return [connection.getresponse().status]
    except (OSError, http.client.HTTPException):
        return []


def answer(port, method, metadata=()):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)
        try:
            call(b"", timeout=5, metadata=metadata)
        except grpc.RpcError as error:
            return error.code().name
    return "answered"


with ray_session(None):
    ray.get(ray.remote(lambda: 0).remote())
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    assert path.stat().st_mode & 0o077 == 0, "others can read the token"
    token = ("authorization", f"Bearer {path.read_text().strip()}")
    for port in ports(below(os.getpid())):
        status = ask(port)
        if port not in ports(below(os.getpid())):
            continue  # closed since then; whoever answered is another program that got the number
        print("HTTP", *status)
        for name, method in METHODS.items():
            told = answer(port, method, (token,))
            if told == "answered":
                wrong = answer(port, method, (("authorization", "Bearer " + "0" * 64),))
                print(name, answer(port, method), wrong)
"""


@pytest.mark.slow
def test_every_service_of_a_local_cluster_refuses_whoever_has_no_token():
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in found} == {"HTTP", "GCS", "raylet", "workers"}  # the agent is not started
    assert {tuple(told) for name, *told in found if name != "HTTP"} == {("UNAUTHENTICATED", "UNAUTHENTICATED")}
    assert {tuple(told) for name, *told in found if name == "HTTP"} <= {(), ("401",)}
