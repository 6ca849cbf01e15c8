/** The calls of Docker's volume plugin API: decode → call the domain → map. Docker adds the call's name to errors itself. */
import { setTimeout as delay } from 'node:timers/promises';
import type * as v from 'valibot';
import { messageOf, VolumeError } from '../errors.ts';
import type { FsType } from '../host/host.ts';
import { formatBytes } from '../units.ts';
import type { Volumes } from '../volumes/api.ts';
import type { LocalVolumes } from '../volumes/docker/volumes.ts';
import type { Call } from '../volumes/engine/operations.ts';
import type { Volume } from '../volumes/model.ts';
import { parseOptions } from './options.ts';
import { create, decode, isEmpty, mount, named, nothing, Unanswerable } from './requests.ts';

/** What the plugin works with. */
export interface DockerFront {
  readonly volumes: Volumes;
  readonly local: LocalVolumes;
  readonly nodeId: string;
  readonly defaultFsType: FsType;
}

/** One call: its name for the log, whether it changes something, and its work on the raw body. */
export interface PluginCall {
  readonly name: string;
  readonly weight: 'change' | 'read';
  readonly answer: (front: DockerFront, call: Call, body: string) => Promise<unknown>;
}

/** Docker gives up after 60 s, 120 for Create and Mount. */
const patienceMs = 30_000;
const firstPauseMs = 20;
const longestPauseMs = 500;

/** By the path of the request. */
export const pluginCalls: Readonly<Record<string, PluginCall>> = {
  '/Plugin.Activate': read('Activate', nothing, async () => ({ Implements: ['VolumeDriver'] })),
  '/VolumeDriver.Capabilities': read('Capabilities', nothing, async () => ({
    Capabilities: { Scope: 'local' },
  })),
  '/VolumeDriver.Create': change('Create', create, async (front, call, { Name, Opts }) => {
    const { defaultFsType, local } = front;
    const findSource = (name: string) => local.findSource(name);
    await local.create(call, parseOptions(Name, Opts ?? {}, { defaultFsType, findSource }));
    return {};
  }),
  '/VolumeDriver.Get': read('Get', named, async (front, call, { Name }) => {
    const found = await findAnyhow(front, Name);
    if ('problem' in found) return { Volume: { Name, Mountpoint: '', Status: found } };
    const path = (await front.local.heldPaths()).get(found.record.id);
    const Status = await statusOf(front, found).catch((error: unknown) => {
      call.log.warn({ err: error }, 'a volume cannot be looked at');
      return { problem: messageOf(error) };
    });
    return { Volume: { ...summaryOf(Name, found, path), Status } };
  }),
  '/VolumeDriver.List': read('List', nothing, async (front, call) => {
    const page = await front.volumes.listVolumes(call, { maxEntries: 0, startingToken: '' });
    const paths = await front.local.heldPaths();
    const usable = page.entries.filter(({ record }) => record.kind === 'mount');
    return {
      Volumes: usable.map((one) => summaryOf(one.record.name, one, paths.get(one.record.id))),
    };
  }),
  '/VolumeDriver.Path': read('Path', named, async (front, _call, { Name }) => {
    const paths = await front.local.heldPaths();
    return { Mountpoint: paths.get(get(front, Name).record.id) ?? '' };
  }),
  '/VolumeDriver.Mount': change('Mount', mount, async (front, call, { Name, ID }) => {
    const volumeId = get(front, Name).record.id;
    return { Mountpoint: await front.local.hold(call, { volumeId, holder: ID }) };
  }),
  '/VolumeDriver.Unmount': change('Unmount', mount, async (front, call, { Name, ID }) => {
    const volume = front.local.findVolume(Name);
    // A volume that is gone holds no container back.
    if (volume === undefined) return {};
    await front.local.release(call, { volumeId: volume.record.id, holder: ID });
    return {};
  }),
  '/VolumeDriver.Remove': change('Remove', named, async (front, call, { Name }) => {
    const volume = front.local.findVolume(Name);
    if (volume === undefined) return {};
    requireMountable(Name, volume);
    await front.local.remove(call, volume.record.id);
    return {};
  }),
};

type Work<S extends v.GenericSchema> = (
  front: DockerFront,
  call: Call,
  request: v.InferOutput<S>,
) => Promise<unknown>;

