"""The objectives of pretraining by name."""

import ml_collections

from bert_tpu.core import command
from bert_tpu.pretrain import mlm, mlm_nsp, objective


def find(cfg: ml_collections.ConfigDict) -> objective.Objective:
    """The objective that the config's key `objective` names; MLM + NSP if it has no such key."""
    name = cfg.get("objective", "mlm_nsp")
    match name:
        case "mlm_nsp":
            return mlm_nsp.OBJECTIVE
        case "mlm":
            return mlm.OBJECTIVE
    raise command.UserError(f"config.objective is {name!r}: give mlm_nsp or mlm")
