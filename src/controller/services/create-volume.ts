/** Chooses the node of a new volume. */
import { createHash } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import type { CreateVolumeRequest, CreateVolumeResponse } from '../../csi/types.ts';
import { VolumeError } from '../../errors.ts';
import { missing, volumeIdFor } from '../../ids.ts';
import type { RpcCall } from '../../rpc/call.ts';
import { parseCreateVolumeForm } from '../../rpc/forms.ts';
import { StatusError } from '../../rpc/status.ts';
import { type Agent, atMost } from '../agent.ts';
import type { Agents, Node } from '../agents.ts';
import { absent, firstPlace, requireAgent, routeOf, undecided } from '../route.ts';
import { askNodes, type ControllerContext, type CreateMemory, forward } from './context.ts';
import { canCopy, closeCopied, mayCopy, withOfferedSource } from './offer-source.ts';

const service = 'csi.v1.Controller';

/** A node that has been unreachable for this time does not keep a volume from being created on another one. */
const longAbsentMs = 3 * 60_000;
/** A volume that can only be on a node which has been unreachable for this time is refused, so that it is created elsewhere. */
const abandonedMs = 10 * 60_000;
const askTimeoutMs = 5_000;
/** Names whose node is remembered. Each has up to 128 bytes. */
const maxUndecided = 10_000;

