/** `kubectl loopcsi node`: the commands of `loopcsi node`, run in a pod of the controller, with what the API says about the node. */
import type { Command } from 'commander';
import * as v from 'valibot';
import { nodeTagOf, tagOfId } from '../../ids.ts';
import { FailedError, UsageError } from '../errors.ts';
import { type ListOptions, showList } from '../list.ts';
import { addNodeSubcommands, type ForgetOptions } from '../node.ts';
import {
  forgetExplanation,
  forgottenText,
  type NodeRow,
  nodeColumns,
  nodeRow,
  rememberedText,
} from '../node-format.ts';
import { count } from '../output.ts';
import { printable } from '../printable.ts';
import type { Session } from '../session.ts';
import { execIntoController, findControllerPod, listOwnVolumes } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import { nodeObject, type PersistentVolume, type Pod } from './objects.ts';

interface Access {
  readonly kubectl: Kubectl;
  /** Name of the CSI driver. */
  readonly driver: string;
}

export function addControlledNodeCommands(
  cluster: Command,
  session: Session,
  access: () => Access,
): void {
  const node = cluster
    .command('node')
    .description('the nodes as the controller knows them, and what to do if one never comes back');
  addNodeSubcommands(node, {
    argument: '<node>',
    list: (options) => listNodes(session, access(), options),
    forget: (name, options) => forgetNode(session, access(), { name, ...options }),
    remember: (name) => rememberNode(session, access(), name),
  });
}

const errorJson = v.object({ error: v.object({ message: v.string() }) });

