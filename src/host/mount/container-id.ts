/**
 * Returns the id of the container of a process, from its /proc/PID/cgroup; undefined for a process outside of containers. docker,
 * containerd, CRI-O and podman name a container's cgroup after its id of 64 hex digits: `docker-ID.scope`, `/docker/ID`,
 * `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`.
 */
export function containerIdIn(cgroup: string): string | undefined {
  return /[/-]([0-9a-f]{64})(?=\.scope|\/|$)/m.exec(cgroup)?.[1];
}
