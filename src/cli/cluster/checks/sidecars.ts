/** Flags of the sidecars without which volumes are created on wrong nodes, or not at all. */
import { type Finding, fail, ok, warn } from '../../../volumes/admin/doctor.ts';
import {
  type Cluster,
  controllerPods,
  driverContainer,
  findController,
  isReady,
} from '../cluster.ts';

interface RequiredFlag {
  readonly container: string;
  readonly flag: string;
  /** What happens without it. */
  readonly otherwise: string;
  /** Whether a sidecar without the flag behaves like that. */
  readonly isDefault?: boolean;
}

const flagsOfBoth: readonly RequiredFlag[] = [
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
    container: 'resizer',
    flag: '--leader-election=true',
    otherwise: 'several resizers would change one claim',
  },
];

/** With sidecars on every node. */
const nodeFlags: readonly RequiredFlag[] = [
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
  ...flagsOfBoth,
  {
    container: 'snapshotter',
    flag: '--node-deployment=true',
    otherwise: 'a driver would be asked for snapshots of other nodes',
  },
];

/** With the sidecars in the Deployment of the controller. */
const centralFlags: readonly RequiredFlag[] = [
  {
    container: 'provisioner',
    flag: '--node-deployment=false',
    otherwise: 'only volumes of the node of the controller would be created',
    isDefault: true,
  },
  {
    container: 'provisioner',
    flag: '--leader-election=true',
    otherwise: 'several provisioners would create one volume',
  },
  ...flagsOfBoth,
  {
    container: 'snapshotter',
    flag: '--node-deployment=false',
    otherwise: 'only snapshots of the node of the controller would be taken',
    isDefault: true,
  },
  {
    container: 'snapshotter',
    flag: '--leader-election=true',
    otherwise: 'several snapshotters would take one snapshot',
  },
];

export function checkSidecars(cluster: Cluster): readonly Finding[] {
  const { driverPods } = cluster;
  const controller = findController(cluster);
  const wrong = new Map<string, Finding>();
  const add = (finding: Finding): void => {
    wrong.set(finding.message, finding);
  };
  if (controller === undefined) {
    for (const pod of driverPods) checkFlags(pod.spec.containers, nodeFlags).forEach(add);
    if (driverPods.some(awaitsController)) add(controllerMissing());
  } else {
    checkFlags(controller.spec.template.spec.containers, centralFlags).forEach(add);
    checkControllerPods(cluster).forEach(add);
    for (const pod of driverPods) if (!awaitsController(pod)) add(notReplaced(pod));
  }
  if (wrong.size > 0) return [...wrong.values()];
  return driverPods.length === 0
    ? []
    : [ok('sidecars', 'the sidecars have the flags that they need')];
}

type Containers = Cluster['driverPods'][number]['spec']['containers'];

function checkFlags(
  containers: readonly Pick<Containers[number], 'name' | 'args'>[],
  required: readonly RequiredFlag[],
): readonly Finding[] {
  return required.flatMap(({ container, flag, otherwise, isDefault = false }) => {
    const sidecar = containers.find((one) => one.name === container);
    // extraArgs come last and win. A flag without a value is true.
    const name = flag.replace(/=.*/, '');
    const given = sidecar?.args.findLast((arg) => arg === name || arg.startsWith(`${name}=`));
    const isTrue = given === name && flag === `${name}=true`;
    if (sidecar === undefined || given === flag || isTrue) return [];
    if (isDefault && given === undefined) return [];
    const message = `${container} runs ${given === undefined ? `without ${flag}` : `with ${given}`}: ${otherwise}`;
    const remedy = `remove ${name} from the chart's ${container}.extraArgs and run helm upgrade`;
    return [fail(`sidecar:${container}`, message, remedy)];
  });
}

/** Whether the driver serves a controller, and so has no sidecars. */
function awaitsController({ spec }: Cluster['driverPods'][number]): boolean {
  return spec.containers.some(
    ({ name, args }) =>
      name === driverContainer && args.some((arg) => arg.startsWith('--agent-address=')),
  );
}

function controllerMissing(): Finding {
  return fail(
    'controller',
    'the drivers wait for a controller, but no Deployment runs one, so nothing creates, expands or deletes volumes',
    'install the chart with controller.enabled=true, or with false on all nodes',
  );
}

function notReplaced({ spec }: Cluster['driverPods'][number]): Finding {
  return warn(
    `controller:${spec.nodeName}`,
    `the driver on node ${spec.nodeName} has no port for the controller yet, so its volumes are not created, expanded or deleted`,
    'wait until the rollout of the DaemonSet is complete; kubectl rollout status daemonset shows it',
  );
}

function checkControllerPods(cluster: Cluster): readonly Finding[] {
  const pods = controllerPods(cluster);
  if (pods.some(isReady)) return [];
  const [pod] = pods;
  const remedy =
    pod === undefined
      ? 'kubectl describe the Deployment and its ReplicaSet; they show why'
      : `kubectl describe pod --namespace ${pod.metadata.namespace} ${pod.metadata.name}; kubectl logs --namespace ${pod.metadata.namespace} ${pod.metadata.name} --container controller`;
  return [
    fail(
      'controller',
      'no pod of the controller is ready, so nothing creates, expands or deletes volumes; pods keep theirs',
      remedy,
    ),
  ];
}
