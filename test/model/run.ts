/** Runs steps on a driver and on the model, and compares every answer, and the state after each step. */
import { mkdir, readdir } from 'node:fs/promises';
import { VolumeError } from '../../src/errors.ts';
import { snapshotIdFor, volumeIdFor } from '../../src/ids.ts';
import { trimDueVolumes } from '../../src/volumes/jobs/periodic-trim.ts';
import { call, capability, plainSettings, volumeInput } from '../helpers/scratch-node.ts';
import { until } from '../helpers/until.ts';
import {
  compare,
  compareContents,
  idOf,
  recordLostDevices,
  stagingOf,
  targetOf,
  viewsOf,
} from './comparison.ts';
import {
  type Answer,
  apply,
  bytesOf,
  copyOf,
  emptyState,
  hasOtherSoftware,
  type ModelOptions,
  moveClock,
  refusalOf,
  replaceState,
  trimDueVolumes as trimDueInModel,
  usesLostDevice,
} from './model.ts';
import { OtherSoftwareSteps } from './other-software-steps.ts';
import { SecondDriver } from './second-driver.ts';
import type { CallStep, Kind, Step, VolumeName } from './steps.ts';
import { snapshotNames, targetNames, volumeNames } from './steps.ts';
import type { Subject } from './subject.ts';

/** Far longer than any step takes, even if every step is a real mount. */
const stepBoundMs = 30_000;

const nodeTag = (subject: Subject): string => subject.opened().domain.settings.nodeTag;

/** Runs the steps until one fails. Returns the failure as text. */
export async function runSteps(
  subject: Subject,
  steps: readonly Step[],
  options: ModelOptions,
): Promise<string | undefined> {
  const state = emptyState();
  const context = {
    state,
    kinds: new Map(),
    options,
    otherSoftware: new OtherSoftwareSteps(subject),
    secondDriver: new SecondDriver(subject),
    hasFailedTwice: false,
    made: 0,
  };
  for (const v of volumeNames) await mkdir(stagingOf(subject, v), { recursive: true });
  try {
    for (const [index, step] of steps.entries()) {
      const wrong = await withTimeLimit(() => oneStep(subject, step, context));
      if (wrong !== undefined) return `step ${index} ${JSON.stringify(step)}: ${wrong}`;
    }
    return await withTimeLimit(() => endOf(subject, context));
  } finally {
    await context.otherSoftware.end(state);
    await context.secondDriver.end();
  }
}

async function oneStep(
  subject: Subject,
  step: Step,
  context: Context,
): Promise<string | undefined> {
  const { state, otherSoftware, secondDriver } = context;
  const wrong = await new StepRun(subject, context).step(step);
  if (wrong !== undefined) return wrong;
  await recordLostDevices(subject, state);
  const differs =
    (await compare(subject, state)) ??
    (await otherSoftware.missing()) ??
    (await secondDriver.missing());
  if (differs !== undefined) return differs;
  if (!(await markStaged(subject, context))) return undefined;
  return compareContents(subject, state);
}

/** Writes a unique mark to each newly staged volume; earlier volumes of that name had other marks. Returns whether it wrote any. */
async function markStaged(subject: Subject, context: Context): Promise<boolean> {
  const before = context.made;
  for (const [v, volume] of context.state.volumes) {
    const { staged, mark } = volume;
    if (staged === undefined || staged.isLost === true || mark.startsWith(`${v} `)) continue;
    const [view] = viewsOf(subject, v, volume);
    if (view === undefined) continue;
    context.made += 1;
    volume.mark = `${v} ${context.made}`;
    await subject.marks.write(view.path, view.shows, volume.mark);
  }
  return context.made > before;
}

/** Turns a step that hangs into a failure; otherwise the check would treat it as the end of its time limit. */
async function withTimeLimit(work: () => Promise<string | undefined>): Promise<string | undefined> {
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
  /** The kind of the last volume of each name, which a caller knows. */
  readonly kinds: Map<VolumeName, Kind>;
  readonly options: ModelOptions;
  readonly otherSoftware: OtherSoftwareSteps;
  readonly secondDriver: SecondDriver;
  /** Whether a failure may have hit the cleanup after another one, which the next start then does. */
  hasFailedTwice: boolean;
  /** Number of marks written so far. */
  made: number;
}

class StepRun {
  readonly #subject: Subject;
  readonly #context: Context;
  /** Message of the last call that failed. */
  #message = '';

  constructor(subject: Subject, context: Context) {
    this.#subject = subject;
    this.#context = context;
  }

