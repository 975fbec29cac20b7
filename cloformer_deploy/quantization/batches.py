"""Run something on every batch of a calibration set, on as many cores as torch may use."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import torch
from torch import Tensor


def each_batch(call: Callable[[Tensor], Any], batches: Iterable[Tensor]) -> None:
    """Call a function with every batch, several at a time, without gradients.

    Each call computes with one thread: on small batches, calls side by side are faster than threads inside of one. The
    order of the calls is not defined.

    Args:
        call: may be called by several threads at once.
        batches: normalized images (B, 3, H, W); read by one thread at a time.
    """
    cores = torch.get_num_threads()
    left, lock = iter(batches), Lock()

    def work() -> None:
        with torch.inference_mode():
            while True:
                with lock:
                    images = next(left, None)
                if images is None:
                    return
                call(images)

    torch.set_num_threads(1)  # of the threads that are started from now on
    try:
        with ThreadPoolExecutor(cores) as pool:
            for running in [pool.submit(work) for _ in range(cores)]:
                running.result()
    finally:
        torch.set_num_threads(cores)
