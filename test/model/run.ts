/** Runs steps on a driver and on the model side by side, and compares every answer and what stands after each step. */
import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { VolumeError } from '../../src/errors.ts';
import { CommandError, KernelError } from '../../src/host/errors.ts';
import type { Host } from '../../src/host/host.ts';
import { snapshotIdFor, volumeIdFor } from '../../src/volumes/ids.ts';
import type { OpenedVolumes } from '../../src/volumes/open.ts';
import { call, capability, plainSettings, volumeInput } from '../helpers/scratch-node.ts';
import { type Answer, apply, bytesOf, copyOf, emptyState, type ModelOptions } from './model.ts';
import type { CallStep, Failure, Kind, Step, VolumeName } from './steps.ts';
import { snapshotNames, targetNames, volumeNames } from './steps.ts';

/** A driver that can be made to fail, to die and to start again. */
export interface Subject {
  readonly directory: string;
  readonly host: Host;
  readonly opened: () => OpenedVolumes;
  /** The next call of the host with that name fails; answers how to take that back. */
  readonly failNext: (failure: Failure) => void;
  readonly clearFailures: () => void;
  /** The driver stops for ever at its n-th step from now on, as a killed one does; answers when that has happened. */
  readonly dieAt: (nth: number) => Promise<void>;
  /** Starts a new driver on what the old one left. */
  readonly restart: () => Promise<void>;
}

/** Far above what any takes, also where every step is a real mount. */
const stepBoundMs = 30_000;

const nodeTag = (subject: Subject): string => subject.opened().domain.settings.nodeTag;
const stagingOf = (subject: Subject, v: VolumeName): string =>
  join(subject.directory, `staging-${v}`);
const targetOf = (subject: Subject, target: string): string =>
  join(subject.directory, `target-${target}`);

/** Steps until one of them goes wrong; what went wrong, in words. */
export async function runSteps(
  subject: Subject,
  steps: readonly Step[],
  options: ModelOptions,
): Promise<string | undefined> {
  const kinds = new Map<VolumeName, Kind>();
  const state = emptyState();
  for (const v of volumeNames) await mkdir(stagingOf(subject, v), { recursive: true });
  for (const [index, step] of steps.entries()) {
    const run = new StepRun(subject, { state, kinds, options });
    const wrong = await inTime(
      async () => (await run.step(step)) ?? (await compare(subject, state)),
    );
    if (wrong !== undefined) return `step ${index} ${JSON.stringify(step)}: ${wrong}`;
  }
  return inTime(() => endOf(subject, { state, kinds, options }));
}

/** A step that hangs has gone wrong: to a run of many it would look like time that is over. */
async function inTime(work: () => Promise<string | undefined>): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, stepBoundMs, `does not end within ${stepBoundMs / 1000} s`);
  });
  try {
    return await Promise.race([work(), over]);
  } finally {
    clearTimeout(timer);
  }
}

interface Context {
  readonly state: ReturnType<typeof emptyState>;
  /** The kind that each volume name was last made as: a caller knows it. */
  readonly kinds: Map<VolumeName, Kind>;
  readonly options: ModelOptions;
}

class StepRun {
  readonly #subject: Subject;
  readonly #context: Context;

  constructor(subject: Subject, context: Context) {
    this.#subject = subject;
    this.#context = context;
  }

  async step(step: Step): Promise<string | undefined> {
    switch (step.do) {
      case 'restart':
        await this.#subject.restart();
        return undefined;
      case 'failing':
        return this.#failing(step);
      case 'dying':
        return this.#dying(step.call, step.at);
      case 'both':
        return this.#both(step.first, step.second);
      case 'create':
      case 'delete':
      case 'stage':
      case 'unstage':
      case 'publish':
      case 'unpublish':
      case 'expand':
      case 'nodeExpand':
      case 'snapshot':
      case 'deleteSnapshot':
        return this.#plain(step);
    }
  }

