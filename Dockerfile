# Image of the driver. The base images are build arguments: a release can pin them by digest, and a machine that cannot reach the
# registry can use its own (test/images/base.ts). The image does not depend on the architecture, but is tested only on amd64.
ARG NODE_IMAGE=docker.io/library/node:24-bookworm-slim
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${NODE_IMAGE} AS node

FROM node AS dependencies
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
# Do not omit optional dependencies: koffi's native library is one. Peer dependencies are not needed (valibot's is typescript).
RUN npm ci --omit=dev --omit=peer

FROM node AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json ./
COPY bin bin
COPY scripts scripts
COPY src src
RUN npm run compile

FROM ${RUNTIME_IMAGE}
# Packages with the programs that src/host/ runs. test/unit/dockerfile.test.ts checks that the list is complete.
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
    btrfs-progs \
    coreutils \
    e2fsprogs \
    util-linux \
    xfsprogs \
  && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /usr/lib/loopcsi
COPY package.json ./
COPY bin bin
# The chart's init container copies the udev rule to the node.
COPY contrib/udev contrib/udev
COPY --from=dependencies /src/node_modules node_modules
COPY --from=build /src/dist/bundle dist/bundle
RUN ln -s /usr/lib/loopcsi/bin/loopcsi /usr/lib/loopcsi/bin/kubectl-loopcsi /usr/lib/loopcsi/bin/kubectl_complete-loopcsi /usr/local/bin/ && loopcsi serve --help >/dev/null

ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="loopcsi" \
  org.opencontainers.image.description="CSI storage driver: turns any directory of a Linux node into volumes with enforced sizes" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  io.loopcsi.csi-version="1.13.0"

# The driver runs as root, because mounts and loop devices require it. The chart grants its other privileges.
ENTRYPOINT ["/usr/local/bin/loopcsi"]
CMD ["serve"]
