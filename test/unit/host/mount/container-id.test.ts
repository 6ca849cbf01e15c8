import test from 'ava';
import { containerIdIn } from '../../../../src/host/mount/container-id.ts';

const id = '3f2a1c9d0b12'.padEnd(64, '0a');
const pod = 'kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod0c7f.slice';

const cases = [
  { name: 'docker with systemd', cgroup: `0::/system.slice/docker-${id}.scope\n`, found: id },
  { name: 'docker with cgroupfs', cgroup: `0::/docker/${id}\n`, found: id },
  {
    name: 'cgroup v1',
    cgroup: `12:pids:/docker/${id}\n11:cpu,cpuacct:/docker/${id}\n1:name=systemd:/\n`,
    found: id,
  },
  { name: 'containerd', cgroup: `0::/${pod}/cri-containerd-${id}.scope\n`, found: id },
  {
    name: 'a child of the cgroup of a container',
    cgroup: `0::/machine.slice/libpod-${id}.scope/container\n`,
    found: id,
  },
  { name: 'a service', cgroup: '0::/system.slice/ssh.service\n', found: undefined },
  { name: 'a longer hash', cgroup: `0::/x/${id}00\n`, found: undefined },
  { name: 'the namespace of the reader', cgroup: '0::/\n', found: undefined },
  { name: 'a process that has ended', cgroup: '', found: undefined },
] as const;
for (const { name, cgroup, found } of cases) {
  test(`containerIdIn: ${name}`, (t) => {
    t.is(containerIdIn(cgroup), found);
  });
}
