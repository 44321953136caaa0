"""The head of a cluster is gone once nothing listens at its address for a while, and not before."""

import socket
import threading
import time

import pytest

from mmtune.slots.head import watch


@pytest.fixture
def lost():
    return []


def watching(address, lost, patience):
    is_over = threading.Event()
    thread = threading.Thread(target=watch, args=("head", address, lost.append, is_over, patience, 0.005), daemon=True)
    thread.start()
    return thread, is_over


def test_it_is_said_once_it_has_not_answered_for_a_while(lost):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread, _ = watching(address, lost, 0.2)
        time.sleep(0.1)
        assert thread.is_alive() and not lost
        gone = time.monotonic()
    thread.join(timeout=10)
    assert lost == [f"Ray's head at {address} died"] and time.monotonic() - gone >= 0.2


def test_one_that_comes_back_in_time_is_waited_for_and_a_block_that_ends_says_nothing(lost):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    thread, is_over = watching(f"127.0.0.1:{port}", lost, 60.0)
    time.sleep(0.05)
    with socket.create_server(("127.0.0.1", port)):
        time.sleep(0.05)
        is_over.set()
        thread.join(timeout=10)
    assert not lost and not thread.is_alive()
