"""The order of an epoch on one host that has all groups, each of a size that a test chooses."""

import numpy as np

from bert_tpu.data import host_share, sampler
from helpers import placed_rows

GROUPS, BATCH = 64, 256


def epoch_order(sizes, seed=0, seq_len=128, groups=GROUPS):
    """Returns the EpochOrder of one host that has all groups. sizes: rows of an epoch, one number or one a group."""
    share = host_share.HostShare(range(BATCH), groups, 0, None, None, None, (), None)
    spec = placed_rows.SPEC._replace(seed=seed, batch_size=BATCH)
    return sampler.EpochOrder(share, spec, seq_len, np.full(groups, sizes))
