"""Turns units into parts with several processes of one machine.

If there are many units, each worker reads a unit and writes its parts. Else this process reads, and the workers clean
and tokenize. The bytes are the same.
"""

import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import ctypes
import multiprocessing
from multiprocessing import forkserver
import multiprocessing.context
from typing import NamedTuple

import tqdm

from bert_tpu.core import command, progress
from bert_tpu.corpus import input_units, worker

FED = 16  # workers that one reading process keeps busy: 6 with a .bz2 dump, 69 with plain text
LOOK_EVERY_S = 0.2


class Shared(NamedTuple):
    """Memory shared by this process and its workers."""

    read: ctypes.Array[ctypes.c_longlong]  # bytes read of each unit by its worker
    is_over: ctypes.c_byte  # not 0: workers begin no further part


class OpenUnit(NamedTuple):
    """A unit without a record, all of which this process has read."""

    unit: input_units.Unit
    counts: input_units.UnitCounts
    jobs: list[concurrent.futures.Future]  # they write its parts


_shared: Shared | None = None  # set in a worker


def start_server() -> multiprocessing.context.ForkServerContext:
    """Starts the process that the workers are forked from, if it does not run, and returns its context.

    It imports their modules, once, while this process goes on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    forkserver.ensure_running()
    return context


def write(units: list[input_units.Unit], work: input_units.Work, *, workers: int) -> None:
    """Writes the parts and the records of all units to work.out, except those that exist already.

    Raises UserError if a worker process dies.
    """
    size, todo = sum(unit.size for unit in units), input_units.unfinished(units, work)
    context = start_server()
    shared = Shared(context.RawArray(ctypes.c_longlong, len(todo)), context.RawValue(ctypes.c_byte))
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start, initargs=(shared,))
    try:
        with progress.bar(size, "prepare", done=size - sum(unit.size for unit in todo)) as bar:
            if are_even(todo, workers):
                _workers_read(pool, todo, work, shared, bar)
            else:
                _parent_reads(pool, todo, work, workers, bar)
            progress.goto(bar, size)
    except BrokenProcessPool:
        raise command.UserError(
            "a worker process died, perhaps because memory ran out; finished parts are saved: run the same command "
            "again, with fewer --workers"
        ) from None
    finally:
        shared.is_over.value = 1
        pool.shutdown(cancel_futures=True)


def are_even(todo: list[input_units.Unit], workers: int) -> bool:
    """Returns whether workers that take a unit each share the work as evenly as if this process fed them."""
    size = sum(unit.size for unit in todo)
    return all(2 * unit.size * min(workers, FED) <= size for unit in todo)


def _workers_read(
    pool: concurrent.futures.Executor,
    todo: list[input_units.Unit],
    work: input_units.Work,
    shared: Shared,
    bar: tqdm.tqdm,
) -> None:
    before = bar.n
    # The largest first, so that none is left alone at the end.
    order = sorted(todo, key=lambda unit: -unit.size)
    running = {pool.submit(_write, unit, work, slot) for slot, unit in enumerate(order)}
    while running:
        done, running = concurrent.futures.wait(running, LOOK_EVERY_S, concurrent.futures.FIRST_EXCEPTION)
        for job in done:
            job.result()
        progress.goto(bar, before + sum(shared.read))


def _parent_reads(
    pool: concurrent.futures.Executor,
    todo: list[input_units.Unit],
    work: input_units.Work,
    workers: int,
    bar: tqdm.tqdm,
) -> None:
    before = bar.n
    running: set[concurrent.futures.Future] = set()
    opened: list[OpenUnit] = []
    for unit in todo:
        counts, jobs = input_units.UnitCounts(), []
        for part, documents in input_units.read(unit, work, counts):
            progress.goto(bar, before + counts.read_bytes)
            if worker.is_done(work.out, part):
                continue
            jobs.append(pool.submit(worker.write, work.out, part, documents, work.options))
            running = _wait(running | {jobs[-1]}, workers + 1)
        before += unit.size
        opened = _write_records([*opened, OpenUnit(unit, counts, jobs)], running, work)
    _write_records(opened, _wait(running, 0), work)


def _wait(running: set[concurrent.futures.Future], most: int) -> set[concurrent.futures.Future]:
    """Waits until at most `most` jobs run and returns them. Raises the exception of a job that failed."""
    while len(running) > most:
        done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for job in done:
            job.result()
    return running


def _write_records(
    opened: list[OpenUnit], running: set[concurrent.futures.Future], work: input_units.Work
) -> list[OpenUnit]:
    """Writes the records of the units whose jobs have all ended; returns the others."""
    for unit, counts, jobs in opened:
        if running.isdisjoint(jobs):
            input_units.write_record(unit.number, work, counts)
    return [member for member in opened if not running.isdisjoint(member.jobs)]


def _start(shared: Shared) -> None:
    global _shared
    _shared = shared
    worker.start()


def _write(unit: input_units.Unit, work: input_units.Work, slot: int) -> None:
    """Writes in a worker the parts and the record of one unit, unless the pool shuts down before."""
    assert _shared is not None, "a worker begins with _start"
    counts = input_units.UnitCounts()
    for part, documents in input_units.read(unit, work, counts):
        if _shared.is_over.value:
            return
        if not worker.is_done(work.out, part):
            worker.write(work.out, part, documents, work.options)
        _shared.read[slot] = counts.read_bytes
    input_units.write_record(unit.number, work, counts)
    _shared.read[slot] = unit.size
