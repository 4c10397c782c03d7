"""Units made into parts by several processes of one machine.

Where there are many units, each worker reads one and writes its parts. Else this process reads, and the workers clean
and tokenize. The bytes are the same.
"""

import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
from typing import NamedTuple

from bert_tpu.core import command, progress
from bert_tpu.corpus import input_units, worker

FED = 16  # workers that one reading process keeps busy: of a .bz2 dump 11, of plain text 69
LOOK_EVERY_S = 0.2


class Shared(NamedTuple):
    """What this process and its workers see alike."""

    read: multiprocessing.Array  # bytes read of each unit by its worker
    over: multiprocessing.Value  # not 0: no further part


_shared: Shared | None = None  # of a worker


def write(every: list[input_units.Unit], work: input_units.Work, *, workers: int) -> None:
    """The parts and the record of every unit are in work.out; what was done before is passed over."""
    size, todo = sum(unit.bytes for unit in every), input_units.left(every, work)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])  # imported once, not by each worker
    shared = Shared(context.RawArray("q", len(todo)), context.RawValue("b"))
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start, initargs=(shared,))
    try:
        with progress.bar(size, "prepare", done=size - sum(unit.bytes for unit in todo)) as shown:
            if are_even(todo, workers):
                _workers_read(pool, todo, work, shared, shown)
            else:
                _parent_reads(pool, todo, work, workers, shown)
            progress.goto(shown, size)
    except BrokenProcessPool:
        raise command.UserError(
            "a worker process died, perhaps for lack of memory; what is done is kept: run the "
            "same command again, with fewer --workers"
        ) from None
    finally:
        shared.over.value = 1
        pool.shutdown(cancel_futures=True)


def are_even(todo: list[input_units.Unit], workers: int) -> bool:
    """Whether workers that take a unit each share the work evenly, or as well as this process could feed them."""
    size = sum(unit.bytes for unit in todo)
    return all(2 * unit.bytes * min(workers, FED) <= size for unit in todo)


def _workers_read(pool, todo, work, shared, shown):
    before = shown.n
    # The largest first, so that none is left alone at the end.
    order = sorted(todo, key=lambda unit: -unit.bytes)
    running = {pool.submit(_write, unit, work, slot) for slot, unit in enumerate(order)}
    while running:
        done, running = concurrent.futures.wait(running, LOOK_EVERY_S, concurrent.futures.FIRST_EXCEPTION)
        for job in done:
            job.result()
        progress.goto(shown, before + sum(shared.read))


def _parent_reads(pool, todo, work, workers, shown):
    before, running, opened = shown.n, set(), []
    for unit in todo:
        told, jobs = input_units.Told(), []
        for name, documents in input_units.read(unit, work, told):
            progress.goto(shown, before + told.read_bytes)
            if worker.is_done(work.out, name):
                continue
            jobs.append(pool.submit(worker.write, work.out, name, documents, work.options))
            running = _await(running | {jobs[-1]}, workers + 1)
        before += unit.bytes
        opened = _close([*opened, (unit, told, jobs)], running, work)
    _close(opened, _await(running, 0), work)


def _await(running: set, most: int) -> set:
    """At most `most` of these jobs still run; the fault of one that failed is raised."""
    while len(running) > most:
        done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for job in done:
            job.result()
    return running


def _close(opened: list, running: set, work: input_units.Work) -> list:
    """Units none of whose parts is still running have their record; those that wait for theirs."""
    for unit, told, jobs in opened:
        if running.isdisjoint(jobs):
            input_units.close(unit.number, work, told)
    return [each for each in opened if not running.isdisjoint(each[2])]


def _start(shared: Shared) -> None:
    global _shared
    _shared = shared
    worker.start()


def _write(unit: input_units.Unit, work: input_units.Work, slot: int) -> None:
    """By a worker: the parts and the record of one unit, unless all is over before."""
    told = input_units.Told()
    for name, documents in input_units.read(unit, work, told):
        if _shared.over.value:
            return
        if not worker.is_done(work.out, name):
            worker.write(work.out, name, documents, work.options)
        _shared.read[slot] = told.read_bytes
    input_units.close(unit.number, work, told)
    _shared.read[slot] = unit.bytes
