#!/usr/bin/env bash
# Writes the locks of the image anew, with the versions of requirements.lock: `make lock` calls it.
set -euo pipefail
cd "$(dirname "$0")/../.."

compile() {
  "${UV:-.venv/bin/uv}" pip compile --quiet --universal --python-version 3.13 --generate-hashes \
    --constraints requirements.lock --no-emit-index-url --no-emit-find-links \
    --custom-compile-command 'make lock' "$@"
}

# What the agent needs, and stores on S3 and GCS; torch aside, which has two locks of its own.
compile --extra s3 --extra gcs --overrides deploy/image/without-cuda.txt --no-emit-package torch \
  pyproject.toml --output-file deploy/image/requirements.lock
grep --only-matching --extended-regexp '^torch==[0-9.]+' requirements.lock |
  compile - --output-file deploy/image/torch-cuda.lock
printf '%s\n' hatchling uv | compile - --output-file deploy/image/build.lock
