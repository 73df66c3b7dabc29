# kube2etcd as an image.
#
#     docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag kube2etcd .
#
# The base is named by a variable.  Its default is a tag, which moves: good enough to try a change.  A release
# names it by digest, and is refused without:
#
#     docker build --build-arg RELEASE=yes --build-arg VERSION=1.2.3 --build-arg REVISION="$(git rev-parse HEAD)" \
#         --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:DIGEST .
#
# with DIGEST from: docker buildx imagetools inspect python:3.13-slim
# No digest stands here, because one that nobody looked up is worse than none.
#
# Tested without an engine: the file is linted, and tests/stack/test_dockerfile.py runs its steps in order, each
# stage in a throw-away root whose base is the system of the test.  Not tested there: the base image itself, other
# architectures, and what an engine adds (layers, cache, labels in the image's configuration).

ARG PYTHON_IMAGE=python:3.13-slim

# --- The packages, with what is needed to make them; nothing but /opt/kube2etcd leaves this stage.
FROM ${PYTHON_IMAGE} AS build
ARG PYTHON_IMAGE
ARG RELEASE=
ARG VERSION=
ARG REVISION=
WORKDIR /src
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY requirements/ci.txt requirements/build.txt requirements/
COPY kube2etcd kube2etcd/
COPY skydns-compat/skydns_compat skydns-compat/skydns_compat/
# Wheels only, so that no compiler runs; etcd3 is published as source alone, and is pure Python.
# What builds is pinned by a variable, since an older pip refuses the option but passes over the variable.
RUN python -m venv --without-pip /opt/kube2etcd \
    && PIP_BUILD_CONSTRAINT=requirements/build.txt \
        python -m pip --python /opt/kube2etcd/bin/python install --no-cache-dir \
        --only-binary :all: --no-binary etcd3 --constraint requirements/ci.txt .
# What a release must say of itself.
RUN [ -z "$RELEASE" ] && exit 0; \
    expr "$PYTHON_IMAGE" : '.*@sha256:[0-9a-f]\{64\}$' >/dev/null \
        || { echo "a release names its base by digest: PYTHON_IMAGE=$PYTHON_IMAGE" >&2; exit 1; }; \
    expr "$REVISION" : '[0-9a-f]\{40,64\}$' >/dev/null \
        || { echo "a release names its commit: REVISION=$REVISION" >&2; exit 1; }; \
    made="$(/opt/kube2etcd/bin/kube2etcd --version)"; \
    [ "$made" = "kube2etcd, version $VERSION" ] \
        || { echo "VERSION=$VERSION, but this is: $made" >&2; exit 1; }

# --- What runs.
FROM ${PYTHON_IMAGE}
# Nothing is installed here later, by us or by anybody else.
RUN bundled="$(python -c 'import ensurepip; print(ensurepip.__path__[0])')" \
    && python -m pip uninstall --yes --root-user-action=ignore pip \
    && rm -rf "$bundled"
COPY --from=build /opt/kube2etcd /opt/kube2etcd
# One heap for all threads, of which only one runs Python at a time: each heap keeps what it once needed.
ENV PATH=/opt/kube2etcd/bin:$PATH \
    MALLOC_ARENA_MAX=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ARG PYTHON_IMAGE
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="kube2etcd" \
      org.opencontainers.image.description="Keeps etcd equal to the DNS records of a Kubernetes cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# A number, since the kubelet cannot tell from a name whether it is root.
USER 65532:65532
WORKDIR /
EXPOSE 8081
ENTRYPOINT ["kube2etcd"]
