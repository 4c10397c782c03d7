"""A run as one HTML page: curves, samples of what it predicts, warnings, where the hours went, config and hashes.

python -m tools.report --workdir W [--compare W2 ...] [--out FILE]

The page (W/report.html) needs no other file and no network, and reads on a phone and in print. W may be a fine-tuning's
workdir too. --compare puts other runs of the same kind beside it.
"""

from pathlib import Path

from bert_tpu.core import command, storage
from bert_tpu.report import page, run


def main():
    """Reads the flags and writes the page."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--workdir", required=True, help="of the run")
    parser.add_argument("--compare", nargs="+", default=[], metavar="W2", help="workdirs of runs to put beside it")
    parser.add_argument("--out", help="HTML to write (W/report.html)")
    args = parser.parse_args()
    page.check_installed()
    if not args.out and storage.is_bucket(args.workdir):
        raise command.UserError(f"{args.workdir} is in a bucket: give --out, a file of this machine")
    out = Path(args.out or Path(args.workdir) / "report.html")
    written = page.render([run.read(directory) for directory in (args.workdir, *args.compare)])
    with storage.atomic_file(out) as file:
        file.write(written.encode())
    print(f"{out}: {len(written.encode()) / 2**10:,.0f} KiB")


if __name__ == "__main__":
    command.run(main)
