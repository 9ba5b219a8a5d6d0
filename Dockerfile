# The command `mla`, on a CPU, with the tested versions:
#   docker build -t mla . && docker run --rm -v "$PWD/runs:/home/mla/runs" mla train data=synthetic
FROM python:3.11-slim
COPY . /src
RUN python -m pip install --no-cache-dir -c /src/constraints.txt /src && rm -rf /src \
    && useradd --create-home mla
USER mla
WORKDIR /home/mla
ENTRYPOINT ["mla"]
