/** Chooses the node of a new volume. */
import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { mapConcurrently } from '../../async.ts';
import type { CreateVolumeRequest, CreateVolumeResponse, Topology } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { missing, volumeIdFor } from '../../ids.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCreateVolumeForm } from '../../rpc/forms.ts';
import { StatusError } from '../../rpc/status.ts';
import type { Agents, Node } from '../agents.ts';
import { absent, findAgent, isIn, requireAgent, routeOf } from '../route.ts';
import { type ControllerContext, forward } from './context.ts';

const service = 'csi.v1.Controller';

/** A node that has been away for this time does not keep a volume from being created on another one. */
const longAwayMs = 3 * 60_000;
/** After the start, nodes that have not been seen yet may still appear. */
const settlingMs = 2 * 60_000;
const maxConcurrentNodes = 32;
const askTimeoutMs = 5_000;
/** Names whose node is remembered. Each has up to 128 bytes. */
const maxUndecided = 10_000;

type Source = ReturnType<typeof parseCreateVolumeForm>['source'];

/**
 * CSI spec, CreateVolume. With one candidate, its agent decides everything. With several, the node that has a volume of that name
 * already; otherwise the first that has room, in an order which depends only on the request: a repeated call, also to another
 * controller, begins at the same node, and so finds what an earlier one has begun there.
 */
export async function createVolume(
  context: ControllerContext,
  request: CreateVolumeRequest,
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  const { name, source } = parseCreateVolumeForm(request);
  const candidates = candidatesOf(request, context.agents);
  const [only, ...others] = candidates;
  if (only === undefined) throw noCandidate(request, context.agents);
  if (others.length === 0) {
    const agent = requireAgent(only, context.agents);
    return forward(agent, { service, rpc: 'CreateVolume', request }, call);
  }
  const { running } = context.createdNames;
  if (running.has(name)) {
    throw new VolumeError('busy', `volume '${name}' is being created already; retry later`);
  }
  running.add(name);
  try {
    return await createOnOne(context, { request, candidates, name, source }, call);
  } finally {
    running.delete(name);
  }
}

/** The nodes that the request allows, those that it prefers first. A node without tag has no id to ask for. */
function candidatesOf(request: CreateVolumeRequest, agents: Agents): readonly Node[] {
  const { requisite = [], preferred = [] } = request.accessibility_requirements ?? {};
  const isAllowed = (node: Node): boolean =>
    requisite.length === 0 || requisite.some(({ segments }) => isIn(node, segments));
  const nodes = agents.nodes().filter(isAllowed);
  const ranked = nodes.map((node) => ({
    node,
    preference: preferenceOf(node, preferred),
    score: scoreOf(node, request.name),
  }));
  ranked.sort((a, b) => a.preference - b.preference || (a.score < b.score ? -1 : 1));
  return ranked.map(({ node }) => node);
}

function preferenceOf(node: Node, preferred: readonly Topology[]): number {
  const index = preferred.findIndex(({ segments }) => isIn(node, segments));
  return index < 0 ? preferred.length : index;
}

/** Rendezvous hashing: spreads names over nodes, and the order of the other nodes stays when one joins or leaves. */
function scoreOf({ tag, name }: Node, volumeName: string): string {
  return createHash('sha256')
    .update(`${tag ?? name}/${volumeName}`)
    .digest('hex');
}

function noCandidate(request: CreateVolumeRequest, agents: Agents): VolumeError {
  const requisite = request.accessibility_requirements?.requisite ?? [];
  const asked = requisite.slice(0, 5).map(({ segments }) =>
    Object.entries(segments)
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  );
  const subject = `volume '${request.name}': no node ${asked.length === 0 ? '' : `with the topology ${asked.join('; ')} `}is known to this controller`;
  const isSettling = (agents.syncedForMs ?? 0) < settlingMs;
  const isUnsure = agents.nodes().some(({ tag }) => tag === undefined);
  if (asked.length === 0 || isSettling || isUnsure)
    return new VolumeError('unavailable', `${subject} yet; retry later`);
  return new VolumeError('no-space', `${subject}; start the driver there, or choose another node`);
}

interface Creation {
  readonly request: CreateVolumeRequest;
  readonly candidates: readonly Node[];
  readonly name: string;
  readonly source: Source;
}

