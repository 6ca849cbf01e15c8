import test from 'ava';
import { VolumeError } from '../../../src/errors.ts';
import type { Call } from '../../../src/volumes/engine/operations.ts';
import { codeOf, serveFake } from '../../helpers/csi-server.ts';
import { until } from '../../helpers/until.ts';

const id = { volume_id: 'v.0123abcd' };

/** The log line of an ended call. */
interface EndLine {
  readonly level: number;
  readonly msg: string;
  readonly rpc: string;
  readonly code: string;
  readonly volumeId?: string;
  readonly durationMs: number;
}

function endLines(lines: readonly string[]): readonly EndLine[] {
  return lines.map((line) => JSON.parse(line) as EndLine).filter(({ msg }) => msg === 'call ended');
}

test('the message of a VolumeError is sent, and the message of any other error is only logged', async (t) => {
  const { controller, lines, ended } = await serveFake(t, {
    volumes: {
      deleteVolume: async () => {
        throw new VolumeError('wrong-state', "volume 'v' is published; unpublish it first");
      },
      getVolume: async () => {
        throw new TypeError('secret inner workings');
      },
    },
  });
  const refused = await t.throwsAsync(controller.DeleteVolume(id));
  t.regex(
    refused?.message ?? '',
    /FAILED_PRECONDITION: volume 'v' is published; unpublish it first/,
  );
  const broken = await t.throwsAsync(controller.ControllerGetVolume(id));
  t.regex(broken?.message ?? '', /INTERNAL: internal error, see the log/);
  t.notRegex(broken?.message ?? '', /inner workings/);
  t.true(
    lines.some((line) => line.includes('secret inner workings') && line.includes('"level":50')),
  );
  t.deepEqual(
    ended.map(({ rpc, code }) => [rpc, code]),
    [
      ['DeleteVolume', 'FAILED_PRECONDITION'],
      ['ControllerGetVolume', 'INTERNAL'],
    ],
  );
});

test('a method that throws synchronously is answered, and the server keeps running', async (t) => {
  const { controller } = await serveFake(t, {
    volumes: {
      listVolumes: () => {
        throw new Error('thrown before any promise');
      },
    },
  });
  t.is(await codeOf(controller.ListVolumes({})), 'INTERNAL');
  t.is(await codeOf(controller.ControllerGetCapabilities({})), 'OK');
});

/** The fake of a call that lasts until its signal is aborted. */
function untilAborted() {
  const state = { hasBegun: false, isAborted: false };
  const deleteVolume = async ({ signal }: Call): Promise<never> =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        state.isAborted = true;
        reject(new VolumeError('cancelled', 'gave up'));
      });
      state.hasBegun = true;
    });
  return { state, volumes: { deleteVolume } };
}

test("a caller's cancellation aborts the signal of the call", async (t) => {
  const { state, volumes } = untilAborted();
  const { controller } = await serveFake(t, { volumes });
  const abort = new AbortController();
  const call = codeOf(controller.DeleteVolume(id, { signal: abort.signal }));
  await until('the call has begun', () => state.hasBegun, 20_000);
  abort.abort();
  t.is(await call, 'CANCELLED');
  await until('the signal is aborted', () => state.isAborted, 20_000);
  t.true(state.isAborted);
});

test('a deadline aborts the signal of the call', async (t) => {
  const { state, volumes } = untilAborted();
  const { controller } = await serveFake(t, { volumes });
  t.is(await codeOf(controller.DeleteVolume(id, { timeoutMs: 1_000 })), 'DEADLINE_EXCEEDED');
  // The time limit suffices to reach the driver on a busy machine. The next call is answered after the first has been cancelled.
  t.is(await codeOf(controller.ControllerGetCapabilities({})), 'OK');
  t.true(state.isAborted);
});

test('changing calls are logged at info and others below, each with id and duration', async (t) => {
  const { controller, identity, lines } = await serveFake(t);
  await controller.DeleteVolume(id);
  await controller.ControllerGetVolume(id);
  await identity.Probe({});
  const found = endLines(lines);
  t.deepEqual(
    found.map(({ rpc, level }) => [rpc, level]),
    [
      ['DeleteVolume', 30],
      ['ControllerGetVolume', 20],
      ['Probe', 10],
    ],
  );
  t.is(found[0]?.volumeId, 'v.0123abcd');
  t.is(typeof found[0]?.durationMs, 'number');
  t.is(new Set(found.map((line) => JSON.stringify(Reflect.get(line, 'callId')))).size, 3);
});

test('a call that fails with UNAVAILABLE is logged as a warning with its message, even if it only reads', async (t) => {
  const { controller, lines } = await serveFake(t, {
    volumes: {
      capacity: async () => {
        throw new VolumeError('unavailable', "pool 'a' is not mounted", {
          cause: new Error('EIO'),
        });
      },
    },
  });
  t.is(await codeOf(controller.GetCapacity({})), 'UNAVAILABLE');
  const failed = lines
    .map(
      (line) =>
        JSON.parse(line) as {
          msg: string;
          level: number;
          rpc: string;
          details: string;
          cause: string;
        },
    )
    .filter(({ msg }) => msg === 'call failed');
  t.like(failed, [
    { level: 40, rpc: 'GetCapacity', details: "pool 'a' is not mounted", cause: 'EIO' },
  ]);
  t.is(failed.length, 1);
});

test('no log line of any level contains a secret, whether a call succeeds or fails', async (t) => {
  const secrets = { password: 'hunter2-marked', 'hunter2-key': 'x' };
  const { controller, node, lines } = await serveFake(t, {
    volumes: {
      stageVolume: async () => {
        throw new Error('broken');
      },
    },
  });
  const capability = {
    access_mode: { mode: 'SINGLE_NODE_WRITER' },
    access_type: 'mount',
    mount: {},
  } as const;
  await controller.CreateVolume({ name: 'a', volume_capabilities: [capability], secrets });
  await controller.DeleteVolume({ ...id, secrets });
  await codeOf(controller.CreateVolume({ secrets }));
  await codeOf(controller.CreateSnapshot({ secrets }));
  await codeOf(
    node.NodeStageVolume({
      ...id,
      staging_target_path: '/a',
      volume_capability: capability,
      secrets,
    }),
  );
  const all = lines.join('');
  t.false(all.includes('hunter2'));
  // The payloads are logged, so the search is meaningful.
  t.true(all.includes('call started'));
  t.true(all.includes('"staging_target_path":"/a"'));
  t.true(all.includes('[redacted]'));
});

test('a long volume id is truncated in the log', async (t) => {
  const { controller, lines } = await serveFake(t);
  await codeOf(controller.DeleteVolume({ volume_id: 'v'.repeat(50_000) }));
  const [line] = endLines(lines);
  t.is(line?.volumeId?.length, 128);
});
