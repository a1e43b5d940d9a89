# The environment of the lock, and the code, as a user without privileges.
#   docker build -t medzeroseg .                                    # no GPU
#   docker build -t medzeroseg:cuda --build-arg BASE=cuda .         # for a host with NVIDIA's container toolkit
#   docker run --rm -v "$PWD/runs:/work/runs" -v "$PWD/data:/work/data" medzeroseg make train EXP=phantom_cehnc
# The lock's torch brings CUDA's libraries in its wheels, so both need only Python; `cuda` asks the runtime for the GPU.
ARG BASE=cpu
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS cpu

FROM ${PYTHON_IMAGE} AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM ${BASE}
ARG USER_ID=1000
# make: the commands of the README; everything else comes with the wheels
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid "${USER_ID}" --create-home --shell /bin/bash researcher \
    && mkdir /work && chown researcher: /work
USER ${USER_ID}
WORKDIR /work
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HOME=/work/.cache/huggingface

# First what the packages depend on, so that a change of the code does not install them again.
COPY --chown=researcher:researcher Makefile requirements.lock requirements.txt requirements-dev.txt setup.cfg pyproject.toml README.md LICENSE ./
COPY --chown=researcher:researcher src src
COPY --chown=researcher:researcher data_modules data_modules
COPY --chown=researcher:researcher experiments experiments
RUN make setup && rm -rf /home/researcher/.cache
COPY --chown=researcher:researcher . .
# What came with the second copy is newer than the stamp, but not different.
RUN touch .venv/.ready && mkdir -p runs data

ENV PATH="/work/.venv/bin:${PATH}"
CMD ["medzeroseg", "--help"]
