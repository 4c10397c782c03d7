# The image of Dataflow's workers for tools.prepare_corpus --runner, from the root of the repository:
#   docker build -f launch/beam.Dockerfile -t us-docker.pkg.dev/PROJECT/bert/prepare .
FROM apache/beam_python3.11_sdk:2.77.0
COPY requirements.txt requirements-corpus.txt requirements-beam.txt constraints.txt /bert_tpu/
RUN pip install --no-cache-dir -r /bert_tpu/requirements-beam.txt
COPY bert_tpu /bert_tpu/bert_tpu
ENV PYTHONPATH=/bert_tpu
