/** Commands for a whole Kubernetes cluster. They run kubectl, so they need no driver on this machine. */
import type { Command } from 'commander';
import { formatReport } from '../doctor.ts';
import { exitCodes, FailedError, UsageError } from '../errors.ts';
import { addListOptions, type ListOptions, showList } from '../list.ts';
import { count } from '../output.ts';
import { printable } from '../printable.ts';
import type { Session } from '../session.ts';
import { type DriverPods, execInto, findDriver, listOwnVolumes, makeList } from './cluster.ts';
import { addControlledNodeCommands } from './controlled-nodes.ts';
import { diagnose } from './doctor.ts';
import { type Kubectl, type KubectlOptions, makeKubectl } from './kubectl.ts';
import { listNodeVolumes, type SilentNode } from './node-volumes.ts';
import { listNodes, columns as nodeColumns } from './nodes.ts';
import { podObject } from './objects.ts';
import { writeBundle } from './support-bundle.ts';
import { joinVolumes, columns as volumeColumns } from './volumes.ts';

interface ClusterOptions extends KubectlOptions {
  readonly driverName: string;
}

interface Access {
  readonly kubectl: Kubectl;
  /** Name of the CSI driver. */
  readonly driver: string;
  readonly find: () => Promise<DriverPods>;
}

/** Adds the commands to `cluster`, which is `loopcsi cluster`, or the plugin that kubectl runs for `kubectl loopcsi`. */
export function addClusterCommands(cluster: Command, session: Session): void {
  cluster
    .option('--kubeconfig <FILE>', "as kubectl's")
    .option('--context <CONTEXT>', "as kubectl's")
    .option('--request-timeout <DURATION>', "as kubectl's; default 20s")
    .option('--driver-name <NAME>', "driver.name of the chart's values", 'loopcsi.io');
  const access = (): Access => {
    const { driverName, ...flags } = cluster.opts<ClusterOptions>();
    const kubectl = makeKubectl(flags);
    return { kubectl, driver: driverName, find: () => findDriver(kubectl, driverName) };
  };
  const volumes = cluster
    .command('volumes')
    .description('list the volumes of all nodes with their claims and pods')
    .option('-n, --namespace <NAMESPACE>', 'only volumes of claims in this namespace')
    .option('--node <NODE>', 'only volumes of this node')
    .action((options: VolumesOptions) => listVolumes(session, access(), options));
  addListOptions(volumes, volumeColumns);
  const nodes = cluster
    .command('nodes')
    .description('list the nodes with their driver and its pools')
    .action((options: ListOptions) => showNodes(session, access(), options));
  addListOptions(nodes, nodeColumns);
  addControlledNodeCommands(cluster, session, access);
  cluster
    .command('doctor')
    .description(
      'check the driver, its sidecars, classes, snapshots, pending claims and every node; changes nothing',
    )
    .option('--quiet', 'show only warnings and failures')
    .action((options: { quiet?: boolean }) => runDoctor(session, access(), options));
  cluster
    .command('support-bundle')
    .description(
      'collect objects, logs and checks for a report; reads no Secrets, but contains names of claims and paths',
    )
    .argument('[directory]', 'a directory to create', defaultDirectory())
    .action((directory: string) => collect(session, access(), directory));
  cluster
    .command('run')
    .description('run a command of the driver on a node: run NODE -- volume list --json')
    .argument('<node>')
    .argument('<command...>')
    .action((node: string, command: readonly string[]) =>
      runOnNode(session, access(), node, command),
    );
}

interface VolumesOptions extends ListOptions {
  readonly namespace?: string;
  readonly node?: string;
}

async function listVolumes(
  session: Session,
  { kubectl, driver, find }: Access,
  options: VolumesOptions,
): Promise<void> {
  const { namespace, node: wanted } = options;
  let silent: readonly SilentNode[] = [];
  const load = async () => {
    const { driverPods } = await find();
    const isWanted = (node: string): boolean => wanted === undefined || node === wanted;
    // The API is read afterwards, so that a PersistentVolume that was created meanwhile is not missing.
    const found = await listNodeVolumes(
      kubectl,
      driverPods.filter(({ spec }) => isWanted(spec.nodeName)),
    );
    silent = found.silent;
    const [volumes, pods] = await Promise.all([
      listOwnVolumes(kubectl, driver),
      makeList(kubectl)('pods', podObject),
    ]);
    return joinVolumes({ driver, volumes, pods }, found).filter(
      ({ claim, node }) =>
        isWanted(node) && (namespace === undefined || claim.startsWith(`${namespace}/`)),
    );
  };
  const listing = {
    load,
    columns: volumeColumns,
    asJson: (row: object) => row,
    whenEmpty: 'there are no volumes',
    remarks: () => silent.map(silentText),
  };
  await showList(session, listing, options);
  if (silent.length === 0) return;
  if (!session.isText) for (const one of silent) session.terminal.printError(silentText(one));
  throw new FailedError(
    `${count(silent.length, 'node')} did not list all volumes, so the list is incomplete`,
  );
}

function silentText({ node, problem, isPartial }: SilentNode): string {
  const what = isPartial ? 'did not list all of its volumes' : 'did not answer';
  return printable(`node ${node} ${what}: ${problem}`);
}

async function showNodes(
  session: Session,
  { kubectl, find }: Access,
  options: ListOptions,
): Promise<void> {
  const listing = {
    load: async () => listNodes(kubectl, await find()),
    columns: nodeColumns,
    asJson: (row: object) => row,
    whenEmpty: 'the cluster has no nodes',
  };
  await showList(session, listing, options);
}

async function runDoctor(
  session: Session,
  { kubectl, driver }: Access,
  { quiet }: { quiet?: boolean },
): Promise<void> {
  const findings = await diagnose(kubectl, driver);
  const shown = quiet === true ? findings.filter(({ state }) => state !== 'ok') : findings;
  await session.show(shown, () => formatReport(session, findings, shown));
  if (findings.some(({ state }) => state === 'fail')) {
    throw new FailedError(session.isText ? 'some checks failed; see the lines marked ✗' : '');
  }
}

function defaultDirectory(): string {
  return `loopcsi-support-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}`;
}

async function collect(
  session: Session,
  { kubectl, find }: Access,
  directory: string,
): Promise<void> {
  const files = await writeBundle(kubectl, await find(), session.version, directory);
  await session.show(
    { directory, files },
    () =>
      `${directory}: ${count(files, 'file')}. It contains no Secrets, but names of claims, nodes and paths, and logs: look through it before you share it.`,
  );
}

async function runOnNode(
  session: Session,
  { kubectl, find }: Access,
  node: string,
  command: readonly string[],
): Promise<void> {
  const { driverPods } = await find();
  const pod = driverPods.find(({ spec }) => spec.nodeName === node);
  if (pod === undefined) {
    const known = driverPods.map(({ spec }) => spec.nodeName).join(', ');
    throw new UsageError(`no driver runs on node '${node}'; it runs on: ${known || 'no node'}`);
  }
  const [exec, ...rest] = execInto(pod, ...command);
  // With a terminal, the command can ask questions; without one, its input can be a stream.
  const input = session.terminal.isInteractive ? ['--stdin', '--tty'] : ['--stdin'];
  const exitCode = await kubectl.attach(exec ?? 'exec', ...input, ...rest);
  // kubectl and the command have printed their own messages.
  if (exitCode === exitCodes.usageError) throw new UsageError('');
  if (exitCode !== exitCodes.success) throw new FailedError('');
}
