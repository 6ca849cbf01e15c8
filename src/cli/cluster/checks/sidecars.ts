/** Flags of the sidecars without which volumes are created on wrong nodes, or not at all. */
import { type Finding, fail, ok } from '../../../volumes/admin/doctor.ts';
import type { Cluster } from '../cluster.ts';

interface RequiredFlag {
  readonly container: string;
  readonly flag: string;
  /** What happens without it. */
  readonly otherwise: string;
}

const requiredFlags: readonly RequiredFlag[] = [
  {
    container: 'provisioner',
    flag: '--node-deployment=true',
    otherwise: 'every provisioner would try to create every volume',
  },
  {
    container: 'provisioner',
    flag: '--strict-topology=true',
    otherwise: 'a driver would be asked for volumes of other nodes',
  },
  {
    container: 'provisioner',
    flag: '--enable-capacity=true',
    otherwise: 'the scheduler would not know which node has space',
  },
  {
    container: 'provisioner',
    flag: '--extra-create-metadata=true',
    otherwise: 'volumes would not know the claim they belong to',
  },
  {
    container: 'snapshotter',
    flag: '--node-deployment=true',
    otherwise: 'a driver would be asked for snapshots of other nodes',
  },
  {
    container: 'resizer',
    flag: '--leader-election=true',
    otherwise: 'several resizers would change one claim',
  },
];

export function checkSidecars({ driverPods }: Cluster): readonly Finding[] {
  const wrong = new Map<string, Finding>();
  for (const pod of driverPods) {
    for (const { container, flag, otherwise } of requiredFlags) {
      const sidecar = pod.spec.containers.find(({ name }) => name === container);
      // extraArgs come last and win. A flag without a value is true.
      const name = flag.replace(/=.*/, '');
      const given = sidecar?.args.findLast((arg) => arg === name || arg.startsWith(`${name}=`));
      if (sidecar === undefined || given === flag || given === name) continue;
      const message = `${container} runs ${given === undefined ? `without ${flag}` : `with ${given}`}: ${otherwise}`;
      const remedy = `remove ${name} from the chart's ${container}.extraArgs and run helm upgrade`;
      wrong.set(message, fail(`sidecar:${container}`, message, remedy));
    }
  }
  if (wrong.size > 0) return [...wrong.values()];
  return driverPods.length === 0
    ? []
    : [ok('sidecars', 'the sidecars have the flags that they need')];
}
