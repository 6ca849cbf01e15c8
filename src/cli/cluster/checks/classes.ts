/** Default classes, and the capacity that each node publishes for each class. */
import { type Finding, fail, ok, warn } from '../../../volumes/admin/doctor.ts';
import { type Cluster, isReady, ownClasses } from '../cluster.ts';

const isDefault = 'storageclass.kubernetes.io/is-default-class';

export function checkClasses(cluster: Cluster): readonly Finding[] {
  const own = ownClasses(cluster);
  if (own.length === 0) {
    return [
      warn(
        'storage-class',
        `no StorageClass has the provisioner ${cluster.driver}`,
        "add one to storageClasses in the chart's values",
      ),
    ];
  }
  return [checkDefault(cluster), ...checkCapacities(cluster)];
}

function checkDefault({ classes, driver }: Cluster): Finding {
  const defaults = classes.filter(({ metadata }) => metadata.annotations[isDefault] === 'true');
  const names = defaults.map(({ metadata }) => metadata.name).join(', ');
  if (defaults.length > 1) {
    return warn(
      'default-class',
      `several StorageClasses are the default: ${names}; a claim without a class gets the newest one`,
      `kubectl annotate storageclass NAME ${isDefault}=false --overwrite, for all but one`,
    );
  }
  const [only] = defaults;
  if (only === undefined) {
    return warn(
      'default-class',
      'no StorageClass is the default, so a claim without a class stays pending',
      `kubectl annotate storageclass NAME ${isDefault}=true --overwrite`,
    );
  }
  const whose = only.provisioner === driver ? '' : `, of ${only.provisioner}`;
  return ok('default-class', `${names} is the default StorageClass${whose}`);
}

/** Without a CSIStorageCapacity, the scheduler does not place a pod with a new claim on the node. */
function checkCapacities(cluster: Cluster): readonly Finding[] {
  const { capacities, driver, driverPods } = cluster;
  const delayed = ownClasses(cluster).filter(
    ({ volumeBindingMode }) => volumeBindingMode === 'WaitForFirstConsumer',
  );
  const key = `topology.${driver}/node`;
  const missing: string[] = [];
  for (const pod of driverPods.filter(isReady)) {
    const node = pod.spec.nodeName;
    for (const { metadata } of delayed) {
      const published = capacities.some(
        ({ storageClassName, nodeTopology }) =>
          storageClassName === metadata.name && nodeTopology?.matchLabels[key] === node,
      );
      if (!published) missing.push(`${metadata.name} on ${node}`);
    }
  }
  if (missing.length === 0) {
    return delayed.length === 0
      ? []
      : [ok('capacity', 'every node publishes its capacity for every class')];
  }
  return [
    fail(
      'capacity',
      `no CSIStorageCapacity exists for ${missing.join(', ')}, so the scheduler places no new volume there`,
      'look at the log of the provisioner on that node; a capacity that was never published is repeated every minute',
    ),
  ];
}
