# syntax=docker/dockerfile:1
# The image of the DaemonSet. The builder runs the Makefile's own steps and no
# others: `scripts/install.sh compile`, `make node_modules/.package-lock.json`
# and `make compile` (what `make build` runs, without the demo's packages).
FROM node:24-bookworm-slim AS builder
WORKDIR /src
COPY scripts/ scripts/
RUN scripts/install.sh compile
COPY Makefile package.json package-lock.json .npmrc ./
RUN make node_modules/.package-lock.json
COPY . .
# The image has a Node.js of its own: the npm registry's is for checkouts.
RUN make compile && npm prune --omit=dev --omit=optional --loglevel=error

FROM node:24-bookworm-slim
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends libbpf1 libelf1 zlib1g \
 && rm -rf /var/lib/apt/lists/*
ENV NODE_ENV=production
# What it was built of: docker build --build-arg COMMIT=$(git rev-parse HEAD) .
ARG COMMIT=unknown
ENV JANUSD_COMMIT=$COMMIT
WORKDIR /opt/janusd
COPY --from=builder /src/package.json /src/LICENSE ./
COPY --from=builder /src/node_modules node_modules
COPY --from=builder /src/native/build/Release/janusd.node /src/native/build/Release/janusd-keeper /src/native/build/Release/janusd-canary native/build/Release/
COPY --from=builder /src/bin bin
COPY --from=builder /src/dist dist
RUN ln -s /opt/janusd/bin/janusd /opt/janusd/bin/janusctl /usr/local/bin/
# gRPC (with TLS files or --insecure; else only a Unix socket), HTTP (health and metrics).
EXPOSE 50051 9464
# Root, in the PID namespace of the host; capabilities: docs/operations.md.
ENTRYPOINT ["/opt/janusd/bin/janusd"]
