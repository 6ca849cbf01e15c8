import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { VolumeError } from '../../../../src/errors.ts';
import { volumeIdFor } from '../../../../src/ids.ts';
import { MiB } from '../../../../src/units.ts';
import { type OpenedVolumes, openVolumes } from '../../../../src/volumes/open.ts';
import { poolDefaults } from '../../../../src/volumes/pool/settings.ts';
import { FakeHost } from '../../../helpers/fake-host.ts';
import { fakeSettings, silent } from '../../../helpers/fake-node.ts';
import { call, plainSettings, volumeInput } from '../../../helpers/scratch-node.ts';
import { checkOptions, failureOf } from '../../../model/check.ts';

/** Pools become unavailable and available, volumes are created again meanwhile, and a later version of the driver writes records. */

const pools = ['one', 'two'] as const;
type PoolName = (typeof pools)[number];
type VolumeName = 'v' | 'w';

type Step =
  | { readonly do: 'create'; readonly v: VolumeName; readonly pool: PoolName }
  | { readonly do: 'delete'; readonly v: VolumeName }
  /** The driver starts without the pool's directory, or with it again. */
  | { readonly do: 'take' | 'bring'; readonly pool: PoolName }
  /** A later version of the driver has written the record. */
  | { readonly do: 'newer'; readonly v: VolumeName; readonly pool: PoolName }
  | { readonly do: 'restart' };

const v = fc.constantFrom<VolumeName>('v', 'v', 'v', 'w');
const pool = fc.constantFrom(...pools);
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('create' as const), v, pool }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('delete' as const), v }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('take', 'bring'), pool }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('newer' as const), v, pool }) },
    { weight: 1, arbitrary: fc.constant({ do: 'restart' as const }) },
  ),
  { maxLength: 20, size: 'max' },
);

const { parameters, timeoutMs } = checkOptions<[readonly Step[]]>({ runs: 60, limitMs: 30_000 });

