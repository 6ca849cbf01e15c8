/**
 * The calls of Docker's volume plugin API. Each decodes its request, calls the domain and converts the result. Docker itself
 * adds the name of the call to errors.
 */
import type * as v from 'valibot';
import { retry } from '../async.ts';
import { messageOf, VolumeError } from '../errors.ts';
import type { FsType } from '../host/host.ts';
import { formatBytes } from '../units.ts';
import type { Volumes } from '../volumes/api.ts';
import type { DockerVolumes } from '../volumes/docker/volumes.ts';
import type { Call } from '../volumes/engine/operations.ts';
import type { Volume } from '../volumes/model.ts';
import { parseOptions } from './options.ts';
import {
  createRequest,
  decode,
  isEmpty,
  mountRequest,
  NoResponseError,
  nameRequest,
  noFields,
} from './requests.ts';

export interface DockerFront {
  readonly volumes: Volumes;
  readonly docker: DockerVolumes;
  readonly nodeId: string;
  readonly defaultFsType: FsType;
}

export interface PluginCall {
  readonly name: string;
  /** The end of a `change` is logged at level info. */
  readonly logClass: 'change' | 'read';
  /** Handles the raw request body and returns the response body. */
  readonly answer: (front: DockerFront, call: Call, body: string) => Promise<unknown>;
}

/** Shorter than Docker's own time limit, which is 120 s for Create and Mount and 60 s for other calls. */
const busyTimeoutMs = 30_000;
const firstPauseMs = 20;
const maxPauseMs = 500;

/** The key is the path of the request. */
export const pluginCalls: Readonly<Record<string, PluginCall>> = {
  '/Plugin.Activate': readCall('Activate', noFields, async () => ({
    Implements: ['VolumeDriver'],
  })),
  '/VolumeDriver.Capabilities': readCall('Capabilities', noFields, async () => ({
    Capabilities: { Scope: 'local' },
  })),
  '/VolumeDriver.Create': changeCall(
    'Create',
    createRequest,
    async (front, call, { Name, Opts }) => {
      const { defaultFsType, docker } = front;
      const findSource = (name: string) => docker.findSource(name);
      await docker.create(call, parseOptions(Name, Opts ?? {}, { defaultFsType, findSource }));
      return {};
    },
  ),
  '/VolumeDriver.Get': readCall('Get', nameRequest, async (front, call, { Name }) => {
    const found = await findOrExplain(front, Name);
    if ('problem' in found) return { Volume: { Name, Mountpoint: '', Status: found } };
    const path = (await front.docker.mountedPaths()).get(found.record.id);
    const Status = await statusOf(front, found).catch((error: unknown) => {
      const problem = messageOf(error);
      call.log.warn({ problem }, 'usage of a volume could not be read');
      return { problem };
    });
    return { Volume: { ...summaryOf(Name, found, path), Status } };
  }),
  '/VolumeDriver.List': readCall('List', noFields, async (front) => {
    const paths = await front.docker.mountedPaths();
    const mountable = front.docker.listVolumes().filter(({ record }) => record.kind === 'mount');
    return {
      Volumes: mountable.map((volume) => {
        const { name, id } = volume.record;
        return summaryOf(name, volume, paths.get(id));
      }),
    };
  }),
  '/VolumeDriver.Path': readCall('Path', nameRequest, async (front, _call, { Name }) => {
    const paths = await front.docker.mountedPaths();
    return { Mountpoint: paths.get(getVolume(front, Name).record.id) ?? '' };
  }),
  '/VolumeDriver.Mount': changeCall('Mount', mountRequest, async (front, call, { Name, ID }) => {
    const volumeId = getVolume(front, Name).record.id;
    return { Mountpoint: await front.docker.mount(call, { volumeId, mountId: ID }) };
  }),
  '/VolumeDriver.Unmount': changeCall(
    'Unmount',
    mountRequest,
    async (front, call, { Name, ID }) => {
      const volume = front.docker.findVolume(Name);
      // A deleted volume must not prevent the removal of a container.
      if (volume === undefined) return {};
      await front.docker.unmount(call, { volumeId: volume.record.id, mountId: ID });
      return {};
    },
  ),
  '/VolumeDriver.Remove': changeCall('Remove', nameRequest, async (front, call, { Name }) => {
    const volume = front.docker.findVolume(Name);
    if (volume === undefined) return {};
    requireMountable(Name, volume);
    await front.docker.remove(call, volume.record.id);
    return {};
  }),
};