  async step(step: Step): Promise<string | undefined> {
    const { state } = this.#context;
    if (callsOf(step).some((one) => usesLostDevice(state, one))) return undefined;
    switch (step.do) {
      case 'restart':
        await this.#restart();
        return undefined;
      case 'secondDriver':
        await this.#context.secondDriver.toggle();
        return undefined;
      case 'setClock':
        moveClock(state, step.hours);
        this.#subject.setClock(state.nowMs);
        return undefined;
      case 'trimDueVolumes':
        trimDueInModel(state);
        await trimDueVolumes(this.#subject.opened().domain);
        return undefined;
      case 'failing':
        return this.#failing(step);
      case 'nthFails':
        return this.#nthFails(step);
      case 'killing':
        return this.#killing(step.call, step.at);
      case 'outliving':
        return this.#outliving(step);
      case 'hanging':
        return this.#hanging(step);
      case 'concurrent':
        return this.#concurrent(step.first, step.second);
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
      case 'open':
      case 'openFile':
      case 'mountElsewhere':
      case 'clear':
      case 'attachAgain':
      case 'takeNumber':
      case 'stopUse':
        await this.#context.otherSoftware.step(step, this.#context.state);
        return undefined;
    }
  }

  async #plain(step: CallStep): Promise<string | undefined> {
    const { state, options } = this.#context;
    const refusal = refusalOf(state, step);
    const before = copyOf(state);
    const expected = apply(state, step, options);
    const answer = await this.#call(step);
    if (answer === expected) return undefined;
    const refused = refusal?.answers.find((one) => one === answer);
    if (refused === undefined) {
      return `answered ${answer}, must answer ${expected}${answer === 'ok' ? '' : `: ${this.#message}`}`;
    }
    refusal?.after(before, refused);
    replaceState(state, before);
    return undefined;
  }

  /** A failed call may have had its effect or not; the repeated call answers as if nothing had failed. */
  async #failing(asked: Step & { do: 'failing' }): Promise<string | undefined> {
    const { call: step, failure, giveUp } = asked;
    this.#subject.failNext(failure);
    const answer = await this.#call(step);
    this.#subject.clearFailures();
    if (answer.startsWith('?')) return `failed without a reason: ${answer}`;
    const isGivenUp = giveUp && step.do === 'create' && answer !== 'ok';
    const next: CallStep = isGivenUp ? { do: 'delete', v: step.v } : step;
    const wrong = await this.#plain(next);
    if (isGivenUp) await this.#restart();
    return wrong === undefined ? undefined : `after ${answer} with ${failure.name}: ${wrong}`;
  }