  async #plain(step: CallStep): Promise<string | undefined> {
    const { state, options } = this.#context;
    const expected = apply(state, step, options);
    const answer = await this.#call(step);
    return answer === expected ? undefined : `answered ${answer}, must answer ${expected}`;
  }

  /** A failed call has happened or not; its repeat, undisturbed, answers as if nothing had been. */
  async #failing(asked: Step & { do: 'failing' }): Promise<string | undefined> {
    const { call: step, failure, giveUp } = asked;
    this.#subject.failNext(failure);
    const answer = await this.#call(step);
    this.#subject.clearFailures();
    if (answer.startsWith('?')) return `failed without a reason: ${answer}`;
    const isGivenUp = giveUp && step.do === 'create' && answer !== 'ok';
    const next: CallStep = isGivenUp ? { do: 'delete', v: step.v } : step;
    const wrong = await this.#plain(next);
    if (isGivenUp) await this.#subject.restart();
    return wrong === undefined ? undefined : `after ${answer} with ${failure.name}: ${wrong}`;
  }

  async #dying(step: CallStep, at: number): Promise<string | undefined> {
    const died = this.#subject.dieAt(at);
    await Promise.race([this.#call(step), died]);
    await this.#subject.restart();
    const wrong = await this.#plain(step);
    return wrong === undefined ? undefined : `after its death: ${wrong}`;
  }

  /** Two at once are as one after the other, in either order, or one is told to come again. */
  async #both(first: CallStep, second: CallStep): Promise<string | undefined> {
    const answers = await Promise.all([this.#call(first), this.#call(second)]);
    const { state, options } = this.#context;
    const orders = [
      [0, 1],
      [1, 0],
    ] as const;
    const calls = [first, second] as const;
    const isPutOff = (index: number): boolean => {
      const other = calls[1 - index];
      const isStopped = other?.do === 'delete' || other?.do === 'deleteSnapshot';
      return answers[index] === 'busy' || (answers[index] === 'cancelled' && isStopped);
    };
    for (const order of orders) {
      const tried = copyOf(state);
      const fits = order.every((index) => {
        if (isPutOff(index)) return true;
        return apply(tried, calls[index], options) === answers[index];
      });
      // Both are put off only where a delete stopped a create: it has done so, and comes again itself.
      const isNeither = isPutOff(0) && isPutOff(1) && !answers.includes('cancelled');
      if (!fits || isNeither) continue;
      if ((await compare(this.#subject, tried)) !== undefined) continue;
      replace(state, tried);
      for (const [name, { kind }] of state.volumes) this.#context.kinds.set(name, kind);
      return this.#again(calls.filter((_step, index) => isPutOff(index)));
    }
    return `answered ${answers.join(' and ')}, which no order of the two explains`;
  }

  async #again(busy: readonly CallStep[]): Promise<string | undefined> {
    for (const step of busy) {
      const wrong = await this.#plain(step);
      if (wrong !== undefined) return `again after busy: ${wrong}`;
    }
    return undefined;
  }

  async #call(step: CallStep): Promise<Answer | `?${string}`> {
    try {
      await makeCall(this.#subject, step, this.#context.kinds);
      return 'ok';
    } catch (error) {
      return error instanceof VolumeError ? error.reason : `?${String(error)}`;
    }
  }
}

function replace(state: Context['state'], by: Context['state']): void {
  state.volumes.clear();
  state.snapshots.clear();
  for (const [name, volume] of by.volumes) state.volumes.set(name, volume);
  for (const [name, one] of by.snapshots) state.snapshots.set(name, one);
}

/** The error that a failing host call throws. */
export function errorOf({ name, errno }: Failure): Error {
  if (errno === 'program')
    return new CommandError(name, { message: `${name} ended with 1`, exitCode: 1 });
  return new KernelError(name, errno, 'a test');
}

async function makeCall(
  subject: Subject,
  step: CallStep,
  kinds: Map<VolumeName, Kind>,
): Promise<void> {
  const { volumes } = subject.opened();
  const tag = nodeTag(subject);
  if (step.do === 'snapshot') {
    const settings = { freeze: false };
    const sourceVolumeId = volumeIdFor(step.v, tag);
    await volumes.createSnapshot(call(), {
      name: step.s,
      sourceVolumeId,
      settings,
      parameters: {},
    });
    return;
  }
  if (step.do === 'deleteSnapshot') {
    await volumes.deleteSnapshot(call(), snapshotIdFor(step.s, tag));
    return;
  }
  const volumeId = volumeIdFor(step.v, tag);
  const kind = kinds.get(step.v) ?? 'ext4';
  const stagingTargetPath = stagingOf(subject, step.v);
  const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' as const };
  const asked = kind === 'block' ? capability({ ...mode, kind }) : capability(mode);
  switch (step.do) {
    case 'create':
      await createVolume(subject, step, kinds);
      return;
    case 'delete':
      await volumes.deleteVolume(call(), volumeId);
      return;
    case 'stage': {
      const mountFlags = step.noatime ? ['noatime'] : [];
      const capability_ = { ...asked, mountFlags };
      await volumes.stageVolume(call(), { volumeId, stagingTargetPath, capability: capability_ });
      return;
    }
    case 'unstage':
      await volumes.unstageVolume(call(), { volumeId, stagingTargetPath });
      return;
    case 'publish':
      await volumes.publishVolume(call(), {
        volumeId,
        stagingTargetPath,
        targetPath: targetOf(subject, step.target),
        capability: asked,
        readOnly: step.readOnly,
      });
      return;
    case 'unpublish':
      await volumes.unpublishVolume(call(), {
        volumeId,
        targetPath: targetOf(subject, step.target),
      });
      return;
    case 'expand':
    case 'nodeExpand': {
      const range = { requiredBytes: bytesOf(kind, step.size), limitBytes: 0n };
      const input = { volumeId, range };
      if (step.do === 'expand') await volumes.expandVolume(call(), input);
      else await volumes.nodeExpandVolume(call(), { ...input, volumePath: stagingTargetPath });
      return;
    }
  }
}

async function createVolume(
  subject: Subject,
  step: CallStep & { do: 'create' },
  kinds: Map<VolumeName, Kind>,
): Promise<void> {
  const tag = nodeTag(subject);
  const { from } = step;
  const isSnapshot = snapshotNames.some((name) => name === from);
  const source =
    from === undefined
      ? null
      : isSnapshot
        ? ({ kind: 'snapshot', id: snapshotIdFor(from, tag) } as const)
        : ({ kind: 'volume', id: volumeIdFor(from, tag) } as const);
  const sizeBytes = bytesOf(step.kind, step.size);
  const shape =
    step.kind === 'block' ? ({ kind: 'block' } as const) : ({ fsType: step.kind } as const);
  const { pools } = subject.opened().domain;
  const isNew = pools.findVolume(volumeIdFor(step.v, tag)) === undefined;
  const input = volumeInput(step.v, { ...shape, sizeBytes, source, settings: plainSettings });
  if (isNew) kinds.set(step.v, step.kind);
  await subject.opened().volumes.createVolume(call(), input);
}

/** What the node shows against what the model says: volumes, snapshots, devices, mounts. */
async function compare(subject: Subject, state: Context['state']): Promise<string | undefined> {
  const { volumes, domain } = subject.opened();
  const page = { maxEntries: 0, startingToken: '' };
  const listed = (await volumes.listVolumes(call(), page)).entries;
  const found = {
    volumes: listed.map(({ record }) => `${record.name} ${record.sizeBytes}`).sort(),
    snapshots: (await volumes.listSnapshots(call(), page)).entries
      .map(({ record }) => record.name)
      .sort(),
    mounts: (await subject.host.mounts.list())
      .map(({ target }) => target)
      .filter((target) => target.startsWith(`${subject.directory}/`) && !target.endsWith('/pool'))
      .sort(),
    devices: await devicesOf(subject),
  };
  const { nodeTag: tag } = domain.settings;
  const all = [...state.volumes];
  const expected = {
    volumes: all.map(([name, { size }]) => `${name} ${size}`).sort(),
    snapshots: [...state.snapshots.keys()].sort(),
    mounts: all
      .flatMap(([name, { kind, staged, targets }]) => [
        ...(staged === undefined
          ? []
          : [`${stagingOf(subject, name)}${kind === 'block' ? '/device' : ''}`]),
        ...[...targets.keys()].map((target) => targetOf(subject, target)),
      ])
      .sort(),
    devices: all
      .flatMap(([name, { kind, staged, targets }]) => {
        const second = kind === 'block' && [...targets.values()].some(({ readOnly }) => readOnly);
        return [
          ...(staged === undefined ? [] : [volumeIdFor(name, tag)]),
          ...(second ? [volumeIdFor(name, tag)] : []),
        ];
      })
      .sort(),
  };
  if (isDeepStrictEqual(found, expected)) return undefined;
  return `the node shows ${JSON.stringify(found)}, must show ${JSON.stringify(expected)}`;
}

/** The marks of the devices below this pool's images. */
async function devicesOf(subject: Subject): Promise<readonly string[]> {
  const { domain } = subject.opened();
  const marks: string[] = [];
  for (const pool of domain.pools.all) {
    for (const { id } of pool.volumes.values()) {
      const image = await subject.host.files.imageStatus(pool.pathOf('volumes', id, 'disk.img'));
      for (const { mark } of await subject.host.loops.findByImage(image)) {
        marks.push(mark.slice('loopcsi:'.length));
      }
    }
  }
  return marks.sort();
}

/** Everything is unpublished, unstaged and deleted, and nothing is left. */
async function endOf(subject: Subject, context: Context): Promise<string | undefined> {
  const run = new StepRun(subject, context);
  for (const v of volumeNames) {
    for (const target of targetNames) {
      if (context.state.volumes.get(v)?.targets.has(target) !== true) continue;
      const wrong = await run.step({ do: 'unpublish', v, target });
      if (wrong !== undefined) return `at the end: ${wrong}`;
    }
    for (const what of ['unstage', 'delete'] as const) {
      const wrong = await run.step({ do: what, v });
      if (wrong !== undefined) return `at the end: ${wrong}`;
    }
  }
  for (const s of snapshotNames) await run.step({ do: 'deleteSnapshot', s });
  const { domain } = subject.opened();
  await domain.trash.settled();
  const left: string[] = [];
  for (const pool of domain.pools.all) {
    for (const area of ['volumes', 'snapshots', 'tmp', 'trash'] as const) {
      for (const entry of await readdir(pool.pathOf(area))) left.push(`${area}/${entry}`);
    }
  }
  for (const name of await readdir(subject.directory)) {
    if (name.startsWith('target-')) left.push(name);
  }
  if (domain.operations.locks.size > 0) left.push(`${domain.operations.locks.size} locks`);
  return left.length === 0 ? undefined : `left over: ${left.join(', ')}`;
}
