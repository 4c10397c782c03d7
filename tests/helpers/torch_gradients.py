"""Loss and gradients of a pretraining batch, computed by PyTorch."""

import numpy as np
import torch
import transformers


def of_batch(directory, batch):
    """Returns loss and gradients of BertForPreTraining without dropout, with labels at the used prediction slots."""
    bert = transformers.BertForPreTraining.from_pretrained(directory).eval()
    labels = np.full(batch["input_ids"].shape, -100)
    for row, slot in np.argwhere(batch["masked_ids"] > 0):
        labels[row, batch["masked_positions"][row, slot]] = batch["masked_ids"][row, slot]
    inputs = {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}
    inputs |= {"labels": labels, "next_sentence_label": batch["next_sentence_label"]}
    out = bert(**{name: torch.from_numpy(array).long() for name, array in inputs.items()})
    out.loss.backward()
    return out.loss.item(), {name: parameter.grad.numpy() for name, parameter in bert.named_parameters()}
