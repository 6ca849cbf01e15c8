/** The part of a group snapshot over several nodes that is on this one: taken step by step, together with the other nodes. */
import { VolumeError } from '../../errors.ts';
import { type GroupId, groupIdFor, memberIdFor, parseGroupId } from '../../ids.ts';
import type { Domain } from '../domain.ts';
import { withReason } from '../engine/failures.ts';
import { volumeLock } from '../engine/locks.ts';
import type { Call, Operation } from '../engine/operations.ts';
import type { GroupPart } from '../jobs/group-parts.ts';
import type { GroupPartInput, GroupPartStart } from '../model.ts';
import { findUndecided } from '../pool/set-aside.ts';
import { type BarrierStep, plannedFreezeMs } from './capture.ts';
import { commitGroup, findSameGroup, liveVolumeIds, requireValidMembers } from './group-create.ts';
import {
  captureMembers,
  completeMembers,
  type GroupDraft,
  type NewMember,
  placeMembers,
  planMembers,
  withRoomFor,
} from './group-members.ts';

/** Time for the other nodes to plan, and then to flush. Nothing is frozen meanwhile. */
const planningMs = 30_000;
/** Time for the other nodes to complete their members, after all have thawed. */
const completingMs = 60_000;

interface PartDraft extends GroupDraft {
  readonly input: GroupPartInput;
}

/**
 * Takes the part of this node. The first and only message says what was planned, or that the group exists; then the controller lets the
 * part advance (`GroupParts.get`). The call is the lease of the freeze: when its caller is gone, everything is thawed and nothing is kept
 * that was not prepared or committed. Throws as CreateGroupSnapshot does.
 */
export async function* takeGroupPart(
  domain: Domain,
  call: Call,
  input: GroupPartInput,
): AsyncGenerator<GroupPartStart> {
  const id = requireGroupId(domain, input);
  requireValidMembers(input);
  const { nodeTag } = domain.settings;
  const subject = `group snapshot '${input.name}'`;
  const members = input.sourceVolumeIds.map((one) => memberIdFor(input.name, one, nodeTag));
  const plan = {
    name: 'TakeGroupPart',
    lane: { kind: 'group', id },
    exclusive: [`group:${id}`, ...members.map((one) => `snapshot:${one}`)],
    shared: input.sourceVolumeIds.map(volumeLock),
  } as const;
  let work: Promise<void> | undefined;
  const started = new Promise<GroupPartStart>((resolve, reject) => {
    work = domain.operations.run(domain, call, plan, async (domain, operation) => {
      const existing = await findExisting(domain, id, input);
      if (existing !== undefined) {
        resolve(existing);
        return;
      }
      const lease = AbortSignal.any([call.signal, operation.signal]);
      const part = domain.groupParts.begin(input.attempt, subject, lease);
      try {
        await withReason(domain, { subject, disk: undefined }, (domain) =>
          takePart(domain, operation, { id, input, subject }, { part, start: resolve }),
        );
        domain.groupParts.end(input.attempt, undefined);
      } catch (error) {
        domain.groupParts.end(input.attempt, error);
        throw error;
      }
    });
    work.catch(reject);
  });
  yield await started;
  await work;
}

function requireGroupId({ settings }: Domain, input: GroupPartInput): GroupId {
  const id = parseGroupId(input.groupId);
  if (id === undefined) throw new VolumeError('invalid', `'${input.groupId}' is not a group's id`);
  if (input.groupVolumeIds !== undefined && id !== groupIdFor(input.name, settings.nodeTag))
    throw new VolumeError('invalid', `the record of group '${id}' does not belong on this node`);
  return id;
}

/** The group, on the node that keeps its record. */
async function findExisting(
  domain: Domain,
  id: GroupId,
  { name, groupVolumeIds }: GroupPartInput,
): Promise<GroupPartStart | undefined> {
  if (groupVolumeIds === undefined) return undefined;
  const record = await findSameGroup(domain, id, { name, sourceVolumeIds: groupVolumeIds });
  return record === undefined ? undefined : { kind: 'existing', record };
}

async function takePart(
  domain: Domain,
  operation: Operation,
  draft: PartDraft,
  { part, start }: { part: GroupPart; start: (planned: GroupPartStart) => void },
): Promise<void> {
  const { subject } = draft;
  const freezeLimitMs = domain.settings.groupFreezeLimitMs;
  const members = await planMembers(domain, draft);
  requireShortFreeze(members, { freezeLimitMs, subject });
  operation.beginEffects();
  await withRoomFor(domain, { members, subject }, async (reserved) => {
    const before = async (kind: BarrierStep): Promise<void> => {
      if (kind === 'flush') start({ kind: 'planned', liveVolumeIds: liveVolumeIds(members) });
      const isFrozen = kind === 'cut' || kind === 'thaw';
      await part.next(kind, { timeoutMs: isFrozen ? freezeLimitMs : planningMs });
    };
    const options = { subject, signal: operation.signal, barrier: { before, freezeLimitMs } };
    const taken = await captureMembers(domain, { members, reserved }, options);
    const { frozenMs } = taken;
    const waiting = { timeoutMs: completingMs, done: { frozenMs } };
    if (draft.input.groupVolumeIds === undefined) {
      const { createdAtMs: atMs } = await part.next('prepare', waiting);
      await prepare(domain, draft, { part, members, taken: { frozenMs, atMs } });
    } else {
      const step = await part.next('commit', waiting);
      const instant = { atMs: step.createdAtMs, frozenMs: step.frozenMs };
      const own = { atMs: step.createdAtMs, frozenMs };
      const built = await completeMembers(domain, draft, { members, taken: own });
      const others = {
        attempt: draft.input.attempt,
        elsewhere: step.elsewhere,
        volumeIds: draft.input.groupVolumeIds,
      };
      await commitGroup(domain, operation, { ...draft, ...instant, members: built, others });
      part.finish({ members: built.map(({ record }) => record) });
    }
  });
}

/** The members exist on the disk from then on, and are of no use until the controller settles the part. */
async function prepare(
  domain: Domain,
  draft: PartDraft,
  {
    part,
    members,
    taken,
  }: {
    readonly part: GroupPart;
    readonly members: readonly NewMember[];
    readonly taken: { readonly atMs: number; readonly frozenMs: number };
  },
): Promise<void> {
  const prepared = { attempt: draft.input.attempt };
  const built = await completeMembers(domain, draft, { members, taken, prepared });
  await placeMembers(domain, built);
  for (const { pool, record } of built) {
    const aside = findUndecided(record);
    if (aside !== undefined) pool.snapshots.setAside(record.id, aside);
  }
  await domain.reached('group:part-prepared');
  part.finish({ members: built.map(({ record }) => record) });
}

/** Nothing may be frozen for longer, whatever happens to the other nodes and the controller. */
function requireShortFreeze(
  members: readonly NewMember[],
  { freezeLimitMs, subject }: { readonly freezeLimitMs: number; readonly subject: string },
): void {
  const plannedMs = plannedFreezeMs(members.map(({ capture }) => capture));
  if (plannedMs <= freezeLimitMs) return;
  throw new VolumeError(
    'wrong-state',
    `${subject}: its volumes on this node would be frozen for up to ${Math.ceil(plannedMs / 1000)} s, and a group over several nodes may be for ${freezeLimitMs / 1000} s, because of their extents, or because they must be copied; stop their users first, or select volumes of one node`,
  );
}
