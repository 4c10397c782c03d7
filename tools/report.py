"""Writes one HTML page about a run: curves, sample predictions, warnings, hours, config and hashes.

bert-tpu report --workdir W [--compare W2 ...] [--out FILE]

W is the workdir of a pretraining or a fine-tuning. The page (W/report.html) needs no other file and no network, and
suits a phone and print. --compare adds other runs of the same kind.
"""

from pathlib import Path

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.report import page, run


def main() -> None:
    """Writes the page."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="workdir of the run")
    parser.add_argument("--compare", nargs="+", default=[], metavar="W2", help="workdirs of runs to compare it with")
    parser.add_argument("--out", type=storage.local, help="HTML file to write (default: W/report.html)")
    args = parser.parse_args()
    page.check_installed()
    if not args.out and storage.is_bucket(args.workdir):
        raise command.UserError(f"{args.workdir} is in a bucket: give --out FILE, a local file")
    out = Path(args.out or Path(args.workdir) / "report.html")
    html = page.render([run.read(directory) for directory in (args.workdir, *args.compare)])
    storage.write_text(out, html)
    print(f"{out}: {len(html.encode()) / 2**10:,.0f} KiB")


if __name__ == "__main__":
    command.run(main)
