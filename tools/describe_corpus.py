"""Describes a prepared corpus.

bert-tpu describe DIR [--out corpus.png] [--verify]

Prints its sources, the counts of cleaning with samples of the removed text, lengths, the share of [UNK], the most
frequent pieces, the share of padding with and without packing, and the number of epochs of a config's schedule.
"""

from collections.abc import Iterator

from bert_tpu.core import command, numerals

with command.imports():
    import ml_collections
    import numpy as np

    from bert_tpu.configs import fast
    from bert_tpu.core import batch_ramp, config, storage
    from bert_tpu.corpus import assemble, lockfile, store, worker
    from bert_tpu.data import corpus_stats
    from bert_tpu.pretrain import pretraining
    from bert_tpu.tokenizer import vocab

TOP = 20  # pieces printed
SOURCES = 10  # sources printed


def main() -> None:
    """Describes, or only verifies, one corpus."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("dir", help="directory written by bert-tpu prepare, or its corpus.json")
    parser.add_argument("--out", type=storage.local, metavar="PNG", help="also draw the distributions")
    parser.add_argument("--verify", action="store_true", help="only read every file and compare its hash")
    parser.add_argument(
        "--config",
        default="bert:medium",
        help="config whose schedule is used (default: bert:medium)",
    )
    args = parser.parse_args()
    command.quiet_tensorflow()
    if args.out and not args.out.endswith(".png"):
        raise command.UserError(f"--out {args.out} is not a PNG: give a name that ends in .png")
    if args.out:
        command.require("a picture", "matplotlib", extra="report")
    lock = store.read(args.dir)
    if args.verify:
        print(f"{args.dir}: {corpus_stats.verify(lock)} shards and the tokenizer match corpus.json, {lock.sha256}")
        return
    cfg = config.load(args.config, config.PRETRAINING)
    stats = corpus_stats.describe(lock, cfg.data.seq_lens, slots=_packed(cfg).packed_examples)
    print("\n".join(lines(lock, stats, cfg, args.config)))
    if args.out:
        draw(lock, stats, args.out)
        print(f"\ndrawn in {args.out}")


def lines(
    lock: store.Lock, stats: corpus_stats.Description, cfg: ml_collections.ConfigDict, name: str
) -> Iterator[str]:
    """Yields the lines of the description.

    lock: the corpus.
    stats: its statistics.
    cfg: the config whose schedule is used.
    name: of that config.
    """
    content = lock.content
    yield f"corpus {lock.sha256[:12]} in {lock.directory}, of {numerals.count(len(content['sources']), 'source')}"
    yield f"\n{'source':44}{'read':>12}{'kept':>12}{'tokens':>16}{'epochs':>8}"
    for source, counts in list(zip(content["sources"], content["by_source"], strict=True))[:SOURCES]:
        yield (f"{source['path'][-43:]:44}{counts['read']:>12,}{counts['documents']:>12,}{counts['tokens']:>16,}"
               f"{counts['epochs']:>8.3g}")  # fmt: skip
    if len(content["sources"]) > SOURCES:
        yield f"... and {len(content['sources']) - SOURCES:,} more"
    yield from (f"read from {commit}" for commit in content.get("commits", ()))

    yield f"\n{'split':44}{'documents':>12}{'sentences':>12}{'tokens':>16}{'[UNK]':>8}"
    for split in store.SPLITS:
        counts = content[split]
        yield (f"{split:44}{counts['documents']:>12,}{counts['sentences']:>12,}{counts['tokens']:>16,}"
               f"{counts['unknown_share']:>8.3%}")  # fmt: skip
    yield f"unigram entropy {lock.unigram_entropy:.3f} nats"
    yield from filter(None, (lockfile.sentence_summary(content), lock.pair_warning and f"warning: {lock.pair_warning}"))

    yield from lockfile.reading_report(content)

    yield "\ncleaning"
    for reason in (*worker.COUNTS, *assemble.REASONS.values()):
        yield f"  {reason.replace('_', ' '):42}{content['cleaning'].get(reason, 0):>12,}"
        yield from (f"      {' '.join(text.split())[:100]}" for text in content["samples"].get(reason, ()))

    removed = lockfile.markup_removed(content)
    yield f"  {'characters of markup removed':42}{removed:>12,}"

    yield f"\n{'lengths in tokens':24}" + "".join(f"{f'{q:.0%}':>9}" for q in QUANTILES)
    for label, histogram in (("documents", stats.document_tokens), ("sentences", stats.sentence_tokens)):
        yield f"  {label + ', less than':22}" + "".join(f"{_quantile(histogram, q):>9,}" for q in QUANTILES)

    yield f"\ncommonest pieces of {int(np.count_nonzero(stats.pieces)):,} that occur"
    pieces, total = vocab.load(lock.directory).pieces, stats.pieces.sum()
    top = np.argsort(-stats.pieces, kind="stable")[:TOP]
    yield "  " + "  ".join(f"{pieces[i]} {stats.pieces[i] / total:.2%}" for i in top)

    yield from _schedule(stats, cfg, name)
    yield f"  in an epoch, no part of the text is shown {_more(stats.spread())} often than another"


def _schedule(stats: corpus_stats.Description, cfg: ml_collections.ConfigDict, name: str) -> Iterator[str]:
    """Yields a line for each length of rows, and one for packed rows, with the steps and epochs of the config."""
    spec = pretraining.make_batch_spec(cfg)
    steps, epochs = {n: spec.steps_before(cfg.num_steps, n) for n in cfg.data.seq_lens}, stats.epochs(spec)
    yield f"\n{'rows of':24}{'examples an epoch':>20}{'padding':>10}   the schedule of {name}"
    for n, rows in stats.rows.items():
        schedule = f"{steps[n]:,} steps of {batch_ramp.describe(cfg)}: {epochs[n]:,.1f} epochs"
        line = f"  {n:<22}{rows.sum():>20,}{1 - stats.real[n]:>10.1%}"
        yield line if spec.is_packed(n) else f"{line}   {schedule}"
    longest, packed_rows = cfg.data.seq_lens[-1], _packed(cfg).packed_rows
    a_step = f"{packed_rows} rows with {packed_rows * stats.packed_examples:,.0f} examples"
    schedule = f"a step of --config fast has {a_step}"
    if spec.is_packed(longest):
        schedule = f"{steps[longest]:,} steps of {a_step}: {epochs[longest]:,.1f} epochs"
    yield f"  {f'{longest}, packed':<22}{stats.packed_epoch:>20,}{1 - stats.packed_real:>10.1%}   {schedule}"


def _packed(cfg: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns the section `data` with the packed rows that are described: the config's, else those of fast."""
    return cfg.data if cfg.data.packed_rows else fast.get_config().data


