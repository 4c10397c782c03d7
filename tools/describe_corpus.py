"""What is in a prepared corpus: python -m tools.describe_corpus DIR [--out corpus.png] [--verify]

Prints its sources, what cleaning did with samples of what it left out, lengths, [UNK], the commonest pieces, how much
of a row is padding, packed or not, and how often the schedule of a config reads it all.
"""

import numpy as np

from bert_tpu.core import command, config
from bert_tpu.corpus import assemble, store, worker
from bert_tpu.data import corpus_stats
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import vocab
from configs import fast

PACKED = fast.get_config().data
TOP = 20  # pieces shown
SHOWN = 10  # sources


def main():
    """Describes, or only verifies, one corpus."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("dir", help="that tools.prepare_corpus made")
    parser.add_argument("--out", metavar="PNG", help="draw the distributions, too")
    parser.add_argument("--verify", action="store_true", help="only read every file again and compare its hash")
    parser.add_argument("--config", default="configs/bert.py:medium", help="whose schedule to reckon with (medium)")
    args = parser.parse_args()
    command.quiet_tensorflow()
    if args.out and not args.out.endswith(".png"):
        raise command.UserError(f"--out {args.out} is no PNG: give a name that ends in .png")
    lock = store.read(args.dir)
    if args.verify:
        print(
            f"{args.dir}: {corpus_stats.verify(lock)} shards and the tokenizer are as corpus.json says, {lock.sha256}"
        )
        return
    cfg = config.load(args.config)
    made = corpus_stats.describe(lock, cfg.data.seq_lens, slots=PACKED.packed_examples)
    print("\n".join(lines(lock, made, cfg, args.config)))
    if args.out:
        draw(lock, made, args.out)
        print(f"\ndrawn in {args.out}")


def lines(lock, made, cfg, name):
    """The description as text."""
    content = lock.content
    yield f"corpus {lock.sha256[:12]} in {lock.directory}, of {len(content['sources'])} sources"
    yield f"\n{'source':44}{'documents':>12}{'left':>12}{'tokens':>16}{'epochs':>8}"
    for source, told in list(zip(content["sources"], content["by_source"], strict=True))[:SHOWN]:
        yield (f"{source['path'][-43:]:44}{told['read']:>12,}{told['documents']:>12,}{told['tokens']:>16,}"
               f"{told['epochs']:>8.3g}")  # fmt: skip
    if len(content["sources"]) > SHOWN:
        yield f"... and {len(content['sources']) - SHOWN:,} more"

    yield f"\n{'split':44}{'documents':>12}{'sentences':>12}{'tokens':>16}{'[UNK]':>8}"
    for split in store.SPLITS:
        told = content[split]
        yield (f"{split:44}{told['documents']:>12,}{told['sentences']:>12,}{told['tokens']:>16,}"
               f"{told['unknown_share']:>8.3%}")  # fmt: skip
    yield f"unigram entropy {lock.unigram_entropy:.3f} nats"

    yield "\ncleaning"
    for reason in (*worker.COUNTS, *assemble.REASONS.values()):
        yield f"  {reason.replace('_', ' '):42}{content['cleaning'][reason]:>12,}"
        yield from (f"      {' '.join(text.split())[:100]}" for text in content["samples"].get(reason, ()))

    yield f"\n{'lengths in tokens':24}" + "".join(f"{f'{q:.0%}':>9}" for q in QUANTILES)
    for what, histogram in (("documents", made.document_tokens), ("sentences", made.sentence_tokens)):
        yield f"  {what + ', less than':22}" + "".join(f"{_quantile(histogram, q):>9,}" for q in QUANTILES)

    yield f"\ncommonest pieces of {int(np.count_nonzero(made.pieces)):,} that occur"
    pieces, total = vocab.load(lock.directory).pieces, made.pieces.sum()
    top = np.argsort(-made.pieces, kind="stable")[:TOP]
    yield "  " + "  ".join(f"{pieces[i]} {made.pieces[i] / total:.2%}" for i in top)

    steps = _steps(cfg)
    epochs = made.epochs({n: count * cfg.batch_size for n, count in steps.items()})
    yield f"\n{'rows of':24}{'examples an epoch':>20}{'padding':>10}   the schedule of {name}"
    for n, rows in made.rows.items():
        yield (f"  {n:<22}{rows.sum():>20,}{1 - made.real[n]:>10.1%}   {steps[n]:,} steps of {cfg.batch_size}: "
               f"{epochs[n]:,.1f} epochs")  # fmt: skip
    held = PACKED.packed_rows * made.packed_examples
    yield (f"  {f'{n}, packed':<22}{made.packed_epoch:>20,}{1 - made.packed_real:>10.1%}   {PACKED.packed_rows} rows "
           f"of configs/fast.py, up to {PACKED.packed_examples} examples in each, hold {held:,.0f} a step")  # fmt: skip
    yield f"  no text is shown more than {made.spread():.1%} more often than another in its own place"


QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


def _quantile(histogram, share):
    """The upper bound of the bin up to which `share` of all is reached."""
    reached = np.searchsorted(np.cumsum(histogram), share * histogram.sum() * (1 - 1e-12))
    return int(2 * corpus_stats.LENGTHS[min(reached, len(corpus_stats.LENGTHS) - 1)])


def _steps(cfg):
    spec = pretraining.make_batch_spec(cfg)
    return {n: spec.before(cfg.num_steps, n) for n in cfg.data.seq_lens}


def draw(lock, made, out):
    """A PNG of lengths, of the pieces' frequencies, and of padding."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    bins = range(len(corpus_stats.LENGTHS))
    last = int(np.flatnonzero(made.document_tokens).max(initial=0))
    for shift, (label, histogram) in enumerate(
        (("sentences", made.sentence_tokens), ("documents", made.document_tokens))
    ):
        axes[0].bar([i + 0.4 * shift - 0.2 for i in bins], histogram / histogram.sum(), 0.4, label=label)
    axes[0].set(title="lengths", xlabel="tokens, from", ylabel="share", xlim=(-0.6, last + 0.6))
    axes[0].set_xticks(
        range(0, last + 1, 2), [f"{corpus_stats.LENGTHS[i]:,}" for i in range(0, last + 1, 2)], fontsize=8
    )
    axes[0].legend(fontsize=8)
    ranked = np.sort(made.pieces[made.pieces > 0])[::-1]
    axes[1].loglog(np.arange(1, len(ranked) + 1), ranked / ranked.sum())
    axes[1].set(title=f"pieces, {lock.unigram_entropy:.2f} nats", xlabel="rank", ylabel="share of tokens")
    names, real = [f"{n} tokens" for n in made.real], np.array([*made.real.values(), made.packed_real])
    names.append(f"{names[-1].split()[0]}, packed")
    axes[2].bar(names, real, label="text")
    axes[2].bar(names, 1 - real, bottom=real, color="0.8", label="padding")
    axes[2].set(title="a row")
    axes[2].legend(fontsize=8, loc="lower right")
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    command.run(main)
