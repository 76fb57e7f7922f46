# The server alone on a minimal C runtime: no shell, no package manager, not root. For linux/amd64 and linux/arm64.
#
#   docker build -t progressdb .
#   docker run --read-only -v progressdb:/data -p 8080:8080 -e PROGRESSDB_API_SIGNING_KEYS=... -e PROGRESSDB_API_BACKEND_KEYS=... progressdb
#
# Health is asked over HTTP: /healthz and /readyz on port 9090, which needs no key. There is no HEALTHCHECK, because
# the image holds nothing that could run one; give these paths to the orchestrator.

# The smallest with a C library, certificates and time zones; the C++ library comes from the build stage, and OpenSSL is not used.
ARG RUNTIME=gcr.io/distroless/base-nossl-debian12:nonroot

FROM rust:1.95.0-bookworm AS build
ARG TARGETARCH
ARG COMMIT=
# The image's own toolchain, without the components for developers that rust-toolchain.toml names.
ENV RUSTUP_TOOLCHAIN=1.95.0 PROGRESSDB_COMMIT=$COMMIT
RUN apt-get update \
 && apt-get install -y --no-install-recommends clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Kernels for arm64 come with pages of 4, 16 or 64 KiB; an allocator built for 64 runs on all of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-$TARGETARCH,target=/target \
    if [ "$TARGETARCH" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi \
 && CARGO_TARGET_DIR=/target cargo build --locked --release --package progressdb-server \
 && scripts/image-layout /target/release/progressdb /out

# Symbols for a debugger: docker build --target debug --output . .
FROM scratch AS debug
COPY --from=build /out/progressdb.debug /

FROM ${RUNTIME}
ARG COMMIT=
LABEL org.opencontainers.image.title="ProgressDB" \
      org.opencontainers.image.description="A database for chat threads" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.source="https://github.com/progressdb/progressdb"
COPY --from=build /out/root /
# The store has a directory of its own inside the volume: its lock and a restore's copy lie beside it.
ENV PROGRESSDB_SERVER_ADDRESS=0.0.0.0 \
    PROGRESSDB_SERVER_PORT=8080 \
    PROGRESSDB_SERVER_DB_PATH=/data/db \
    PROGRESSDB_SERVER_MANAGEMENT_ADDRESS=0.0.0.0:9090
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/progressdb"]
CMD ["serve"]