/** Runs `loopcsi node ARGS --json` in the pod. Throws `FailedError` with its message. */
async function ask<T>(
  { kubectl }: Access,
  pod: Pod,
  schema: v.GenericSchema<unknown, T>,
  ...args: readonly string[]
): Promise<T> {
  const command = execIntoController(pod, 'node', ...args, '--json');
  const { exitCode, stdout, stderr } = await kubectl.attempt(...command);
  if (exitCode === 0) return v.parse(schema, JSON.parse(stdout));
  // kubectl adds a line of its own about the exit code.
  const end = stderr.lastIndexOf('}');
  const said = v.safeParse(errorJson, end < 0 ? undefined : parsed(stderr.slice(0, end + 1)));
  throw new FailedError(said.success ? said.output.error.message : stderr.trim() || 'no answer');
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function loadRows(access: Access): Promise<{ pod: Pod; rows: readonly NodeRow[] }> {
  const pod = await findControllerPod(access.kubectl, access.driver);
  return { pod, rows: await ask(access, pod, v.array(nodeRow), 'list') };
}

async function listNodes(session: Session, access: Access, options: ListOptions): Promise<void> {
  const listing = {
    load: async () => (await loadRows(access)).rows,
    columns: nodeColumns,
    asJson: (row: NodeRow) => row,
    whenEmpty: 'the controller knows no node',
  };
  await showList(session, listing, options);
}

const forgetAnswer = v.object({
  name: v.string(),
  tag: v.string(),
  wasForgotten: v.boolean(),
  wasKnown: v.boolean(),
});

async function forgetNode(
  session: Session,
  access: Access,
  { name, yes, force = false, address: addresses = [] }: ForgetOptions & { readonly name: string },
): Promise<void> {
  // An argument of kubectl exec that begins with a dash would be a flag of the command there.
  if (name.startsWith('-')) throw new UsageError(`'${name}' is not the name of a node`);
  const dashed = addresses.find((address) => address.startsWith('-'));
  if (dashed !== undefined) throw new UsageError(`'${dashed}' is not HOST:PORT`);
  const { pod, rows } = await loadRows(access);
  const lost = await volumesOf(access, name);
  const object = await readObject(access, name);
  const question = `Forget node '${printable(name)}' with ${count(lost.length, 'PersistentVolume')}?`;
  if (yes !== true) {
    const explanation = [
      ...forgetExplanation(
        name,
        rows.find((row) => row.name === name),
      ),
      object.text,
      ...lostText(lost),
    ];
    if (!(await session.terminal.confirm(question, explanation)))
      throw new FailedError('nothing was forgotten');
  } else if (object.isReady && !force) {
    // The controller's replica that is asked may be the only one that does not reach the node.
    throw new FailedError(
      `the Node object of '${name}' is Ready, so its data is probably not lost, and nothing was forgotten: find out why its driver is not reached, or add --force`,
    );
  }
  const flags = ['--yes', ...(force ? ['--force'] : []), ...addresses.map(addressFlag)];
  const answer = await ask(access, pod, forgetAnswer, 'forget', name, ...flags);
  const persistentVolumes = lost.map(({ metadata }) => metadata.name);
  await session.show({ ...answer, persistentVolumes }, () =>
    [forgottenText(answer), ...nextSteps(lost)].join('\n'),
  );
}

/** The PersistentVolumes whose data is on the node. */
async function volumesOf(
  { kubectl, driver }: Access,
  name: string,
): Promise<readonly PersistentVolume[]> {
  const tag = nodeTagOf(name);
  const volumes = await listOwnVolumes(kubectl, driver);
  return volumes.filter(({ spec }) => tagOfId(spec.csi?.volumeHandle ?? '') === tag);
}

const isReadyNode = (node: v.InferOutput<typeof nodeObject>): boolean =>
  node.status.conditions.some(({ type, status }) => type === 'Ready' && status === 'True');

const addressFlag = (address: string): string => `--address=${address}`;

async function readObject(
  { kubectl }: Access,
  name: string,
): Promise<{ readonly isReady: boolean; readonly text: string }> {
  const { exitCode, stdout, stderr } = await kubectl.attempt('get', 'node', name, '--output=json');
  if (exitCode !== 0) {
    const text = /NotFound|not found/.test(stderr)
      ? 'Its Node object does not exist.'
      : `Its Node object could not be read: ${stderr.trim()}`;
    return { isReady: false, text };
  }
  const isReady = isReadyNode(v.parse(nodeObject, JSON.parse(stdout)));
  const text = isReady
    ? 'Its Node object is Ready, so its data is probably not lost: find out why its driver is not reached first.'
    : 'Its Node object exists and is not Ready.';
  return { isReady, text };
}

const maxShown = 10;

function claimOf({ metadata, spec: { claimRef } }: PersistentVolume): string {
  return claimRef === undefined ? metadata.name : `${claimRef.namespace}/${claimRef.name}`;
}

function lostText(lost: readonly PersistentVolume[]): readonly string[] {
  if (lost.length === 0) return ['No PersistentVolume is on it.'];
  const claims = lost.slice(0, maxShown).map((one) => `  ${printable(claimOf(one))}`);
  const more = lost.length > maxShown ? [`  and ${lost.length - maxShown} more`] : [];
  return [`The data of ${count(lost.length, 'PersistentVolume')} is given up:`, ...claims, ...more];
}

function nextSteps(lost: readonly PersistentVolume[]): readonly string[] {
  const claims = lost.flatMap(({ spec: { claimRef } }) =>
    claimRef === undefined ? [] : [claimRef],
  );
  if (claims.length === 0) return [];
  const commands = claims
    .slice(0, maxShown)
    .map(({ namespace, name }) => `  kubectl delete pvc --namespace ${namespace} ${name}`);
  const more = claims.length > maxShown ? [`  … and ${claims.length - maxShown} more`] : [];
  return [
    'Delete the claims whose data is lost, and the pods that wait for it:',
    ...commands,
    ...more,
  ];
}

const rememberAnswer = v.object({ name: v.string(), tag: v.string(), wasForgotten: v.boolean() });

async function rememberNode(session: Session, access: Access, name: string): Promise<void> {
  if (name.startsWith('-')) throw new UsageError(`'${name}' is not the name of a node`);
  const pod = await findControllerPod(access.kubectl, access.driver);
  const answer = await ask(access, pod, rememberAnswer, 'remember', name);
  await session.show(answer, () => rememberedText(answer));
}
