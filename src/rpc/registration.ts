/**
 * How the driver makes itself known to the kubelet: a socket in its plugins_registry directory, on which it asks who is
 * there and reports how it went (csi-proto/registration.proto). Instead of a sidecar that does only this.
 */
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { serviceDefinition } from '../csi/codec.ts';
import type { Handlers } from '../csi/rpc-types.ts';
import { messageOf, VolumeError } from '../errors.ts';
import type { Logger } from '../observe/log.ts';

export interface RegistrationOptions {
  /** The kubelet's plugins_registry directory, as this process sees it. */
  readonly directory: string;
  readonly driverName: string;
  /** Path of the CSI socket as the kubelet sees it. */
  readonly endpoint: string;
  readonly log: Logger;
  /** How long after the first refusal the driver shows itself again; doubled each time, up to a minute. */
  readonly retryMs?: number;
}

export interface Registration {
  /** Stops answering. The socket file stays: its removal would make the kubelet drop the node's CSINode entry. */
  close(): void;
}

const longestRetryMs = 60_000;

/**
 * Serves the registration socket and shows it to the kubelet. To be called once CSI answers, since the kubelet calls back
 * at once. Throws `unavailable` when the directory is not there.
 */
export async function serveRegistration(options: RegistrationOptions): Promise<Registration> {
  const { directory, driverName, log } = options;
  await requireDirectory(directory);
  // The kubelet overlooks hidden names and reacts to a file that appears, also by a rename. A rename onto a socket that an
  // earlier process left shows no removal in between.
  const hidden = join(directory, `.${driverName}-reg.sock`);
  const shown = join(directory, `${driverName}-reg.sock`);
  const again = new Retry(options.retryMs ?? 1_000);

  const show = async (from: string): Promise<void> => {
    if (from === shown) await rename(shown, hidden);
    await rename(hidden, shown);
  };
  const handlers: Handlers<'pluginregistration.Registration'> = {
    GetInfo: (_call, callback) => {
      const { endpoint } = options;
      callback(null, {
        type: 'CSIPlugin',
        name: driverName,
        endpoint,
        supported_versions: ['1.0.0'],
      });
    },
    NotifyRegistrationStatus: (call, callback) => {
      const { plugin_registered: isRegistered, error } = call.request;
      callback(null, {});
      if (isRegistered) {
        again.reset();
        log.info({ driverName }, 'the kubelet registered the driver');
        return;
      }
      log.error({ driverName, error }, 'the kubelet refused the driver; it is shown again soon');
      again.schedule(() => {
        show(shown).catch((cause: unknown) => {
          log.error({ err: cause, directory }, 'the registration socket cannot be shown again');
        });
      });
    },
  };

  const server = new Server();
  server.addService(serviceDefinition('pluginregistration.Registration'), handlers);
  await rm(hidden, { force: true });
  await bind(server, hidden);
  await show(hidden);
  return {
    close: () => {
      again.cancel();
      // libuv unlinks the name that was bound, which is the hidden one: the shown one stays.
      server.forceShutdown();
    },
  };
}

async function requireDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new VolumeError(
    'unavailable',
    `--registration-dir: ${directory} is not a directory; give the kubelet's plugins_registry (by default /var/lib/kubelet/plugins_registry)`,
  );
}

async function bind(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else reject(new VolumeError('unavailable', `${path} cannot be bound: ${messageOf(error)}`));
    });
  });
}

/** One timer whose delay doubles until it is reset. */
class Retry {
  readonly #firstMs: number;
  #nextMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(firstMs: number) {
    this.#firstMs = firstMs;
    this.#nextMs = firstMs;
  }

  schedule(work: () => void): void {
    this.cancel();
    this.#timer = setTimeout(work, this.#nextMs);
    this.#nextMs = Math.min(this.#nextMs * 2, longestRetryMs);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  reset(): void {
    this.cancel();
    this.#nextMs = this.#firstMs;
  }
}
