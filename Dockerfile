# docker build -t eko-worker .
# docker build -t eko-simulator --target simulator .
#
# Plain syntax on purpose, so that every engine with BuildKit or buildah can build it.
# The tag says what it is, the digest which one. renovate.json has both renewed.
ARG RUST_IMAGE=rust:1.95-trixie@sha256:f49565f188ee00bc2a18dd418183f2c5f23ef7d6e691890517ed341a598f67c3

FROM ${RUST_IMAGE} AS build
ARG REVISION=unknown
WORKDIR /src
COPY . .
# No cache of target/: cargo compares times, and would take a former build for that of older files. Layers compare content.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    EKO_WORKER_REVISION="${REVISION}" \
    RUSTFLAGS="--remap-path-prefix=/src=/eko-worker --remap-path-prefix=/usr/local/cargo=/cargo" \
    cargo build --release --locked -p eko-worker -p eko-simulator --all-features \
 && mkdir -p /out/data \
 && cp target/release/eko-worker target/release/eko-simulator /out/
# All that the binaries need of Debian, and what scanners know it by: nothing else is in the image.
RUN mkdir -p /out/root/etc/ssl/certs /out/root/var/lib/dpkg/status.d \
 && cp -L --parents /etc/ssl/certs/ca-certificates.crt /etc/os-release /out/root/ \
 && for word in $(ldd /out/eko-worker); do \
      case $word in /*) cp -L --parents "$word" /out/root/ || exit 1 ;; esac; \
    done \
 && for package in libc6 libgcc-s1 ca-certificates; do \
      dpkg-query --status "$package" >"/out/root/var/lib/dpkg/status.d/$package" || exit 1; \
    done \
 && echo 'hosts: files dns' >/out/root/etc/nsswitch.conf \
 && echo 'nonroot:x:65532:65532::/data:/nonexistent' >/out/root/etc/passwd \
 && echo 'nonroot:x:65532:' >/out/root/etc/group

FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
STOPSIGNAL SIGTERM
COPY --from=build /out/root/ /

FROM base AS simulator
LABEL org.opencontainers.image.title="eko-simulator" \
      org.opencontainers.image.description="A stand-in for Eko's v3 API, for tests and demos"
COPY --from=build --chmod=755 /out/eko-simulator /usr/local/bin/eko-simulator
ENV SIMULATOR_LISTEN=0.0.0.0:8080
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/eko-simulator", "--healthcheck"]
ENTRYPOINT ["/usr/local/bin/eko-simulator"]

# The last stage is what a build without --target makes.
FROM base AS worker
LABEL org.opencontainers.image.title="eko-worker" \
      org.opencontainers.image.description="Turns refund and OTP commands from RabbitMQ into signed calls to Eko and one true outcome event each"
COPY --from=build --chmod=755 /out/eko-worker /usr/local/bin/eko-worker
# The SQLite ledger, by its default name: mount a volume here, or set LEDGER_URL (or LEDGER_URL_FILE) to PostgreSQL.
COPY --from=build --chown=65532:65532 /out/data /data
VOLUME ["/data"]
WORKDIR /data
ENV ADMIN_ADDR=0.0.0.0:9464
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/eko-worker", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/eko-worker"]
CMD ["run"]
