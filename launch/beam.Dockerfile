# The image of Dataflow's workers for tools.prepare_corpus --runner, from the root of the repository:
#   docker build -f launch/beam.Dockerfile --build-arg PYTHON=3.13 -t us-docker.pkg.dev/PROJECT/bert/prepare .
# PYTHON is the version of the Python that starts the job: Beam needs the same one on both sides.
ARG PYTHON
FROM apache/beam_python${PYTHON}_sdk:2.77.0
WORKDIR /bert_tpu
COPY pyproject.toml constraints.txt ./
RUN pip install --no-cache-dir uv==0.13.9 && \
    uv pip install --system --no-cache -r pyproject.toml --extra beam -c constraints.txt
COPY bert_tpu /bert_tpu/bert_tpu
ENV PYTHONPATH=/bert_tpu
