# syntax=docker/dockerfile:1
# The image of the DaemonSet: docker build --build-arg COMMIT=$(git rev-parse HEAD) -t janusd:0.1.0 .
# `make image` builds it with buildah, also where no registry can be reached.
#
# The builder runs the Makefile's own steps and no others: `scripts/install.sh compile`,
# `make node_modules/.package-lock.json` and `make compile` (what `make build` runs, without the demo's packages).
# It runs on the machine's own architecture, and compiles for the other one where that is wanted (--platform).
FROM --platform=$BUILDPLATFORM node:24-bookworm-slim AS builder
ARG TARGETARCH
WORKDIR /src
COPY scripts/ scripts/
RUN scripts/install.sh compile
# The image's root: a few of Debian's packages, and Node.js.
RUN scripts/rootfs.sh /rootfs
COPY Makefile package.json package-lock.json .npmrc ./
RUN make node_modules/.package-lock.json
COPY . .
# The image has a Node.js of its own: the npm registry's is for checkouts.
RUN . scripts/target.sh && make compile MACHINE=$machine && npm prune --omit=dev --omit=optional --loglevel=error && scripts/slim.sh node_modules \
 && find dist -name '*.map' -delete && ${tools}strip --strip-unneeded native/build/Release/janusd.node

FROM scratch
COPY --from=builder /rootfs /
WORKDIR /opt/janusd
COPY --from=builder /src/package.json /src/LICENSE ./
COPY --from=builder /src/node_modules node_modules
COPY --from=builder /src/native/build/Release/janusd.node /src/native/build/Release/janusd-keeper /src/native/build/Release/janusd-canary native/build/Release/
COPY --from=builder /src/bin bin
COPY --from=builder /src/dist dist
# What it was built of.
ARG COMMIT=unknown
ENV PATH=/usr/local/bin:/usr/bin:/bin NODE_ENV=production JANUSD_COMMIT=$COMMIT
LABEL org.opencontainers.image.title=janusd org.opencontainers.image.licenses=MIT org.opencontainers.image.revision=$COMMIT
# gRPC (with TLS files or --insecure; else only a Unix socket), HTTP (health and metrics).
EXPOSE 50051 9464
# Root, in the PID namespace of the host; capabilities: docs/operations.md.
ENTRYPOINT ["/opt/janusd/bin/janusd"]