export function makeCreateMemory(): CreateMemory {
  return {
    running: new Set(),
    undecided: new Map(),
    silent: new Map(),
  };
}

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
  await requireDecided(context, { candidates, name }, call);
  if (others.length === 0) {
    return createOnOnly(context, { request, candidates, name, source }, only, call);
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

/**
 * The agent of the only candidate. After UNAVAILABLE a provisioner keeps the claim on that node, so when the node has been unreachable for
 * long, `no-space` lets the scheduler choose another one. A copy of a source on that node waits, because its source is there. What an
 * earlier call may have made there is reported when the node is back, and not deleted (docs/decisions/0025).
 */
function requireCandidate(
  node: Node,
  { name, source }: Pick<Creation, 'name' | 'source'>,
  agents: Agents,
): Agent {
  const { agent, absence } = node;
  if (agent !== undefined) return agent;
  const problem = absent(node, agents);
  const isLong = absence !== undefined && agents.absentForMs(absence) > abandonedMs;
  if (!isLong || (source !== null && isOn(source, node, agents))) throw problem;
  throw new VolumeError(
    'no-space',
    `volume '${name}' cannot be created now, and another node should be chosen: ${problem.message}`,
  );
}

/** Whether the source is on that node, as far as is known. */
function isOn({ id }: NonNullable<Source>, { tag }: Node, agents: Agents): boolean {
  const route = routeOf(id, agents);
  return route.kind === 'node' && tag !== undefined && route.node.tag === tag;
}

/** The nodes that the request allows, those that it prefers first. A node without tag has no id to ask for. */
function candidatesOf(request: CreateVolumeRequest, agents: Agents): readonly Node[] {
  const { requisite = [], preferred = [] } = request.accessibility_requirements ?? {};
  const allowedPlace = firstPlace(requisite);
  const preferredPlace = firstPlace(preferred);
  const isAllowed = (node: Node): boolean =>
    requisite.length === 0 || allowedPlace(node) !== undefined;
  const nodes = agents.nodes().filter(isAllowed);
  // A caller that asks for no topology does not choose the node for its volume either, so an operator's order decides (docs/decisions/0027).
  const isTopologyAsked = requisite.length + preferred.length > 0;
  const ranked = nodes.map((node) => ({
    node,
    preference: preferredPlace(node) ?? preferred.length,
    rank: isTopologyAsked ? 0 : (node.rank ?? Number.MAX_SAFE_INTEGER),
    score: scoreOf(node, request.name),
  }));
  ranked.sort(
    (a, b) => a.preference - b.preference || a.rank - b.rank || (a.score < b.score ? -1 : 1),
  );
  return ranked.map(({ node }) => node);
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
  const isUnsure = agents.nodes().some(({ tag }) => tag === undefined);
  const isLost =
    requisite.length > 0 && requisite.every(({ segments }) => agents.isForgottenPlace(segments));
  if (!isLost && (asked.length === 0 || agents.isSettling || isUnsure))
    return new VolumeError('unavailable', `${subject} yet; retry later`);
  return new VolumeError('no-space', `${subject}; start the driver there, or choose another node`);
}

/** The node decides. It knows the node of a source only by the tag in the id, and this controller by its name. */
async function createOnOnly(
  { agents }: ControllerContext,
  creation: Creation,
  node: Node,
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  return createOrCopy(
    agents,
    creation,
    { node, agent: requireCandidate(node, creation, agents) },
    call,
  );
}

/**
 * Asks the agent for the volume. If its source is on another node, the agent says so, because it is not the first to be asked: it may have
 * the volume already, or be making it. Only then it is told where the source can be read.
 */
async function createOrCopy(
  agents: Agents,
  creation: Creation,
  { node, agent }: { readonly node: Node; readonly agent: Agent },
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  const { request, source } = creation;
  const create = () => forward(agent, { service, rpc: 'CreateVolume', request }, call);
  const copied =
    source === null ? undefined : { kind: source.kind, id: source.id, copy_name: creation.name };
  try {
    const made = await create();
    if (copied !== undefined) {
      const route = routeOf(copied.id, agents);
      if (route.kind === 'node' && route.node !== node) closeCopied(route.node, copied);
    }
    return made;
  } catch (error) {
    const isNoSpace = error instanceof StatusError && error.code === status.RESOURCE_EXHAUSTED;
    if (!isNoSpace || source === null || copied === undefined) throw error;
    const route = routeOf(source.id, agents);
    // No other node has it either.
    if (route.kind === 'nowhere') throw missing(source.kind, source.id);
    if (route.kind === 'unheard') throw undecided(source.id, source.kind, route, agents);
    if (route.kind !== 'node' || route.node.tag === node.tag) throw error;
    if (route.node.hello !== undefined && !canCopy(route.node, node))
      throw sourceElsewhere(agents, creation, source, route.node);
    const way = { source: copied, from: route.node, to: { node, agent } };
    return withOfferedSource(agents, way, call, create);
  }
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
  const answers = await whoHasIt(context, creation, call);
  const owner = candidates.find((node) => answers.get(node) === 'has it');
  if (owner !== undefined) return createOn(context, creation, owner, call);
  const allowed = source === null ? candidates : candidatesWith(agents, creation, source);
  const undecidedTag = context.createdNames.undecided.get(name);
  // A node that has never answered has no tag.
  const undecided =
    undecidedTag === undefined ? undefined : allowed.find(({ tag }) => tag === undecidedTag);
  const inOrder = undecided === undefined ? allowed : [undecided, ...without(allowed, undecided)];
  let full: StatusError | undefined;
  for (const node of inOrder) {
    if (call.signal.aborted) throw new VolumeError('cancelled', 'the caller has disconnected');
    const answer = answers.get(node);
    if (node.agent === undefined || answer === undefined || answer instanceof StatusError) {
      if (allowed.length > 1 && node !== undecided && isLongAbsent(node, context)) continue;
      // It may have the volume, or make it now for another controller.
      throw answer instanceof StatusError ? unsure(node, name, answer) : absent(node, agents);
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

/** Whether the node has been unreachable, or has been ready without saying what it has, for long. */
function isLongAbsent(
  { absence, tag }: Node,
  { agents, createdNames }: ControllerContext,
): boolean {
  if (absence !== undefined) return agents.absentForMs(absence) > longAbsentMs;
  const silence = tag === undefined ? undefined : createdNames.silent.get(tag);
  return silence !== undefined && silence.lastMs - silence.sinceMs > longAbsentMs;
}

function unsure({ name, tag }: Node, volumeName: string, answer: StatusError): VolumeError {
  return new VolumeError(
    'unavailable',
    `node '${name}' (tag ${tag ?? ''}) does not say whether it has volume '${volumeName}': ${answer.message}`,
    { cause: answer },
  );
}

type Answer = 'has it' | 'has it not' | StatusError;

/** Asks all candidates that are ready. The others are missing in the result. */
async function whoHasIt(
  context: ControllerContext,
  { candidates, name }: Creation,
  call: RpcCall,
): Promise<ReadonlyMap<Node, Answer>> {
  const answers = new Map<Node, Answer>();
  await askNodes(context, candidates, call, async (node) => {
    const answer = await askWhetherItHas(context, { node, name }, call);
    if (answer !== undefined) answers.set(node, answer);
  });
  return answers;
}

/** Asks a node for the volume of that name; undefined if the node cannot be asked. */
async function askWhetherItHas(
  { agents, createdNames: { silent } }: ControllerContext,
  { node: { agent, tag }, name }: { readonly node: Node; readonly name: string },
  call: RpcCall,
): Promise<Answer | undefined> {
  if (agent === undefined || tag === undefined) return undefined;
  const request = { volume_id: volumeIdFor(name, tag) };
  try {
    const caller = atMost(askTimeoutMs, call);
    await agent.call({ service, rpc: 'ControllerGetVolume', request }, caller);
    silent.delete(tag);
    return 'has it';
  } catch (error) {
    if (!(error instanceof StatusError)) return undefined;
    if (error.code === status.NOT_FOUND) {
      silent.delete(tag);
      return 'has it not';
    }
    if (!call.signal.aborted) noteSilence(silent, tag, agents.nowMs());
    return error;
  }
}

/** Silence that was not noticed for long counts from now on: in between, the node may have answered others. */
function noteSilence(silent: CreateMemory['silent'], tag: string, nowMs: number): void {
  const earlier = silent.get(tag);
  const isSame = earlier !== undefined && nowMs - earlier.lastMs <= longAbsentMs;
  silent.set(tag, { sinceMs: isSame ? earlier.sinceMs : nowMs, lastMs: nowMs });
}

/**
 * Throws `unavailable` if an earlier call may have made the volume on a node that is no candidate, or not any more, unless that node
 * says that it has none.
 */
async function requireDecided(
  context: ControllerContext,
  { candidates, name }: Pick<Creation, 'candidates' | 'name'>,
  call: RpcCall,
): Promise<void> {
  const { agents, createdNames, questions } = context;
  const tag = createdNames.undecided.get(name);
  if (tag === undefined || candidates.some((node) => node.tag === tag)) return;
  const node = agents.nodes().find((one) => one.tag === tag);
  const answer =
    node === undefined
      ? undefined
      : await questions(() => askWhetherItHas(context, { node, name }, call), call.signal);
  if (answer === 'has it not' || agents.isForgotten(tag)) {
    createdNames.undecided.delete(name);
    return;
  }
  const where =
    node === undefined ? `the node with tag ${tag}` : `node '${node.name}' (tag ${tag})`;
  throw new VolumeError(
    'unavailable',
    answer === 'has it'
      ? `volume '${name}' was made on ${where}, which the request does not allow; delete volume '${volumeIdFor(name, tag)}', or allow that node`
      : `volume '${name}' may have been made on ${where}, which does not answer; start its driver, or if it never comes back: loopcsi node forget ${node?.name ?? 'NODE'}`,
  );
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
  creation: Creation,
  node: Node,
  call: RpcCall,
): Promise<CreateVolumeResponse> {
  const { name } = creation;
  const agent = requireAgent(node, agents);
  try {
    const response = await createOrCopy(agents, creation, { node, agent }, call);
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

/**
 * The candidates where a copy of the source can be made: its own node, where that needs no network, before others. Throws `no-space` if
 * there is none.
 */
function candidatesWith(
  agents: Agents,
  { candidates, name }: Creation,
  source: NonNullable<Source>,
): readonly Node[] {
  const { kind, id } = source;
  const route = routeOf(id, agents);
  if (route.kind === 'nowhere') throw missing(kind, id);
  if (route.kind !== 'node') throw undecided(id, kind, route, agents);
  const home = route.node;
  // The nodes are new objects whenever an agent has told something new, so only the tag says that two are the same.
  const isHome = ({ tag }: Node): boolean => tag !== undefined && tag === home.tag;
  const usable = [
    ...candidates.filter(isHome),
    // A node that has not said what it allows is waited for.
    ...candidates.filter((node) => !isHome(node) && mayCopy(home, node)),
  ];
  if (usable.length > 0) return usable;
  throw sourceElsewhere(agents, { candidates, name }, source, home);
}

function sourceElsewhere(
  agents: Agents,
  { candidates, name }: Pick<Creation, 'candidates' | 'name'>,
  { kind, id }: NonNullable<Source>,
  home: Node,
): VolumeError {
  const asked = candidates.slice(0, 5).map((node) => `'${node.name}'`);
  const remedy =
    home.agent === undefined ? `; ${absent(home, agents).message}` : ': create it there';
  return new VolumeError(
    'no-space',
    `volume '${name}': its source, ${kind} '${id}', is on node '${home.name}', and the request asks for ${asked.join(', ')}; a copy can only be made on the node of its source${remedy}`,
  );
}