async function createOnOne(
  context: ControllerContext,
  creation: Creation,
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  const { agents } = context;
  const { candidates, name, source } = creation;
  const answers = await whoHasIt(creation, call);
  const owner = candidates.find((node) => answers.get(node) === 'has it');
  if (owner !== undefined) return createOn(context, creation, owner, call);
  const allowed = source === null ? candidates : [requireSourceNode(agents, creation, source)];
  const undecidedTag = context.createdNames.undecided.get(name);
  // A node that has never answered has no tag.
  const undecided =
    undecidedTag === undefined ? undefined : allowed.find(({ tag }) => tag === undecidedTag);
  const inOrder = undecided === undefined ? allowed : [undecided, ...without(allowed, undecided)];
  let full: StatusError | undefined;
  for (const node of inOrder) {
    if (call.signal.aborted) throw new VolumeError('cancelled', 'the caller has disconnected');
    const isSure = node.agent !== undefined && answers.get(node) !== undefined;
    if (!isSure) {
      if (allowed.length > 1 && node !== undecided && isLongAway(node, agents)) continue;
      // It may have the volume, or make it now for another controller.
      throw absent(node, agents);
    }
    try {
      return await createOn(context, creation, node, call);
    } catch (error) {
      if (!(error instanceof StatusError) || error.code !== status.RESOURCE_EXHAUSTED) throw error;
      full = error;
    }
  }
  throw (
    full ?? new VolumeError('unavailable', `volume '${name}': no candidate is ready; retry later`)
  );
}

function without(nodes: readonly Node[], excluded: Node): readonly Node[] {
  return nodes.filter((node) => node !== excluded);
}

function isLongAway({ absence }: Node, agents: Agents): boolean {
  return absence !== undefined && agents.absentForMs(absence) > longAwayMs;
}

/** Asks all candidates that are ready. Those that did not answer are missing in the result. */
async function whoHasIt(
  { candidates, name }: Creation,
  call: RpcCall,
): Promise<ReadonlyMap<Node, 'has it' | 'has it not'>> {
  const answers = new Map<Node, 'has it' | 'has it not'>();
  const deadlineMs = Math.min(call.deadlineMs, Date.now() + askTimeoutMs);
  await mapConcurrently(candidates, maxConcurrentNodes, async (node) => {
    if (node.agent === undefined || node.tag === undefined) return;
    const request = { volume_id: volumeIdFor(name, node.tag) };
    try {
      const caller = { signal: call.signal, deadlineMs };
      await node.agent.call({ service, rpc: 'ControllerGetVolume', request }, caller);
      answers.set(node, 'has it');
    } catch (error) {
      if (error instanceof StatusError && error.code === status.NOT_FOUND)
        answers.set(node, 'has it not');
    }
  });
  return answers;
}

/** Codes after which the volume may exist, or may be being made (CSI spec, "Error Scheme"; external-provisioner). */
const maybeCodes: ReadonlySet<status> = new Set([
  status.CANCELLED,
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.INTERNAL,
  status.UNAVAILABLE,
]);

async function createOn(
  { agents, createdNames: { undecided } }: ControllerContext,
  { request, name }: Creation,
  node: Node,
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  const agent = requireAgent(node, agents);
  try {
    const response = await forward(agent, { service, rpc: 'CreateVolume', request }, call);
    undecided.delete(name);
    return response;
  } catch (error) {
    const isMaybe = error instanceof StatusError && maybeCodes.has(error.code);
    if (isMaybe && node.tag !== undefined) remember(undecided, name, node.tag);
    else if (error instanceof StatusError) undecided.delete(name);
    throw error;
  }
}

function remember(undecided: Map<string, string>, name: string, tag: string): void {
  undecided.delete(name);
  undecided.set(name, tag);
  const [oldest] = undecided.keys();
  if (undecided.size > maxUndecided && oldest !== undefined) undecided.delete(oldest);
}

/** The candidate that has the source. Throws `no-space` if it is another node: a copy is made where its source is. */
function requireSourceNode(
  agents: Agents,
  { candidates, name }: Creation,
  { kind, id }: NonNullable<Source>,
): Node {
  const route = routeOf(id, agents);
  if (route.kind === 'nowhere') throw missing(kind, id);
  // The nodes are new objects whenever an agent has told something new, so only the tag says that two are the same.
  const sourceTag = route.kind === 'node' ? route.node.tag : undefined;
  const here = candidates.find(({ tag }) => tag !== undefined && tag === sourceTag);
  if (here !== undefined) return here;
  // Throws if the node is not known.
  if (route.kind === 'unknown') findAgent(id, kind, agents);
  const where = route.kind === 'node' ? `node '${route.node.name}'` : 'another node';
  const asked = candidates.slice(0, 5).map((node) => `'${node.name}'`);
  throw new VolumeError(
    'no-space',
    `volume '${name}': its source, ${kind} '${id}', is on ${where}, and the request asks for ${asked.join(', ')}; a copy can only be made on the node of its source: create it there`,
  );
}
