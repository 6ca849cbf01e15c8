/** Lists over nodes, page by page: the entries of one node after those of another, in the order of the node tags. */
import { mapConcurrently } from '../async.ts';
import { VolumeError } from '../errors.ts';
import { StatusError } from '../rpc/status.ts';
import type { Agent } from './agent.ts';
import type { Agents, Node } from './agents.ts';
import { absent, requireAgent } from './route.ts';

export interface ListPage<T> {
  readonly entries: readonly T[];
  readonly next_token: string;
}

/** Asks one agent for a page. */
export type AskPage<T> = (
  agent: Agent,
  page: { readonly max_entries: number; readonly starting_token: string },
) => Promise<ListPage<T>>;

/** Where a page begins: at a place in the list of one node, or after all entries of it. */
interface Position {
  readonly tag: string;
  readonly token: string | undefined;
}

interface Asked {
  readonly tag: string;
  readonly agent: Agent;
}

const maxConcurrentNodes = 32;

const tokenForm = /^([0-9a-f]{8})(?:\/(.*)|!)$/s;

/**
 * Returns a page over `nodes`. Its token has the tag of a node, so that nodes which join or leave between two pages neither repeat
 * nor hide entries of others. Throws `unavailable` while a node that belongs to the list is not ready or the nodes are not known yet,
 * because CSI has no way to say that a list is incomplete, and `stale-token` for a token of another form.
 */
export async function listOver<T>(
  agents: Agents,
  nodes: readonly Node[],
  options: {
    readonly maxEntries: number;
    readonly startingToken: string;
    readonly ask: AskPage<T>;
  },
): Promise<ListPage<T>> {
  const { maxEntries, startingToken, ask } = options;
  const start = parseToken(startingToken);
  agents.requireSynced();
  const remaining = nodes.filter((node) => isAfter(node, start));
  const asked = remaining.map((node) => ({
    tag: tagOf(node, agents),
    agent: requireAgent(node, agents),
  }));
  const askNode = async ({ tag, agent }: Asked, max_entries: number): Promise<ListPage<T>> => {
    const starting_token = start?.tag === tag ? (start.token ?? '') : '';
    try {
      return await ask(agent, { max_entries, starting_token });
    } catch (error) {
      throw withNode(error, agent);
    }
  };
  const entries: T[] = [];
  let previous: Asked | undefined;
  for (const batch of batchesOf(asked)) {
    const limit = maxEntries === 0 ? 0 : maxEntries - entries.length;
    const pages = await mapConcurrently(batch, maxConcurrentNodes, (node) => askNode(node, limit));
    for (const [index, node] of batch.entries()) {
      const free = maxEntries === 0 ? 0 : maxEntries - entries.length;
      if (maxEntries > 0 && free === 0)
        return { entries, next_token: `${previous?.tag ?? node.tag}!` };
      let page = pages[index] ?? { entries: [], next_token: '' };
      // Nodes before it in the batch have filled a part of the page since.
      if (maxEntries > 0 && page.entries.length > free) page = await askNode(node, free);
      entries.push(...page.entries);
      if (page.next_token !== '') return { entries, next_token: `${node.tag}/${page.next_token}` };
      previous = node;
    }
    if (maxEntries > 0 && entries.length >= maxEntries && previous !== asked.at(-1))
      return { entries, next_token: `${previous?.tag ?? ''}!` };
  }
  return { entries, next_token: '' };
}

/** The caller has named no node, so the error of one that cannot list all that it has says which it is. */
function withNode(error: unknown, { name }: Agent): unknown {
  const subject = `node '${name}'`;
  if (!(error instanceof StatusError) || error.message.includes(subject)) return error;
  return new StatusError(error.code, `${subject}: ${error.message}`, { cause: error });
}

/** The first node alone, since it often fills the page; then more and more, since many may have no entries. */
function* batchesOf<T>(nodes: readonly T[]): Generator<readonly T[]> {
  let size = 1;
  for (let begin = 0; begin < nodes.length; ) {
    yield nodes.slice(begin, begin + size);
    begin += size;
    size = Math.min(2 * size, maxConcurrentNodes);
  }
}

function parseToken(text: string): Position | undefined {
  if (text === '') return undefined;
  const match = tokenForm.exec(text);
  if (match?.[1] !== undefined) return { tag: match[1], token: match[2] };
  throw new VolumeError(
    'stale-token',
    `starting_token '${text.slice(0, 64)}' is not a token of this controller; start again without one`,
  );
}

/** Whether the page may contain entries of the node. It may if it is not known which node it is. */
function isAfter({ tag }: Node, start: Position | undefined): boolean {
  if (start === undefined || tag === undefined || tag > start.tag) return true;
  return tag === start.tag && start.token !== undefined;
}

function tagOf(node: Node, agents: Agents): string {
  if (node.tag === undefined) throw absent(node, agents);
  return node.tag;
}
