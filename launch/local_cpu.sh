#!/usr/bin/env bash
# The whole flow on one machine's CPU: launch/local_cpu.sh DIR TEXT-GLOB [TASK]
# Writes tokenizer, corpus, run and model to a folder of DIR, one folder per text. Finished parts are kept.
# TASK: a folder with train.jsonl and validation.jsonl, of lines {"text": ..., "label": ...}, for fine-tuning.
# Environment: BIAS, a folder with the benchmarks of tools.audit_bias (without it the audit uses only the sentences that
# need no file); PY, the Python to use.
set -euo pipefail
dir=$1 text=$2 task=${3:-$1/task} py=${PY:-python} bias=${BIAS:-}
key() { printf %s "$1" | cksum | cut -d' ' -f1; }  # a name for the folder that belongs to input $1
say() { printf '\n== %s\n' "$*"; }

docs=$dir/text/docs.txt
if [ "$text" = "$docs" ]; then
  work=$dir/docs
  if [ ! -e "$docs" ]; then
    say "text: the documentation of the installed packages"
    "$py" -m tools.collect_docs --out "$docs"
  fi
else
  # Another text needs another vocabulary and another run.
  work=$dir/$(key "$text")
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
if [ "$task" = "$dir/task" ] && [ ! -e "$task/validation.jsonl" ]; then
  say "a task: which package a paragraph of documentation comes from"
  "$py" -m tools.collect_task --out "$task"
fi
tuned=$work/tuned-$(key "$task")
say "fine-tuning on the task"
"$py" -m bert_tpu.finetune --config configs/pairs.py --config.init_from="$work/model" \
  --config.data.train="$task/train.jsonl" --config.data.validation="$task/validation.jsonl" \
  --config.optim.learning_rate=1e-3 --config.model.dtype=float32 --workdir "$tuned"
[ -e "$tuned-model" ] || "$py" -m tools.export_pytorch --workdir "$tuned" --out "$tuned-model"
say "export of both models to ONNX, and their scores with fewer bits"
[ -e "$work/model/onnx" ] || "$py" -m tools.export_onnx --model "$work/model" --workdir "$work/run"
[ -e "$tuned-model/onnx" ] || "$py" -m tools.export_onnx --model "$tuned-model" --workdir "$tuned"
say "bias"
if [ -n "$bias" ]; then
  audit=$work/audit-$(key "$bias") benchmarks=(--data "$bias")
else
  audit=$work/audit benchmarks=(--data "$work" --tasks templates)
fi
[ -e "$audit" ] || "$py" -m tools.audit_bias --model "$work/model" --out "$audit" "${benchmarks[@]}"
say "model card"
"$py" -m tools.model_card --model "$work/model" --workdir "$work/run" --bias "$audit" --scores "$tuned"
say "report"
"$py" -m tools.report --workdir "$work/run" --out "$work/report.html"
say "the model is ready for the Hub"
"$py" -m tools.push_to_hub --model "$work/model" --repo YOUR_NAME/bert-demo