class Machine {
  readonly #directory: string;
  readonly #host = new FakeHost();
  readonly #away = new Set<PoolName>();
  #opened: OpenedVolumes | undefined;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async open(): Promise<void> {
    this.#opened = await openVolumes({
      host: this.#host,
      log: silent,
      stateDir: join(this.#directory, 'state'),
      settings: fakeSettings,
      kubeletDir: undefined,
      pools: pools.map((name) => ({
        ...poolDefaults,
        name,
        path: this.#pathOf(name),
        create: true,
        force: true,
      })),
    });
  }

  async close(): Promise<void> {
    await this.#opened?.close(100);
    this.#opened = undefined;
  }

  /** Describes the errors after the step. */
  async step(step: Step): Promise<string | undefined> {
    const before = await this.#copies();
    const used = 'v' in step ? this.#usedPool(step.v) : undefined;
    const answer = await this.#do(step);
    const after = await this.#copies();
    const gone = [...before].filter((copy) => !after.has(copy));
    if (step.do !== 'delete') {
      return gone.length === 0 ? undefined : `${gone.join(', ')} was removed without a delete`;
    }
    // A delete removes only the entry in use. After its success no entry of that id is found.
    const allowed = answer === 'ok' && used !== undefined ? [`${used}/${step.v}`] : [];
    if (gone.some((copy) => !allowed.includes(copy))) {
      return `${gone.join(', ')} is gone, in use was ${used ?? 'none'}; the delete answered ${answer}`;
    }
    if (allowed.length > 0 && gone.length === 0) return `${step.v} is still there after its delete`;
    const isElsewhere = pools.some((one) => after.has(`${one}/${step.v}`));
    const isSettled = answer === 'ok' && used === undefined && this.#away.size === 0;
    if (isSettled && isElsewhere) return `a delete of ${step.v}, which is set aside, answered ok`;
    return answer.startsWith('?') ? `failed without a reason: ${answer}` : undefined;
  }

  async #do(step: Step): Promise<string> {
    const { volumes } = this.#opened ?? {};
    switch (step.do) {
      case 'create': {
        const settings = { ...plainSettings, pool: step.pool };
        const input = volumeInput(step.v, { settings, sizeBytes: MiB, kind: 'block' });
        return answerOf(volumes?.createVolume(call(), input));
      }
      case 'delete':
        return answerOf(volumes?.deleteVolume(call(), idOf(step.v)));
      case 'take':
        return this.#whileClosed(!this.#away.has(step.pool), async () => {
          await rename(this.#pathOf(step.pool), this.#pathOf(`${step.pool}.away`));
          this.#away.add(step.pool);
        });
      case 'bring':
        return this.#whileClosed(this.#away.has(step.pool), async () => {
          await rename(this.#pathOf(`${step.pool}.away`), this.#pathOf(step.pool));
          this.#away.delete(step.pool);
        });
      case 'newer':
        return this.#whileClosed(!this.#away.has(step.pool), async () => {
          const record = join(this.#pathOf(step.pool), 'volumes', idOf(step.v), 'volume.json');
          const text = await readFile(record, 'utf8').catch(() => undefined);
          if (text === undefined) return;
          await writeFile(record, text.replace(/"schemaVersion": *\d+/, '"schemaVersion":99'));
        });
      case 'restart':
        return this.#whileClosed(true, () => Promise.resolve());
    }
  }

  async #whileClosed(isPossible: boolean, work: () => Promise<void>): Promise<string> {
    if (!isPossible) return 'ok';
    await this.close();
    await work();
    await this.open();
    return 'ok';
  }

  /** All copies of a volume, in available and unavailable pools. */
  async #copies(): Promise<ReadonlySet<string>> {
    const copies = new Set<string>();
    for (const name of pools) {
      const path = this.#pathOf(this.#away.has(name) ? `${name}.away` : name);
      for (const entry of await readdir(join(path, 'volumes'))) {
        copies.add(`${name}/${entry.split('.')[0] ?? ''}`);
      }
    }
    return copies;
  }

  #usedPool(name: VolumeName): string | undefined {
    const { pools } = this.#opened?.domain ?? {};
    return pools?.served.find(({ volumes }) => volumes.get(idOf(name)) !== undefined)?.name;
  }

  #pathOf(name: string): string {
    return join(this.#directory, name);
  }
}

const idOf = (name: VolumeName) => volumeIdFor(name, fakeSettings.nodeTag);

async function answerOf(work: Promise<unknown> | undefined): Promise<string> {
  try {
    await work;
    return 'ok';
  } catch (error) {
    return error instanceof VolumeError ? error.reason : `?${String(error)}`;
  }
}

async function problemIn(sequence: readonly Step[]): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'loopcsi-pools-'));
  const machine = new Machine(directory);
  try {
    await machine.open();
    for (const [index, step] of sequence.entries()) {
      const wrong = await machine.step(step);
      if (wrong !== undefined) return `step ${index} ${JSON.stringify(step)}: ${wrong}`;
    }
    return undefined;
  } finally {
    await machine.close();
    await rm(directory, { recursive: true, force: true });
  }
}

test('only a delete removes a volume, and only the copy in use, whichever pools became unavailable meanwhile', async (t) => {
  t.timeout(timeoutMs);
  const problems: string[] = [];
  const result = await fc.check(
    fc.asyncProperty(steps, async (sequence) => {
      const problem = await problemIn(sequence);
      problems.push(...(problem === undefined ? [] : [problem]));
      return problem === undefined;
    }),
    parameters,
  );
  t.false(result.failed, failureOf(result, problems));
  t.true(result.numRuns > 0);
});

test('a repeated delete leaves the copy in a pool that is available again', async (t) => {
  const sequence: readonly Step[] = [
    { do: 'create', v: 'v', pool: 'two' },
    { do: 'take', pool: 'two' },
    { do: 'create', v: 'v', pool: 'one' },
    { do: 'bring', pool: 'two' },
    { do: 'delete', v: 'v' },
    { do: 'delete', v: 'v' },
  ];
  t.is(await problemIn(sequence), undefined);
});