function read<S extends v.GenericSchema>(name: string, schema: S, work: Work<S>): PluginCall {
  return {
    name,
    weight: 'read',
    answer: async (front, call, body) =>
      work(front, call, decodeNamed(call, { name, schema, body })),
  };
}

function change<S extends v.GenericSchema>(name: string, schema: S, work: Work<S>): PluginCall {
  return {
    name,
    weight: 'change',
    answer: async (front, call, body) => {
      const request = decodeNamed(call, { name, schema, body });
      return patiently(call, () => work(front, call, request));
    },
  };
}

/** Decodes, and lets every further line of the log name the volume. */
function decodeNamed<S extends v.GenericSchema>(
  call: Call,
  { name, schema, body }: { name: string; schema: S; body: string },
): v.InferOutput<S> {
  if (isEmpty(body) && needsBody(schema)) throw cutOff(name);
  const request: unknown = decode(schema, body);
  if (typeof request === 'object' && request !== null && 'Name' in request) {
    call.log.setBindings({ volume: request.Name });
  }
  return request;
}

function needsBody(schema: v.GenericSchema): boolean {
  return schema !== nothing;
}

/**
 * Docker repeats a call that was cut off, when the driver is killed for example, without its body: nobody knows what it was
 * about. An error to Get would say that there is no such volume.
 */
function cutOff(name: string): Error {
  const message = 'the driver was restarted during this call; run the command again';
  return name === 'Get' ? new Unanswerable(message) : new VolumeError('unavailable', message);
}

/**
 * Docker does not repeat a refused call as the kubelet does: two containers that start at once would fail each other. So this
 * front waits for the volume's lock, within a bound.
 */
async function patiently<T>(call: Call, work: () => Promise<T>): Promise<T> {
  const end = performance.now() + patienceMs;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
    try {
      return await work();
    } catch (error) {
      const isBusy = error instanceof VolumeError && error.reason === 'busy';
      if (!isBusy || performance.now() + pauseMs > end || call.signal.aborted) throw error;
      // A caller that goes away ends the pause; the next round then says so.
      await delay(pauseMs, undefined, { signal: call.signal }).catch(() => undefined);
    }
  }
}

/** Throws `not-found`; `wrong-state` for a raw block volume, which Docker cannot use. */
function get(front: DockerFront, name: string): Volume {
  const volume = front.local.findVolume(name);
  if (volume === undefined) throw new VolumeError('not-found', `volume '${name}' does not exist`);
  requireMountable(name, volume);
  return volume;
}

/**
 * The volume, or why nothing can be done with it now. Docker takes an error for its absence, and gives a container that asks
 * for it by name alone an empty local volume instead, so only what is not there is one. Throws `not-found`.
 */
async function findAnyhow(
  front: DockerFront,
  name: string,
): Promise<Volume | { readonly problem: string }> {
  try {
    return get(front, name);
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') throw error;
    if (!(await front.local.isKnown(name))) throw error;
    return { problem: messageOf(error) };
  }
}

function requireMountable(name: string, { record }: Volume): void {
  if (record.kind === 'mount') return;
  throw new VolumeError(
    'wrong-state',
    `volume '${name}' is a raw block volume, which Docker cannot use: see 'loopcsi volume --help'`,
  );
}

function summaryOf(name: string, { record }: Volume, path: string | undefined) {
  return {
    Name: name,
    Mountpoint: path ?? '',
    CreatedAt: new Date(record.createdAtMs).toISOString(),
  };
}

/** For `docker volume inspect`. Bytes are text too, since Go prints large numbers as floating point. */
async function statusOf(front: DockerFront, { record, pool }: Volume) {
  const { usedBytes, allocatedBytes, snapshots } = await front.local.look(record.id);
  return {
    id: record.id,
    size: formatBytes(record.sizeBytes),
    used: usedBytes === undefined ? 'unknown until it is mounted' : formatBytes(usedBytes),
    allocated: formatBytes(allocatedBytes),
    sizeBytes: String(record.sizeBytes),
    usedBytes: usedBytes === undefined ? '' : String(usedBytes),
    allocatedBytes: String(allocatedBytes),
    filesystem: record.fsType ?? '',
    provisioning: record.provisioning,
    pool,
    node: front.nodeId,
    snapshots,
  };
}
