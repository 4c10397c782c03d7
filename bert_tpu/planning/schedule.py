"""The time that a device waits for its links, from the order of instructions in a scheduled TPU program."""

from collections.abc import Callable, Sequence

from bert_tpu.planning import cost


def exposed_s(
    collectives: Sequence[cost.Collective], price: Callable[[cost.Collective], float], clock_hz: float
) -> float:
    """Seconds of one run in which the device waits for its links and computes nothing.

    collectives: of the program; their moments say what the device computes meanwhile
    price: collective -> seconds that one run of it takes on the links
    clock_hz: cycles a second

    This replays the schedule. The links work on one collective at a time, in the order of the begins. The device waits
    at a collective's end for what the links have not done by then. A synchronous collective begins where it ends, so
    that the device waits for all of it. Cycles and collectives of a loop's body count together, as often as it runs.
    """
    waited = free = 0.0  # free: when the links have done all that has begun
    done: dict[int, float] = {}  # index of a collective -> when the links have done it
    moments = [(each.begin.position, False, i) for i, each in enumerate(collectives)]
    moments += [(each.end.position, True, i) for i, each in enumerate(collectives)]
    for _, is_end, i in sorted(moments):
        each = collectives[i]
        if is_end:
            waited += max(0.0, done[i] - each.end.cycles / clock_hz - waited)
        else:
            done[i] = free = max(free, each.begin.cycles / clock_hz + waited) + each.runs * price(each)
    return waited
