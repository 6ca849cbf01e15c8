/** The connection to the running driver. */
import { createConnection } from 'node:net';
import { environmentVariableOf, optionTable } from '../config/options.ts';
import { parseSocketPath } from '../config/values.ts';
import type { Client } from '../csi/client.ts';
import { messageOf } from '../errors.ts';
import { FailedError, UsageError } from './errors.ts';

export interface Driver {
  readonly identity: Client<'csi.v1.Identity'>;
  readonly controller: Client<'csi.v1.Controller'>;
  readonly groups: Client<'csi.v1.GroupController'>;
  readonly metadata: Client<'csi.v1.SnapshotMetadata'>;
  readonly admin: Client<'loopcsi.v1.Admin'>;
  readonly nodes: Client<'loopcsi.v1.Nodes'>;
  readonly close: () => void;
}

/**
 * Returns the path of the socket of a driver or controller: from the flag, else from the environment, else `defaultEndpoint`. Throws
 * `UsageError`.
 */
export function endpointOf(
  flag: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  defaultEndpoint: string = optionTable.endpoint.default,
): string {
  const variable = environmentVariableOf('endpoint');
  const given = flag ?? environment[variable];
  const text = given === undefined || given === '' ? defaultEndpoint : given;
  try {
    return parseSocketPath(text);
  } catch (error) {
    throw new UsageError(`${flag === undefined ? variable : '--endpoint'}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

/** Thrown if no driver answers on the socket. */
export class NoDriverError extends FailedError {
  readonly problem: string;
  readonly remedy: string;

  constructor({ problem, remedy }: { problem: string; remedy: string }, options: ErrorOptions) {
    super(`${problem}; ${remedy}`, options);
    this.problem = problem;
    this.remedy = remedy;
  }
}

/**
 * Connects to the driver. Throws `NoDriverError` if no driver answers, `FailedError` if this user may not open the socket.
 */
export async function connect(path: string): Promise<Driver> {
  await requireAnswer(path);
  const { makeClient } = await import('../csi/client.ts');
  const address = `unix://${path}`;
  const clients = {
    identity: makeClient('csi.v1.Identity', address),
    controller: makeClient('csi.v1.Controller', address),
    groups: makeClient('csi.v1.GroupController', address),
    metadata: makeClient('csi.v1.SnapshotMetadata', address),
    admin: makeClient('loopcsi.v1.Admin', address),
    nodes: makeClient('loopcsi.v1.Nodes', address),
  };
  return {
    ...clients,
    close: () => {
      for (const client of Object.values(clients)) client.close();
    },
  };
}

/**
 * Checks that the socket accepts connections. Without this check, gRPC would retry several times and then report a missing
 * connection without the errno.
 */
async function requireAnswer(path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      reject(connectionError(path, error));
    });
  });
}

function connectionError(path: string, error: NodeJS.ErrnoException): FailedError {
  const cause = { cause: error };
  switch (error.code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new NoDriverError(
        {
          problem: `no driver is running: socket ${path} does not exist`,
          remedy:
            "start a driver with 'loopcsi serve' as root, or set its socket with --endpoint or LOOPCSI_ENDPOINT",
        },
        cause,
      );
    case 'ECONNREFUSED':
      return new NoDriverError(
        {
          problem: `no driver answers on ${path}: the process that created this socket has exited`,
          remedy: "start the driver again with 'loopcsi serve' as root",
        },
        cause,
      );
    case 'EACCES':
    case 'EPERM':
      return new FailedError(
        `only root may open the socket ${path}: run this command as root, for example with sudo`,
        cause,
      );
    case undefined:
    default:
      return new FailedError(`the socket ${path} cannot be used: ${error.message}`, cause);
  }
}
