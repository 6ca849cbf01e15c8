#!/bin/sh
# Creates a managed Docker plugin that contains the driver, which Swarm needs for cluster volumes. Needs a Docker daemon of version 23
# or later.
#
#   sh scripts/docker-plugin.sh NAME [IMAGE]
#
# NAME   name of the plugin, for example loopcsi
# IMAGE  existing image of the driver; by default, one is built from the Dockerfile
#
# Then, on every machine, before `docker swarm init` or `docker swarm join`:  docker plugin enable NAME
set -eu

name=${1:-}
image=${2:-}
if [ -z "$name" ]; then
  sed -n 's/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
command -v docker >/dev/null || {
  echo "scripts/docker-plugin.sh: docker is not installed: install Docker 23 or later and run this again" >&2
  exit 1
}
docker version >/dev/null 2>&1 || {
  echo "scripts/docker-plugin.sh: docker cannot reach its daemon: start it ('docker version' shows the error) and run this again" >&2
  exit 1
}
context=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
container=''
cleanup() {
  [ -z "$container" ] || docker rm "$container" >/dev/null || :
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -z "$image" ]; then
  image=loopcsi-plugin:build
  docker build --quiet --tag "$image" "$context" >/dev/null
fi
container=$(docker create "$image" serve)
mkdir "$work/rootfs"
docker export "$container" | tar -x -C "$work/rootfs"
# Docker does not create mount points in the rootfs of a plugin.
mkdir -p "$work/rootfs/data/published" "$work/rootfs/var/lib/loopcsi"

# Growing a mounted ext4 requires CAP_SYS_RESOURCE. If root lacks it on this machine, Docker cannot grant it to a plugin.
capabilities='"CAP_SYS_ADMIN"'
bounding=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
[ $(((0x$bounding >> 24) & 1)) -eq 0 ] || capabilities="$capabilities, \"CAP_SYS_RESOURCE\""

cat >"$work/config.json" <<EOF
{
  "description": "loopcsi: volumes with real size limits on this machine's disks",
  "documentation": "docs/docker.md",
  "entrypoint": ["/usr/local/bin/loopcsi", "serve", "--without-staging"],
  "env": [
    { "name": "LOOPCSI_ENDPOINT", "value": "unix:///run/docker/plugins/csi.sock" },
    { "name": "LOOPCSI_HTTP_ADDRESS", "value": "off" },
    { "name": "LOOPCSI_NODE_ID", "value": "$(uname -n)", "settable": ["value"],
      "description": "permanent name of this machine" },
    { "name": "LOOPCSI_POOL", "value": "default=/var/lib/loopcsi/pools/default,create", "settable": ["value"],
      "description": "directories for volumes, below /var/lib/loopcsi" },
    { "name": "LOOPCSI_LOG_LEVEL", "value": "info", "settable": ["value"] }
  ],
  "interface": {
    "types": ["docker.csicontroller/1.0", "docker.csinode/1.0"],
    "socket": "csi.sock"
  },
  "linux": { "capabilities": [$capabilities], "allowAllDevices": true },
  "mounts": [
    { "name": "devices", "description": "devices of the host, because loop devices are created at run time", "type": "bind",
      "source": "/dev", "destination": "/dev", "options": ["rbind"] },
    { "name": "data", "description": "pools and state", "type": "bind",
      "source": "/var/lib/loopcsi", "destination": "/var/lib/loopcsi", "options": ["rbind"], "settable": ["source"] }
  ],
  "network": { "type": "none" },
  "propagatedMount": "/data/published"
}
EOF
docker plugin create "$name" "$work"
