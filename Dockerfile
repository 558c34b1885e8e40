# The page of `mmskin serve`, as a user without rights. docs/install.md has the commands.
ARG BASE=python:3.11-slim
FROM ${BASE}

# Such as `--index-url URL` of the CPU-only wheels, which are a third of the size.
ARG TORCH_OPTIONS=""

# A CUDA base has no Python; OpenCV needs the two libraries.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && (command -v python3 || apt-get install -y --no-install-recommends python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/mmskin
ENV PATH=/opt/mmskin/bin:$PATH PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

COPY requirements /src/requirements
RUN pip install ${TORCH_OPTIONS} -c /src/requirements/constraints.txt torch torchvision
COPY LICENSE MANIFEST.in README.md CHANGELOG.md CITATION.cff model-index.yml pyproject.toml setup.py /src/
COPY configs /src/configs
COPY tools /src/tools
COPY mmskin /src/mmskin
RUN cd /src && pip install -c requirements/constraints.txt '.[serve,dicom]' && rm -rf /src \
    && useradd --create-home --uid 10001 mmskin

USER mmskin
WORKDIR /home/mmskin
EXPOSE 7860
HEALTHCHECK --start-period=120s CMD python -c "import urllib.request as u; u.urlopen('http://localhost:7860/config')"
ENTRYPOINT ["mmskin"]
CMD ["serve", "--host", "0.0.0.0"]
