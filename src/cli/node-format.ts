/** How the nodes of a controller are shown. */
import * as v from 'valibot';
import type { ControlledNode } from '../csi/admin-types.ts';
import { nodeTagOf } from '../ids.ts';
import { type Column, count } from './output.ts';
import { printable } from './printable.ts';

/** The JSON object of a node (docs/command-line.md); `kubectl loopcsi node` reads it from the controller's pod. */
export const nodeRow = v.object({
  name: v.string(),
  tag: v.string(),
  state: v.string(),
  reason: v.string(),
  since: v.nullable(v.string()),
  addresses: v.array(v.string()),
  version: v.string(),
  pools: v.array(v.string()),
  volumeCount: v.nullable(v.number()),
  forgottenAt: v.nullable(v.string()),
});
export type NodeRow = v.InferOutput<typeof nodeRow>;

export function nodeRowOf(node: ControlledNode): NodeRow {
  const { name, tag, state, reason, since, addresses, version, pools } = node;
  return {
    name,
    tag,
    state,
    reason,
    since: timeText(since),
    addresses: [...addresses],
    version,
    pools: [...pools],
    volumeCount: node.volume_count === null ? null : Number(node.volume_count.value),
    forgottenAt: timeText(node.forgotten_at),
  };
}

function timeText(time: ControlledNode['since']): string | null {
  if (time === null) return null;
  return new Date(Number(time.seconds) * 1000 + time.nanos / 1_000_000).toISOString();
}

export const nodeColumns: readonly Column<NodeRow>[] = [
  { title: 'NODE', text: ({ name }) => name },
  { title: 'TAG', text: ({ tag }) => tag },
  { title: 'STATE', text: ({ state }) => state },
  { title: 'SINCE', text: ({ since }) => secondsOf(since) },
  {
    title: 'VOLUMES',
    align: 'right',
    text: ({ volumeCount }) => (volumeCount === null ? '' : String(volumeCount)),
    sortBy: ({ volumeCount }) => volumeCount ?? -1,
  },
  { title: 'POOLS', text: ({ pools }) => pools.join(','), shrinks: true },
  { title: 'VERSION', text: ({ version }) => version, isWide: true },
  { title: 'ADDRESS', text: ({ addresses }) => addresses.join(','), isWide: true },
  { title: 'REASON', text: ({ reason }) => reason, shrinks: true, isOptional: true },
];

/** Without milliseconds. */
function secondsOf(time: string | null): string {
  return time === null ? '' : time.replace(/\.\d+Z$/, 'Z');
}

/** What `forget` means, before it is confirmed. */
export function forgetExplanation(name: string, row: NodeRow | undefined): readonly string[] {
  const shown = printable(name);
  return [
    row === undefined
      ? `The controller has not seen a node '${shown}' since it started. Ids of its volumes end in .${nodeTagOf(name)}.`
      : `Node '${shown}' (tag ${row.tag}) is ${row.state}${row.since === null ? '' : ` since ${secondsOf(row.since)}`}${volumesText(row)}.`,
    'All its volumes and snapshots will count as lost: to delete them succeeds, and every other call for them fails.',
    `Nothing is deleted on the node itself. If it returns, it is refused until 'loopcsi node remember ${shown}'.`,
  ];
}

function volumesText({ volumeCount }: NodeRow): string {
  return volumeCount === null ? '' : `, and last had ${count(volumeCount, 'volume')}`;
}

export function forgottenText(answer: {
  readonly name: string;
  readonly tag: string;
  readonly wasForgotten: boolean;
  readonly wasKnown: boolean;
}): string {
  const name = printable(answer.name);
  if (answer.wasForgotten) return `Node '${name}' was forgotten already.`;
  return [
    `Node '${name}' was forgotten. Its volumes and snapshots can be deleted now.`,
    ...(answer.wasKnown
      ? []
      : [
          `The controller has not seen it since it started: if the name is wrong, 'loopcsi node remember ${name}' undoes this.`,
        ]),
  ].join('\n');
}

export function rememberedText(answer: {
  readonly name: string;
  readonly wasForgotten: boolean;
}): string {
  const name = printable(answer.name);
  return answer.wasForgotten
    ? `Node '${name}' is used again, with the data that it has. Volumes that were deleted meanwhile still exist there.`
    : `Node '${name}' was not forgotten.`;
}
