/**
 * Registers the driver with the kubelet, which makes a registrar sidecar unnecessary. The kubelet watches its plugins_registry
 * directory, calls GetInfo on each new socket and reports the result (csi-proto/registration.proto).
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
  /** Delay before the driver registers again after a refusal. It doubles each time, up to one minute. */
  readonly retryMs?: number;
}

export interface Registration {
  /**
   * Stops the server. The socket file is kept, because its removal would make the kubelet remove the driver from the node's
   * CSINode object.
   */
  close(): void;
}

const maxRetryMs = 60_000;

/**
 * Serves the registration socket and makes it visible to the kubelet. Call this once CSI is served: the kubelet calls back
 * immediately. Throws `unavailable` if the directory does not exist.
 */
export async function serveRegistration(options: RegistrationOptions): Promise<Registration> {
  const { directory, driverName, log } = options;
  await requireDirectory(directory);
  // The kubelet ignores hidden names and reacts to new names, including renamed files. It does not see a rename over the
  // socket of an earlier process as a removal.
  const hidden = join(directory, `.${driverName}-reg.sock`);
  const visible = join(directory, `${driverName}-reg.sock`);
  const retry = new Retry(options.retryMs ?? 1_000);
  const registerAgain = async (): Promise<void> => {
    await rename(visible, hidden);
    await rename(hidden, visible);
  };

  const server = new Server();
  const handlers = registrationHandlers(options, {
    accepted: () => {
      retry.reset();
    },
    refused: () => {
      retry.schedule(() => {
        registerAgain().catch((error: unknown) => {
          log.error({ err: error, directory }, 'retrying registration failed');
        });
      });
    },
  });
  server.addService(serviceDefinition('pluginregistration.Registration'), handlers);
  await rm(hidden, { force: true });
  await bind(server, hidden);
  await rename(hidden, visible);
  return {
    close: () => {
      retry.cancel();
      // libuv unlinks only the name that was bound, which is the hidden one.
      server.forceShutdown();
    },
  };
}

function registrationHandlers(
  { driverName, endpoint, log }: RegistrationOptions,
  on: { readonly accepted: () => void; readonly refused: () => void },
): Handlers<'pluginregistration.Registration'> {
  return {
    GetInfo: (_call, callback) => {
      callback(null, {
        type: 'CSIPlugin',
        name: driverName,
        endpoint,
        supported_versions: ['1.0.0'],
      });
    },
    NotifyRegistrationStatus: (call, callback) => {
      const { plugin_registered: isRegistered, error: problem } = call.request;
      callback(null, {});
      if (isRegistered) {
        on.accepted();
        log.info({ driverName }, 'kubelet registered the driver');
      } else {
        on.refused();
        log.error(
          { driverName, problem },
          'kubelet refused the driver; registration will be retried',
        );
      }
    },
  };
}

async function requireDirectory(directory: string): Promise<void> {
  const found = await stat(directory).catch(() => undefined);
  if (found?.isDirectory() === true) return;
  throw new VolumeError(
    'unavailable',
    `--registration-dir: ${directory} is not a directory; give the kubelet's plugins_registry directory (by default /var/lib/kubelet/plugins_registry)`,
  );
}

async function bind(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix://${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) resolve();
      else
        reject(
          new VolumeError(
            'unavailable',
            `--registration-dir: ${path} cannot be bound: ${messageOf(error)}`,
          ),
        );
    });
  });
}

/** A timer whose delay doubles until it is reset. */
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
    this.#nextMs = Math.min(this.#nextMs * 2, maxRetryMs);
  }

  cancel(): void {
    clearTimeout(this.#timer);
  }

  reset(): void {
    this.cancel();
    this.#nextMs = this.#firstMs;
  }
}
