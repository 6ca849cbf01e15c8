/** Which node an id belongs to, and the errors for nodes that cannot be asked. */
import type { Topology } from '../csi/types.ts';
import { VolumeError } from '../errors.ts';
import { missing, tagOfId } from '../ids.ts';
import type { Agent } from './agent.ts';
import type { Absence, Agents, Node } from './agents.ts';

export type EntryKind = 'volume' | 'snapshot' | 'group snapshot';

/** Where the entry of an id is. `nowhere`: it does not exist, since no node made the id, or its node was lost for good. */
export type Route =
  | { readonly kind: 'node'; readonly node: Node }
  | { readonly kind: 'unknown'; readonly tag: string }
  /** The node of its tag was lost for good, but this other one, which may have it, has not said yet what it has. */
  | { readonly kind: 'unheard'; readonly tag: string; readonly node: Node }
  | { readonly kind: 'nowhere' };

/** A node says which entries it has that another node made; all others are where their tag says. */
export function routeOf(id: string, agents: Agents): Route {
  const tag = tagOfId(id);
  if (tag === undefined) return { kind: 'nowhere' };
  const nodes = agents.nodes();
  const home = nodes.find(({ foreignIds }) => foreignIds.includes(id));
  if (home !== undefined) return { kind: 'node', node: home };
  if (agents.isForgotten(tag)) {
    const unheard = nodes.find(({ hello }) => hello === undefined);
    return unheard === undefined ? { kind: 'nowhere' } : { kind: 'unheard', tag, node: unheard };
  }
  const node = nodes.find((one) => one.tag === tag);
  return node === undefined ? { kind: 'unknown', tag } : { kind: 'node', node };
}

/**
 * The agent that has the entry, if it exists; undefined if no node has it. Throws `unavailable` if that is not known: a caller
 * would consider an entry that is called missing as deleted.
 */
export function findAgent(id: string, kind: EntryKind, agents: Agents): Agent | undefined {
  const route = routeOf(id, agents);
  switch (route.kind) {
    case 'nowhere':
      return undefined;
    case 'unknown':
    case 'unheard':
      throw undecided(id, kind, route, agents);
    case 'node':
      return requireAgent(route.node, agents);
  }
}

/** As `findAgent`, but throws `not-found` if no node has the entry. */
export function agentOf(id: string, kind: EntryKind, agents: Agents): Agent {
  const agent = findAgent(id, kind, agents);
  if (agent === undefined) throw missing(kind, id);
  return agent;
}

/** The error for an id of which it is not known whether a node has it. */
export function undecided(
  id: string,
  kind: EntryKind,
  route: Extract<Route, { kind: 'unknown' | 'unheard' }>,
  agents: Agents,
): VolumeError {
  const { tag } = route;
  const reason = agents.unsyncedReason;
  if (reason !== undefined) return new VolumeError('unavailable', reason);
  return new VolumeError(
    'unavailable',
    route.kind === 'unknown'
      ? `${kind} '${id}' is on the node with tag ${tag}, which has not been seen since this controller started; its data is not lost: start the driver of that node, or name its agent to the controller; if it never comes back: loopcsi node forget NODE`
      : `${kind} '${id}' is lost with the node with tag ${tag}, unless another node has it now, and one has not said yet what it has: ${absent(route.node, agents).message}`,
  );
}

/** The agent of a node. Throws `unavailable`, saying why and since when, if it cannot be called. */
export function requireAgent(node: Node, agents: Agents): Agent {
  if (node.agent !== undefined) return node.agent;
  throw absent(node, agents);
}

/** The error for a call to a node that cannot be called. */
export function absent({ name, tag, absence }: Node, agents: Agents): VolumeError {
  const node = `node '${name}'${tag === undefined ? '' : ` (tag ${tag})`}`;
  return new VolumeError(
    'unavailable',
    `${node} ${absence === undefined ? 'is not ready; retry later' : textOf({ name, tag, absence }, agents)}`,
  );
}

function textOf(
  { name, tag, absence }: Pick<Node, 'name' | 'tag'> & { readonly absence: Absence },
  agents: Agents,
): string {
  switch (absence.kind) {
    case 'connecting':
      return 'is being connected for the first time; retry later';
    case 'refused':
      return `is refused: ${absence.why}`;
    case 'unreachable': {
      const since = durationText(agents.absentForMs(absence));
      const lost = tag === undefined ? `NODE --address ${name}` : name;
      return `has been unreachable for ${since} (${absence.problem}); its data is not lost: start its driver, or restore the network to it; if it never comes back: loopcsi node forget ${lost}`;
    }
  }
}

/** Why a node is not ready, for a list. */
export function reasonOf(absence: Absence): string {
  switch (absence.kind) {
    case 'connecting':
      return '';
    case 'refused':
      return absence.why;
    case 'unreachable':
      return absence.problem;
  }
}

function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** Whether all segments that are asked for are those of the node. Keys are case-insensitive (CSI spec, "Topology"). */
export function isIn({ segments }: Node, asked: Topology['segments']): boolean {
  return Object.entries(asked).every(([key, value]) => segments[key.toLowerCase()] === value);
}

/**
 * Returns the function that tells the index of the first of these topologies that a node is in; undefined if it is in none. With
 * Immediate binding a provisioner names every node of the cluster, so a node is not compared with each of them.
 */
export function firstPlace(topologies: readonly Topology[]): (node: Node) => number | undefined {
  const bySegment = new Map<
    string,
    { readonly index: number; readonly segments: Topology['segments'] }[]
  >();
  for (const [index, { segments }] of topologies.entries()) {
    const [first] = Object.entries(segments);
    const known = bySegment.get(textOfSegment(first));
    if (known === undefined) bySegment.set(textOfSegment(first), [{ index, segments }]);
    else known.push({ index, segments });
  }
  return (node) => {
    const own = [undefined, ...Object.entries(node.segments)];
    const places = own
      .flatMap((segment) => bySegment.get(textOfSegment(segment)) ?? [])
      .filter(({ segments }) => isIn(node, segments));
    return places.length === 0 ? undefined : Math.min(...places.map(({ index }) => index));
  };
}

/** Topologies without segments are those of every node. */
function textOfSegment(segment: readonly [string, string] | undefined): string {
  return segment === undefined ? '' : `${segment[0].toLowerCase()}=${segment[1]}`;
}
