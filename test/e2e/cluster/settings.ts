/** Configuration files of a node: containerd, the CNI plugins and the kubelet. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { images } from './images.ts';
import type { Layout, NodeLayout } from './layout.ts';

export async function writeSettings(layout: Layout, node: NodeLayout): Promise<void> {
  await mkdir(join(node.settings, 'cni'), { recursive: true });
  const runc = (await run('sh', ['-c', 'command -v runc'])).trim();
  await writeFile(join(node.settings, 'containerd.toml'), containerd(node, runc));
  await writeFile(join(node.settings, 'cni/10-e2e.conflist'), JSON.stringify(cni(node)));
  await writeFile(join(node.settings, 'resolv.conf'), '');
  await writeFile(join(node.settings, 'kubelet.json'), JSON.stringify(kubelet(layout, node)));
}

function containerd(node: NodeLayout, runc: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const unused = ['aufs', 'btrfs', 'devmapper', 'zfs'].map(
    (name) => `"io.containerd.snapshotter.v1.${name}"`,
  );
  return `version = 2
root = "${node.directory}/containerd/root"
state = "${node.directory}/containerd/state"
disabled_plugins = [${unused.join()}, "io.containerd.internal.v1.tracing"]
[grpc]
  address = "${node.criSocket}"
[ttrpc]
  address = "${node.directory}/cri.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${node.directory}/containerd/opt"
[${cri}]
  sandbox_image = "${images.pause}"
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  # Lowering oom_score_adj takes CAP_SYS_RESOURCE, which even root may lack on a build machine: no pod starts then.
  restrict_oom_score_adj = true
  [${cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${node.settings}/cni"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    [${cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.runc.options]
        BinaryName = "${runc}"
        Root = "${node.directory}/runc"
`;
}

function cni(node: NodeLayout): unknown {
  const ipam = {
    type: 'host-local',
    dataDir: join(node.directory, 'cni'),
    ranges: [[{ subnet: node.podSubnet }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  return {
    cniVersion: '1.0.0',
    name: 'e2e',
    plugins: [
      { type: 'bridge', bridge: 'cni0', isGateway: true, hairpinMode: true, ipam },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

function kubelet(layout: Layout, node: NodeLayout): unknown {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${node.criSocket}`,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: node.cgroup,
    failCgroupV1: false,
    failSwapOn: false,
    oomScoreAdj: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(layout.pki, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: join(node.settings, 'pki/kubelet.crt'),
    tlsPrivateKeyFile: join(node.settings, 'pki/kubelet.key'),
    resolvConf: join(node.settings, 'resolv.conf'),
    podLogsDir: join(node.logs, 'pods'),
    volumePluginDir: join(node.directory, 'kubelet-plugins'),
    // The build machine's disk may be nearly full; evicting the test's pods would not help it.
    evictionHard: {
      'memory.available': '100Mi',
      'nodefs.available': '1%',
      'imagefs.available': '1%',
    },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    readOnlyPort: 0,
    maxPods: 200,
  };
}