  async #nthFails(asked: Step & { do: 'nthFails' }): Promise<string | undefined> {
    const { call: step, nth, errno, times } = asked;
    this.#subject.failNth(nth, errno, times);
    this.#context.hasFailedTwice ||= times > 1;
    const answer = await this.#call(step);
    this.#subject.clearFailures();
    if (answer.startsWith('?')) return `failed without a reason: ${answer}`;
    const wrong = await this.#plain(step);
    return wrong === undefined ? undefined : `after ${answer}: ${wrong}`;
  }

  async #restart(): Promise<void> {
    await this.#subject.restart();
    await recordLostDevices(this.#subject, this.#context.state);
  }

  async #killing(step: CallStep, at: number): Promise<string | undefined> {
    const killed = this.#subject.killAt(at);
    await Promise.race([this.#call(step), killed]);
    await this.#restart();
    const wrong = await this.#plain(step);
    return wrong === undefined ? undefined : `after the driver was killed: ${wrong}`;
  }

  /** While the program works on the image, the call is refused and names it; other volumes are not affected. */
  async #outliving({ call: step, ends }: Step & { do: 'outliving' }): Promise<string | undefined> {
    const next = this.#subject.outliveNext?.();
    const answered = this.#call(step).then(() => undefined);
    const program = await Promise.race([answered, ...(next === undefined ? [] : [next.began])]);
    next?.forget();
    if (program === undefined) return this.#plain(step);
    try {
      this.#subject.kill();
      await this.#restart();
      const answer = await this.#call(step);
      if (answer !== 'busy' || !this.#message.includes(`(process ${program.pid})`)) {
        return `beside a program answered ${answer} ${this.#message}, must answer busy and name it`;
      }
      const disturbed =
        (await this.#stagedAgain()) ?? (await compare(this.#subject, this.#context.state));
      if (disturbed !== undefined) return `beside a program: ${disturbed}`;
    } finally {
      await program.end(ends);
    }
    const wrong = await this.#plain(step);
    return wrong === undefined ? undefined : `after a program (${ends}): ${wrong}`;
  }

  async #hanging({ call: step, name }: Step & { do: 'hanging' }): Promise<string | undefined> {
    let release = (): void => undefined;
    const hung = new Promise<'hung'>((resolve) => {
      release = this.#subject.hangNext(name, () => {
        resolve('hung');
      });
    });
    const caller = new AbortController();
    const answered = this.#call(step, caller.signal);
    try {
      if ((await Promise.race([answered, hung])) === 'hung') {
        caller.abort();
        const answer = await answered;
        if (answer !== 'cancelled') return `a call cancelled during ${name} answered ${answer}`;
        const disturbed = await this.#stagedAgain(volumesOf(step));
        if (disturbed !== undefined) return `while ${name} hangs: ${disturbed}`;
      }
    } finally {
      release();
      this.#subject.clearFailures();
    }
    const { operations } = this.#subject.opened().domain;
    await until('the call has ended', () => operations.runningCount === 0, stepBoundMs);
    const wrong = await this.#plain(step);
    return wrong === undefined ? undefined : `after ${name} has hung: ${wrong}`;
  }

  /** Stages every staged volume once more, which must change nothing. */
  async #stagedAgain(except: readonly string[] = []): Promise<string | undefined> {
    const { state } = this.#context;
    for (const [v, { staged }] of state.volumes) {
      if (staged === undefined || staged.isLost === true || except.includes(v)) continue;
      const wrong = await this.#plain({ do: 'stage', v, noatime: staged.noatime });
      if (wrong !== undefined) return `stage ${v}: ${wrong}`;
    }
    return undefined;
  }

  /** Two concurrent calls have the same result as one after the other, in either order, or one is refused for now. */
  async #concurrent(first: CallStep, second: CallStep): Promise<string | undefined> {
    const { state, options } = this.#context;
    if (hasOtherSoftware(state)) return (await this.#plain(first)) ?? this.#plain(second);
    const answers = await Promise.all([this.#call(first), this.#call(second)]);
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
      // Both are refused only if a delete cancels a create; the delete is then repeated too.
      const isNeither = isPutOff(0) && isPutOff(1) && !answers.includes('cancelled');
      if (!fits || isNeither) continue;
      if ((await compare(this.#subject, tried)) !== undefined) continue;
      replaceState(state, tried);
      for (const [name, { kind }] of state.volumes) this.#context.kinds.set(name, kind);
      return this.#repeatPutOff(calls.filter((_step, index) => isPutOff(index)));
    }
    return `answered ${answers.join(' and ')}, which is correct in neither order`;
  }

  async #repeatPutOff(busy: readonly CallStep[]): Promise<string | undefined> {
    for (const step of busy) {
      const wrong = await this.#plain(step);
      if (wrong !== undefined) return `again after busy: ${wrong}`;
    }
    return undefined;
  }

  async #call(step: CallStep, signal?: AbortSignal): Promise<Answer | `?${string}`> {
    try {
      const asked = { ...call(), ...(signal === undefined ? {} : { signal }) };
      await makeCall(this.#subject, step, { kinds: this.#context.kinds, asked });
      return 'ok';
    } catch (error) {
      this.#message = String(error);
      return error instanceof VolumeError ? error.reason : `?${String(error)}`;
    }
  }
}

/** The calls that a step makes. */
function callsOf(step: Step): readonly CallStep[] {
  switch (step.do) {
    case 'failing':
    case 'nthFails':
    case 'killing':
    case 'outliving':
    case 'hanging':
      return [step.call];
    case 'concurrent':
      return [step.first, step.second];
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
      return [step];
    case 'open':
    case 'openFile':
    case 'mountElsewhere':
    case 'clear':
    case 'attachAgain':
    case 'takeNumber':
    case 'stopUse':
    case 'restart':
    case 'secondDriver':
    case 'setClock':
    case 'trimDueVolumes':
      return [];
  }
}

/** Volumes and snapshots whose locks the call may take. */
function volumesOf(step: CallStep): readonly string[] {
  return [...('v' in step ? [step.v] : []), ...('from' in step ? [step.from ?? ''] : [])];
}

async function makeCall(
  subject: Subject,
  step: CallStep,
  { kinds, asked }: { kinds: Map<VolumeName, Kind>; asked: ReturnType<typeof call> },
): Promise<void> {
  const { volumes } = subject.opened();
  const tag = nodeTag(subject);
  if (step.do === 'snapshot') {
    const settings = { freeze: false };
    const sourceVolumeId = idOf(subject, step.v);
    await volumes.createSnapshot(asked, {
      name: subject.nameOf(step.s),
      sourceVolumeId,
      settings,
      parameters: {},
    });
    return;
  }
  if (step.do === 'deleteSnapshot') {
    await volumes.deleteSnapshot(asked, snapshotIdFor(subject.nameOf(step.s), tag));
    return;
  }
  const volumeId = idOf(subject, step.v);
  const kind = kinds.get(step.v) ?? 'ext4';
  const stagingTargetPath = stagingOf(subject, step.v);
  const mode = { accessMode: 'SINGLE_NODE_MULTI_WRITER' as const };
  const wanted = kind === 'block' ? capability({ ...mode, kind }) : capability(mode);
  switch (step.do) {
    case 'create':
      await createVolume(subject, step, { kinds, asked });
      return;
    case 'delete':
      await volumes.deleteVolume(asked, volumeId);
      return;
    case 'stage': {
      const mountFlags = step.noatime ? ['noatime'] : [];
      const capability_ = { ...wanted, mountFlags };
      await volumes.stageVolume(asked, { volumeId, stagingTargetPath, capability: capability_ });
      return;
    }
    case 'unstage':
      await volumes.unstageVolume(asked, { volumeId, stagingTargetPath });
      return;
    case 'publish':
      await volumes.publishVolume(asked, {
        volumeId,
        stagingTargetPath,
        targetPath: targetOf(subject, step.target),
        capability: wanted,
        readOnly: step.readOnly,
      });
      return;
    case 'unpublish':
      await volumes.unpublishVolume(asked, {
        volumeId,
        targetPath: targetOf(subject, step.target),
      });
      return;
    case 'expand':
    case 'nodeExpand': {
      const range = { requiredBytes: bytesOf(kind, step.size), limitBytes: 0n };
      const input = { volumeId, range };
      if (step.do === 'expand') await volumes.expandVolume(asked, input);
      else await volumes.nodeExpandVolume(asked, { ...input, volumePath: stagingTargetPath });
      return;
    }
  }
}

async function createVolume(
  subject: Subject,
  step: CallStep & { do: 'create' },
  { kinds, asked }: { kinds: Map<VolumeName, Kind>; asked: ReturnType<typeof call> },
): Promise<void> {
  const tag = nodeTag(subject);
  const { from } = step;
  const isSnapshot = snapshotNames.some((name) => name === from);
  const source =
    from === undefined
      ? null
      : isSnapshot
        ? ({ kind: 'snapshot', id: snapshotIdFor(subject.nameOf(from), tag) } as const)
        : ({ kind: 'volume', id: volumeIdFor(subject.nameOf(from), tag) } as const);
  const sizeBytes = bytesOf(step.kind, step.size);
  const shape =
    step.kind === 'block' ? ({ kind: 'block' } as const) : ({ fsType: step.kind } as const);
  const { pools } = subject.opened().domain;
  const isNew = pools.findVolume(idOf(subject, step.v)) === undefined;
  const input = volumeInput(subject.nameOf(step.v), {
    ...shape,
    sizeBytes,
    source,
    settings: plainSettings,
  });
  if (isNew) kinds.set(step.v, step.kind);
  await subject.opened().volumes.createVolume(asked, input);
}

/** Unpublishes, unstages and deletes everything, and checks that nothing is left. */
async function endOf(subject: Subject, context: Context): Promise<string | undefined> {
  const run = new StepRun(subject, context);
  await context.otherSoftware.end(context.state);
  await recordLostDevices(subject, context.state);
  for (const v of volumeNames) {
    for (const target of targetNames) {
      if (context.state.volumes.get(v)?.targets.has(target) !== true) continue;
      const wrong = await run.step({ do: 'unpublish', v, target });
      if (wrong !== undefined) return `at the end: ${wrong}`;
    }
    for (const what of ['unstage', 'delete'] as const) {
      const wrong = await run.step({ do: what, v });
      if (wrong !== undefined) return `at the end: ${what} ${v}: ${wrong}`;
    }
  }
  for (const s of snapshotNames) await run.step({ do: 'deleteSnapshot', s });
  if (context.hasFailedTwice) await subject.restart();
  const { domain } = subject.opened();
  await domain.trash.whenIdle();
  // A failure may have hit background work, which the next check of the pool retries.
  for (const pool of domain.pools.all) domain.trash.retryFailed(pool);
  await domain.trash.whenIdle();
  const left: string[] = [];
  for (const pool of domain.pools.all) {
    for (const area of ['volumes', 'snapshots', 'tmp', 'trash'] as const) {
      for (const entry of await readdir(pool.directoryOf(area))) left.push(`${area}/${entry}`);
    }
  }
  for (const name of await readdir(subject.directory)) {
    if (name.startsWith('target-')) left.push(name);
  }
  left.push(...subject.frozen().map((number) => `frozen loop${number}`));
  if (domain.operations.locks.size > 0) left.push(`${domain.operations.locks.size} locks`);
  return left.length === 0 ? undefined : `left over: ${left.join(', ')}`;
}
