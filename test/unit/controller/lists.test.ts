import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import fc from 'fast-check';
import type { Agents, Node } from '../../../src/controller/agents.ts';
import { listOver } from '../../../src/controller/lists.ts';
import { pageOf } from '../../../src/volumes/pool/record-index.ts';
import { aNode } from '../../helpers/controller-context.ts';

/** A node with sorted ids, whose agent answers as a driver does. */
interface ListedNode {
  readonly tag: string;
  readonly ids: readonly string[];
}

const tags = Array.from({ length: 8 }, (_, index) => `0000000${index}`);

function nodeOf({ tag }: ListedNode): Node {
  // The list only passes the agent on to `ask`.
  return aNode(`node-${tag}`, { tag, agent: { tag } as never });
}

const agents = { requireSynced: () => undefined } as Agents;

async function page(nodes: readonly ListedNode[], maxEntries: number, startingToken: string) {
  return listOver(agents, nodes.map(nodeOf), {
    maxEntries,
    startingToken,
    ask: async (agent, { max_entries, starting_token }) => {
      const { tag } = agent as unknown as { tag: string };
      const ids = nodes.find((node) => node.tag === tag)?.ids ?? [];
      const found = pageOf(ids, {
        maxEntries: max_entries,
        startingToken: starting_token,
        idOf: (id) => id,
      });
      return { entries: found.entries, next_token: found.nextToken };
    },
  });
}

const anyNode = (tag: string): fc.Arbitrary<ListedNode> =>
  fc.uniqueArray(fc.integer({ min: 10, max: 99 }), { maxLength: 6 }).map((numbers) => ({
    tag,
    ids: numbers.sort((a, b) => a - b).map((number) => `v${number}.${tag}`),
  }));
const anyNodes = fc.tuple(...tags.map(anyNode));
const membership = fc.array(fc.boolean(), { minLength: tags.length, maxLength: tags.length });

test('pages of any size contain every entry once, in order', async (t) => {
  const property = fc.asyncProperty(
    anyNodes,
    fc.integer({ min: 0, max: 7 }),
    async (nodes, size) => {
      const found: string[] = [];
      let token = '';
      do {
        const { entries, next_token } = await page(nodes, size, token);
        if (size > 0 && entries.length > size) return false;
        found.push(...entries);
        token = next_token;
      } while (token !== '');
      return JSON.stringify(found) === JSON.stringify(nodes.flatMap(({ ids }) => ids));
    },
  );
  await t.notThrowsAsync(fc.assert(property, { numRuns: 300 }));
});

test('nodes that join and leave between pages neither repeat nor hide entries of those that stay', async (t) => {
  const property = fc.asyncProperty(
    anyNodes,
    fc.integer({ min: 1, max: 4 }),
    fc.array(membership, { minLength: 1, maxLength: 30 }),
    membership,
    async (nodes, size, changes, staying) => {
      const present = (step: number) =>
        nodes.filter((_, index) => staying[index] || changes[step % changes.length]?.[index]);
      const found: string[] = [];
      let token = '';
      for (let step = 0; step === 0 || token !== ''; step += 1) {
        const { entries, next_token } = await page(present(step), size, token);
        found.push(...entries);
        token = next_token;
      }
      const wanted = nodes.flatMap(({ ids }, index) => (staying[index] ? ids : []));
      return new Set(found).size === found.length && wanted.every((id) => found.includes(id));
    },
  );
  await t.notThrowsAsync(fc.assert(property, { numRuns: 500 }));
});

test('a token has at most the 128 bytes of a string in CSI', async (t) => {
  const ids = ['a', 'b'].map((letter) => `_${letter.repeat(64)}.00000000`);
  const longest = `${'n'.repeat(100)}.00000000`;
  const { next_token } = await page([{ tag: '00000000', ids: [longest, ...ids] }], 1, '');
  t.true(Buffer.byteLength(next_token) <= 128, next_token);
});

test('many nodes without entries are asked at the same time, but not more than 32', async (t) => {
  const nodes = Array.from({ length: 200 }, (_, index) => ({
    tag: index.toString(16).padStart(8, '0'),
    ids: [],
  }));
  let running = 0;
  let most = 0;
  let rounds = 0;
  const { entries, next_token } = await listOver(agents, nodes.map(nodeOf), {
    maxEntries: 10,
    startingToken: '',
    ask: async () => {
      if (running === 0) rounds += 1;
      running += 1;
      most = Math.max(most, running);
      await setImmediate();
      running -= 1;
      return { entries: [], next_token: '' };
    },
  });
  t.deepEqual([entries, next_token], [[], '']);
  t.is(most, 32);
  t.true(rounds < 15, `${rounds} rounds`);
});
