#!/usr/bin/env bash
# The whole flow on one machine's CPU: launch/local_cpu.sh DIR TEXT-GLOB
# DIR/text, DIR/tokenizer, DIR/corpus, DIR/run and DIR/model are made in turn; what is finished is kept.
set -euo pipefail
dir=$1 text=$2 py=${PY:-python}
say() { printf '\n== %s\n' "$*"; }

mkdir -p "$dir"
# Another text means another vocabulary and another run: each text has a folder of its own.
work=$dir/$(printf %s "$text" | sha256sum | cut -c1-8)
mkdir -p "$work"
if [ "$text" = "$dir/text/docs.txt" ] && [ ! -e "$text" ]; then
  say "text: the documentation of the installed packages"
  "$py" -m tools.collect_docs --out "$text"
fi
if [ ! -e "$work/tokenizer/vocab.txt" ]; then
  say "vocabulary"
  "$py" -m tools.train_tokenizer --input "$text" --vocab_size 8192 --out "$work/tokenizer"
fi
say "corpus"
"$py" -m tools.prepare_corpus --input "$text" --tokenizer "$work/tokenizer" --heldout 0.02 --out "$work/corpus"
say "pretraining, a few minutes"
"$py" -m bert_tpu.pretrain --config configs/demo.py --config.data.dir="$work/corpus" --workdir "$work/run"
say "export to PyTorch"
[ -e "$work/model" ] || "$py" -m tools.export_pytorch --workdir "$work/run" --out "$work/model"
say "result"
"$py" -m tools.demo_report --workdir "$work/run" --corpus "$work/corpus" --model "$work/model"
