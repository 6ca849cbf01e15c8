/** The command lines of the cluster's processes, in the order of their start. */
import { join } from 'node:path';
import { auditLog, auditPolicy } from './audit.ts';
import { addresses, type Layout, type NodeLayout, nodePaths } from './layout.ts';

export type ControlService = 'etcd' | 'apiserver' | 'controller-manager' | 'scheduler';
export type NodeService = 'containerd' | 'kubelet' | 'proxy';

function commandLine(file: string, flags: Readonly<Record<string, string>>): string[] {
  return [file, ...Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`)];
}

/** `programs` is the directory with Kubernetes' programs; etcd is the distribution's. */
export function controlCommand(
  layout: Layout,
  programs: string,
  service: ControlService,
): string[] {
  const pki = (name: string): string => join(layout.pki, name);
  const settings = (name: string): string => join(layout.settings, name);
  switch (service) {
    case 'etcd':
      return [
        'etcd',
        `--data-dir=${layout.state}/etcd`,
        '--listen-client-urls=http://127.0.0.1:2379',
        '--advertise-client-urls=http://127.0.0.1:2379',
        '--listen-peer-urls=http://127.0.0.1:2380',
        '--unsafe-no-fsync', // the state does not outlive the run, and the disk is everybody's
      ];
    case 'apiserver':
      return commandLine(join(programs, 'kube-apiserver'), {
        'etcd-servers': 'http://127.0.0.1:2379',
        'bind-address': '0.0.0.0',
        'secure-port': '6443',
        'advertise-address': addresses.control,
        'service-cluster-ip-range': addresses.services,
        'cert-dir': layout.pki,
        'tls-cert-file': pki('apiserver.crt'),
        'tls-private-key-file': pki('apiserver.key'),
        'client-ca-file': pki('ca.crt'),
        'service-account-issuer': 'https://kubernetes.default.svc',
        'service-account-key-file': pki('sa.pub'),
        'service-account-signing-key-file': pki('sa.key'),
        'authorization-mode': 'Node,RBAC',
        'allow-privileged': 'true',
        'audit-policy-file': auditPolicy(layout),
        'audit-log-path': auditLog(layout),
        'kubelet-certificate-authority': pki('ca.crt'),
        'kubelet-client-certificate': pki('apiserver-kubelet.crt'),
        'kubelet-client-key': pki('apiserver-kubelet.key'),
        'kubelet-preferred-address-types': 'InternalIP',
      });
    case 'controller-manager':
      return commandLine(join(programs, 'kube-controller-manager'), {
        kubeconfig: settings('controller-manager.conf'),
        'bind-address': '127.0.0.1',
        'leader-elect': 'false',
        'cluster-cidr': addresses.pods,
        'service-cluster-ip-range': addresses.services,
        'use-service-account-credentials': 'true',
        'service-account-private-key-file': pki('sa.key'),
        'root-ca-file': pki('ca.crt'),
        'cluster-signing-cert-file': pki('ca.crt'),
        'cluster-signing-key-file': pki('ca.key'),
        'flex-volume-plugin-dir': join(layout.state, 'volume-plugins'),
      });
    case 'scheduler':
      return commandLine(join(programs, 'kube-scheduler'), {
        kubeconfig: settings('scheduler.conf'),
        'bind-address': '127.0.0.1',
        'leader-elect': 'false',
      });
  }
}

/** containerd is the distribution's. */
export function nodeCommand(node: NodeLayout, programs: string, service: NodeService): string[] {
  const settings = (name: string): string => join(node.settings, name);
  switch (service) {
    case 'containerd':
      return ['containerd', '--config', settings('containerd.toml')];
    case 'kubelet':
      return commandLine(join(programs, 'kubelet'), {
        config: settings('kubelet.json'),
        kubeconfig: settings('kubelet.conf'),
        'root-dir': nodePaths.kubelet,
        'cert-dir': settings('pki'),
        'hostname-override': node.name,
        'node-ip': node.address,
        v: '2',
      });
    case 'proxy':
      return commandLine(join(programs, 'kube-proxy'), {
        kubeconfig: settings('proxy.conf'),
        'hostname-override': node.name,
        'cluster-cidr': addresses.pods,
        'proxy-mode': 'iptables',
        'bind-address': '127.0.0.1',
        // These three are sysctls of the machine; 0 does not change them.
        'conntrack-max-per-core': '0',
        'conntrack-tcp-timeout-established': '0',
        'conntrack-tcp-timeout-close-wait': '0',
      });
  }
}
