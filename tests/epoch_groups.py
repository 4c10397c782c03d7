"""One host visits all groups of an epoch, each of the size that a test gives."""

import numpy as np
import placed_rows

from bert_tpu import data, visits

GROUPS, BATCH = 64, 256


def of_groups(sizes, seed=0, seq_len=128, groups=GROUPS):
    """The Visits of one host that has all groups, each of the sizes given."""
    share = data.Share(range(BATCH), groups, 0, None, None, None, (), None)
    rules = placed_rows.RULES._replace(seed=seed, batch_size=BATCH)
    return visits.Visits(share, rules, seq_len, np.full(groups, sizes))