type Work<S extends v.GenericSchema> = (
  front: DockerFront,
  call: Call,
  request: v.InferOutput<S>,
) => Promise<unknown>;

function readCall<S extends v.GenericSchema>(name: string, schema: S, work: Work<S>): PluginCall {
  return {
    name,
    logClass: 'read',
    answer: async (front, call, body) =>
      work(front, call, decodeNamed(call, { name, schema, body })),
  };
}

function changeCall<S extends v.GenericSchema>(name: string, schema: S, work: Work<S>): PluginCall {
  return {
    name,
    logClass: 'change',
    answer: async (front, call, body) => {
      const request = decodeNamed(call, { name, schema, body });
      return retryWhileBusy(call, () => work(front, call, request));
    },
  };
}

/** Decodes the request, and adds the volume's name to all later log lines of the call. */
function decodeNamed<S extends v.GenericSchema>(
  call: Call,
  { name, schema, body }: { name: string; schema: S; body: string },
): v.InferOutput<S> {
  if (isEmpty(body) && schema !== noFields) throw missingBodyError(name);
  const request: unknown = decode(schema, body);
  if (typeof request === 'object' && request !== null && 'Name' in request) {
    call.log.setBindings({ volume: request.Name });
  }
  return request;
}

/**
 * If the connection breaks during a call, for example because the driver is killed, Docker repeats the call without its body.
 * Get is not answered, because Docker would interpret an error as a missing volume.
 */
function missingBodyError(name: string): Error {
  const message = 'the driver was restarted during this call; run the command again';
  return name === 'Get' ? new NoResponseError(message) : new VolumeError('unavailable', message);
}

/**
 * Retries a call that fails with `busy`. Unlike the kubelet, Docker does not retry failed calls, so one of two containers
 * that start at the same time would fail.
 */
async function retryWhileBusy<T>({ signal }: Call, work: () => Promise<T>): Promise<T> {
  return retry(work, {
    isTransient: (error) => error instanceof VolumeError && error.reason === 'busy',
    timeoutMs: busyTimeoutMs,
    pauseMs: firstPauseMs,
    maxPauseMs,
    signal,
  });
}

/** Finds a volume that Docker can use. Throws `not-found`, and `wrong-state` for a raw block volume. */
function getVolume(front: DockerFront, name: string): Volume {
  const volume = front.docker.findVolume(name);
  if (volume === undefined) throw new VolumeError('not-found', `volume '${name}' does not exist`);
  requireMountable(name, volume);
  return volume;
}

/**
 * Returns the volume, or the reason why it cannot be used now. Throws only for a volume that is not known to exist: Docker
 * interprets any error as a missing volume, and then gives a container that specifies no driver an empty local volume.
 */
async function findOrExplain(
  front: DockerFront,
  name: string,
): Promise<Volume | { readonly problem: string }> {
  try {
    return getVolume(front, name);
  } catch (error) {
    if (error instanceof VolumeError && error.reason === 'not-found') throw error;
    if (!(await front.docker.isKnown(name))) throw error;
    return { problem: messageOf(error) };
  }
}

function requireMountable(name: string, { record }: Volume): void {
  if (record.kind === 'mount') return;
  throw new VolumeError(
    'wrong-state',
    `volume '${name}' is a raw block volume, which Docker cannot use; use it with 'loopcsi volume mount'`,
  );
}

function summaryOf(name: string, { record }: Volume, path: string | undefined) {
  return {
    Name: name,
    Mountpoint: path ?? '',
    CreatedAt: new Date(record.createdAtMs).toISOString(),
  };
}

/**
 * Returns the status that `docker volume inspect` shows. Byte counts are strings, because Go prints large numbers as floating
 * point.
 */
async function statusOf(front: DockerFront, { record, pool }: Volume) {
  const { usedBytes, allocatedBytes, snapshots } = await front.docker.usage(record.id);
  return {
    id: record.id,
    size: formatBytes(record.sizeBytes),
    used: usedBytes === undefined ? 'unknown until the volume is mounted' : formatBytes(usedBytes),
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
