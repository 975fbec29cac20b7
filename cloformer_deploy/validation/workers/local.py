"""Work in this process: on threads, with the next images being loaded and run through PyTorch meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from cloformer_deploy.data.batches import LOADING_THREADS
from cloformer_deploy.system.cores import usable_cores
from cloformer_deploy.validation.workers.base import Found, Lot, Shard, Work, load, run


class LocalWorkers:
    """See `Workers`."""

    def map(self, work: Work, shards: Iterator[Shard]) -> Iterator[Found]:
        """See `Workers.map`."""
        with (
            ThreadPoolExecutor(1) as ahead,
            ThreadPoolExecutor(LOADING_THREADS) as loaders,
            ThreadPoolExecutor(usable_cores()) as pool,
        ):

            def following() -> tuple[Shard, Lot | None] | None:
                shard = next(shards, None)
                if shard is None or not shard.indices:
                    return None if shard is None else (shard, None)
                work.open(shard.subjects)  # an unreadable file is reported before any image is run
                lot = load(work, shard, loaders.map)
                return shard, replace(lot, prepared=work.prepare(lot.pixels))

            coming = ahead.submit(following)
            while (ready := coming.result()) is not None:
                coming = ahead.submit(following)
                shard, lot = ready
                if lot is None:
                    yield [()] * len(shard.wanted)
                else:
                    yield list(pool.map(partial(run, work, shard, lot), range(len(shard.wanted))))
