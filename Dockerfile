# The server and the operator, each alone with the C library that it was linked against: no shell, no package manager, not
# root. For linux/amd64 and linux/arm64.
#
#   docker build -t progressdb .
#   docker run --read-only -v progressdb:/data -p 8080:8080 -e PROGRESSDB_API_SIGNING_KEYS=... -e PROGRESSDB_API_BACKEND_KEYS=... progressdb
#   docker build --target operator -t progressdb-operator .
#   docker build --target debug --output . .        (symbols of the server, for a debugger)
#
# Health is asked over HTTP: /healthz and /readyz on port 9090, which needs no key. There is no HEALTHCHECK, because
# the image holds nothing that could run one; give these paths to the orchestrator.

FROM rust:1.95.0-bookworm AS toolchain
# The image's own toolchain, without the components for developers that rust-toolchain.toml names.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

FROM toolchain AS build-server
ARG TARGETARCH
ARG COMMIT=
ENV PROGRESSDB_COMMIT=$COMMIT
# Kernels for arm64 come with pages of 4, 16 or 64 KiB; an allocator built for 64 runs on all of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-$TARGETARCH,target=/target \
    if [ "$TARGETARCH" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
 && CARGO_TARGET_DIR=/target cargo build --locked --release --package progressdb-server \
 && scripts/image-layout /target/release/progressdb /out

FROM toolchain AS build-operator
ARG TARGETARCH
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-operator-$TARGETARCH,target=/target \
    CARGO_TARGET_DIR=/target cargo build --locked --release --package progressdb-operator \
 && scripts/image-layout /target/release/progressdb-operator /out

FROM scratch AS operator
ARG VERSION=
ARG COMMIT=
LABEL org.opencontainers.image.title="ProgressDB operator" \
      org.opencontainers.image.description="Runs ProgressDB on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.source="https://github.com/progressdb/progressdb"
COPY --from=build-operator /out/root /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/progressdb-operator"]

FROM scratch AS debug
COPY --from=build-server /out/progressdb.debug /

FROM scratch AS server
ARG VERSION=
ARG COMMIT=
LABEL org.opencontainers.image.title="ProgressDB" \
      org.opencontainers.image.description="A database for chat threads" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.source="https://github.com/progressdb/progressdb"
COPY --from=build-server /out/root /
# The store has a directory of its own inside the volume: its lock and a restore's copy lie beside it.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    PROGRESSDB_SERVER_ADDRESS=:: \
    PROGRESSDB_SERVER_PORT=8080 \
    PROGRESSDB_SERVER_DB_PATH=/data/db \
    PROGRESSDB_SERVER_MANAGEMENT_ADDRESS=[::]:9090
USER 1000:1000
# Other users may run it, where a cluster assigns the id: they can enter this directory, and not an empty /data.
WORKDIR /
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/progressdb"]
CMD ["serve"]