QUANTILES = (0.1, 0.5, 0.9, 0.99, 1.0)


def _more(share: float) -> str:
    rounded = f"{share:.1%}"
    return "more" if rounded == "0.0%" else f"more than {rounded} more"


def _quantile(histogram: np.ndarray, share: float) -> int:
    """Returns the upper bound of the bin up to which `share` of all lengths are counted."""
    reached = np.searchsorted(np.cumsum(histogram), share * histogram.sum() * (1 - 1e-12))
    return int(2 * corpus_stats.LENGTHS[min(reached, len(corpus_stats.LENGTHS) - 1)])


def draw(lock: store.Lock, stats: corpus_stats.Description, out: str) -> None:
    """Writes a PNG of the lengths, the pieces' frequencies, and the padding."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    bins = range(len(corpus_stats.LENGTHS))
    last = int(np.flatnonzero(stats.document_tokens).max(initial=0))
    histograms = (("sentences", stats.sentence_tokens), ("documents", stats.document_tokens))
    for shift, (label, histogram) in enumerate(histograms):
        axes[0].bar([i + 0.4 * shift - 0.2 for i in bins], histogram / histogram.sum(), 0.4, label=label)
    axes[0].set(title="lengths", xlabel="tokens, from", ylabel="share", xlim=(-0.6, last + 0.6))
    axes[0].set_xticks(
        range(0, last + 1, 2), [f"{corpus_stats.LENGTHS[i]:,}" for i in range(0, last + 1, 2)], fontsize=8
    )
    axes[0].legend(fontsize=8)
    ranked = np.sort(stats.pieces[stats.pieces > 0])[::-1]
    axes[1].loglog(np.arange(1, len(ranked) + 1), ranked / ranked.sum())
    axes[1].set(title=f"pieces, {lock.unigram_entropy:.2f} nats", xlabel="rank", ylabel="share of tokens")
    names, real = [f"{n} tokens" for n in stats.real], np.array([*stats.real.values(), stats.packed_real])
    names.append(f"{names[-1].split()[0]}, packed")
    axes[2].bar(names, real, label="text")
    axes[2].bar(names, 1 - real, bottom=real, color="0.8", label="padding")
    axes[2].set(title="a row")
    axes[2].legend(fontsize=8, loc="lower right")
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    command.run(main)
