"""One host visits all groups of an epoch, each of the size that a test gives."""

import numpy as np

from bert_tpu.data import host_share, sampler
from helpers import placed_rows

GROUPS, BATCH = 64, 256


def of_groups(sizes, seed=0, seq_len=128, groups=GROUPS):
    """The Visits of one host that has all groups, each of the sizes given."""
    share = host_share.HostShare(range(BATCH), groups, 0, None, None, None, (), None)
    spec = placed_rows.SPEC._replace(seed=seed, batch_size=BATCH)
    return sampler.EpochOrder(share, spec, seq_len, np.full(groups, sizes))
