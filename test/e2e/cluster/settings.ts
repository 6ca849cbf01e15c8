/** Configuration files of containerd, the CNI plugins and the kubelet. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../scripts/command.ts';
import { images } from './images.ts';
import { addresses, type Layout } from './layout.ts';

export async function writeSettings(layout: Layout): Promise<void> {
  const runc = (await run('sh', ['-c', 'command -v runc'])).trim();
  await writeFile(join(layout.settings, 'containerd.toml'), containerd(layout, runc));
  const network = JSON.stringify(cni(layout));
  await writeFile(join(layout.settings, 'cni/10-e2e.conflist'), network);
  await writeFile(join(layout.settings, 'resolv.conf'), '');
  await writeFile(join(layout.settings, 'kubelet.json'), JSON.stringify(kubelet(layout)));
}

function containerd(layout: Layout, runc: string): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const unused = ['aufs', 'btrfs', 'devmapper', 'zfs'].map(
    (name) => `"io.containerd.snapshotter.v1.${name}"`,
  );
  return `version = 2
root = "${layout.state}/containerd/root"
state = "${layout.state}/containerd/state"
disabled_plugins = [${unused.join()}, "io.containerd.internal.v1.tracing"]
[grpc]
  address = "${layout.criSocket}"
[ttrpc]
  address = "${layout.state}/cri.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "${layout.state}/containerd/opt"
[${cri}]
  sandbox_image = "${images.pause}"
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  # Lowering oom_score_adj takes CAP_SYS_RESOURCE, which even root may lack on a build machine: no pod starts then.
  restrict_oom_score_adj = true
  [${cri}.cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${layout.settings}/cni"
  [${cri}.containerd]
    snapshotter = "overlayfs"
    [${cri}.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [${cri}.containerd.runtimes.runc.options]
        BinaryName = "${runc}"
        Root = "${layout.state}/runc"
`;
}

function cni(layout: Layout): unknown {
  const ipam = {
    type: 'host-local',
    dataDir: join(layout.state, 'cni'),
    ranges: [[{ subnet: addresses.pods }]],
    routes: [{ dst: '0.0.0.0/0' }],
  };
  return {
    cniVersion: '1.0.0',
    name: 'e2e',
    plugins: [
      { type: 'bridge', bridge: 'cni0', isGateway: true, ipMasq: true, hairpinMode: true, ipam },
      { type: 'portmap', capabilities: { portMappings: true } },
    ],
  };
}

function kubelet(layout: Layout): unknown {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    containerRuntimeEndpoint: `unix://${layout.criSocket}`,
    cgroupDriver: 'cgroupfs',
    cgroupRoot: layout.cgroup,
    failCgroupV1: false,
    failSwapOn: false,
    oomScoreAdj: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: join(layout.pki, 'ca.crt') },
    },
    authorization: { mode: 'Webhook' },
    tlsCertFile: join(layout.pki, 'kubelet.crt'),
    tlsPrivateKeyFile: join(layout.pki, 'kubelet.key'),
    resolvConf: join(layout.settings, 'resolv.conf'),
    podLogsDir: join(layout.logs, 'pods'),
    volumePluginDir: join(layout.state, 'kubelet-plugins'),
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
