import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from trainables.seeds import derive_seed

ROOT = Path(__file__).parents[2]


def test_it_is_the_top_63_bits_of_sha256sum():
    # printf '[1, "shuffle", 3]' | sha256sum, and printf '[7]' | sha256sum
    assert derive_seed(1, "shuffle", 3) == 0x8F14E0A0E991C3E2 // 2
    assert derive_seed(7) == 0x589FFD3ACF522AE8 // 2


def test_same_in_another_process_with_another_string_hash():
    code = "from trainables.seeds import derive_seed; print(derive_seed(3, 'text', 'é', 5))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(answer.stdout) == derive_seed(3, "text", "é", 5)


def test_names_neither_merge_nor_change_places():
    names = [(), ("ab",), ("a", "b"), ("b", "a"), ("a", ""), (1,), ("1",), (1, 2), (12,), ('a", "b',), ("a,b",)]
    seeds = [derive_seed(seed, *name) for seed, name in itertools.product((0, 1, 2**32 - 1), names)]
    assert len(set(seeds)) == len(seeds)


def test_every_generator_takes_it_and_its_bits_are_even():
    seeds = [derive_seed(5, "row", index) for index in range(4000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(len(seeds))  # five sigma of a fair coin
    torch.Generator().manual_seed(max(seeds))
    np.random.default_rng(max(seeds))
    random.Random(max(seeds))
