# The image that docs/clusters.md expects: this checkout in /agcam, installed for CPUs.
#
#     docker build --tag agcam .
#     docker run --rm --volume "$PWD:/work" --workdir /work agcam images --checkpoint last.ckpt --input photos --output out
#
# For NVIDIA GPUs add `--build-arg TORCH_INDEX=https://pypi.org/simple`: PyPI's torch for Linux is the CUDA build.
FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /agcam
COPY constraints.txt pyproject.toml README.md LICENSE train.py explain.py ./
COPY src src
COPY configs configs
# constraints.txt holds Pillow back for Gradio, which is not installed here; the newest has its security fixes
RUN sed '/^pillow==/d' constraints.txt > constraints.image.txt \
    && pip install --no-cache-dir --constraint constraints.image.txt --extra-index-url "$TORCH_INDEX" --editable '.[export]'
ENTRYPOINT ["agcam"]
CMD ["--help"]
