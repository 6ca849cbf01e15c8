/** Reads a snapshot or volume of another node from its agent, over mutual TLS with the certificates of this one. */
import { Client as Channel, type ChannelOptions, status } from '@grpc/grpc-js';
import type { DescribeResponse } from '../../csi/agent-types.ts';
import { type Client, makeClientOn } from '../../csi/client.ts';
import { type Reason, VolumeError } from '../../errors.ts';
import { fsTypes } from '../../host/host.ts';
import { agentChannelCredentials, agentChannelOptions } from '../../tls/agent-channel.ts';
import type { Credentials, FollowedCredentials } from '../../tls/credentials.ts';
import {
  type ReadPosition,
  type RemoteSource,
  type SentCopy,
  type SourceFacts,
  SourceLostError,
} from '../../volumes/model.ts';
import type { Keepalive } from '../grpc-server.ts';
import { findServiceError } from '../status.ts';
import { copyMessage } from './copy-message.ts';
import { readPieces } from './data-client.ts';
import { agentKeepalive } from './keepalive.ts';

/** Where a source is, and what allows this node to read it. */
export interface SourcePlace {
  readonly copy: SentCopy;
  /** The id of the other node. */
  readonly nodeId: string;
  /** HOST:PORT of its agent. */
  readonly address: string;
  readonly ticket: string;
}

/** Capturing a volume may take as long as a freeze may, after its pages are written back. A lost peer is noticed by pings. */
const describeTimeoutMs = 15 * 60_000;

interface SourceOptions {
  readonly followed: FollowedCredentials;
  readonly driverName: string;
  /** An agent that hangs is lost after both times. */
  readonly keepalive?: Keepalive;
}

export function remoteSourceAt(
  place: SourcePlace,
  { followed, driverName, keepalive = agentKeepalive }: SourceOptions,
): RemoteSource {
  const { copy, nodeId, address, ticket } = place;
  const source = copyMessage(copy);
  const currentCredentials = (): Credentials => {
    const { current } = followed;
    if (current !== undefined) return current;
    throw new SourceLostError(
      `node '${nodeId}' cannot be reached: ${followed.problem ?? 'the TLS certificates have not been read yet'}`,
    );
  };
  const channelOptions: ChannelOptions = {
    ...agentChannelOptions,
    'grpc.keepalive_time_ms': keepalive.pingMs,
    'grpc.keepalive_timeout_ms': keepalive.timeoutMs,
  };
  const connect = (): Client<'loopcsi.agent.v1.Sources'> => {
    const credentials = agentChannelCredentials(currentCredentials().context, driverName);
    return makeClientOn(
      'loopcsi.agent.v1.Sources',
      new Channel(`dns:${address}`, credentials, channelOptions),
    );
  };
  return {
    nodeId,
    describe: async (signal, { state = '' }) => {
      const client = connect();
      try {
        const options = { signal, timeoutMs: describeTimeoutMs };
        return factsOf(await client.Describe({ ticket, source, state }, options), place);
      } catch (error) {
        throw reasonOf(error, place, { reasons: describeReasons, signal });
      } finally {
        client.close();
      }
    },
    read: async function* (state: string, from: ReadPosition, signal: AbortSignal) {
      const wanted = { copy, state, from };
      const reading = { address, driverName, ticket, wanted, keepalive, signal };
      try {
        yield* readPieces({ ...reading, credentials: currentCredentials() });
      } catch (error) {
        throw reasonOf(error, place, { reasons: readReasons, signal });
      }
    },
  };
}

function factsOf(message: DescribeResponse, { nodeId }: SourcePlace): SourceFacts {
  const { kind, fs_type, sector_size, provisioning, growth_limit } = message;
  const fsType = fsTypes.find((type) => type === fs_type) ?? null;
  const isKnown =
    (kind === 'mount' || kind === 'block') &&
    (fsType ?? '') === fs_type &&
    (sector_size === 512 || sector_size === 4096) &&
    (provisioning === 'thin' || provisioning === 'thick');
  if (!isKnown) {
    throw new VolumeError(
      'unsupported',
      `node '${nodeId}' describes the source in a way that this driver does not know; upgrade the driver of this node`,
    );
  }
  return {
    state: message.state,
    ...{ kind, fsType, sectorSize: sector_size, provisioning },
    sizeBytes: message.size_bytes,
    allocatedBytes: message.allocated_bytes,
    growthLimit:
      growth_limit === null
        ? undefined
        : { maxBytes: growth_limit.max_bytes, factor: BigInt(growth_limit.factor) },
  };
}

/**
 * Of the first call, before anything was received. `no-space` lets a scheduler choose another node, for example that of the source, if
 * this one may not read it.
 */
const describeReasons: ReadonlyMap<status, Reason> = new Map([
  [status.NOT_FOUND, 'not-found'],
  [status.FAILED_PRECONDITION, 'wrong-state'],
  [status.ABORTED, 'busy'],
  [status.INTERNAL, 'internal'],
  [status.RESOURCE_EXHAUSTED, 'no-space'],
  [status.PERMISSION_DENIED, 'no-space'],
  [status.UNIMPLEMENTED, 'no-space'],
]);

/** Of a reading. What was received remains of use unless the data is not the same any more, or cannot be read. */
const readReasons: ReadonlyMap<status, Reason> = new Map([
  [status.NOT_FOUND, 'not-found'],
  [status.FAILED_PRECONDITION, 'wrong-state'],
  [status.INTERNAL, 'internal'],
]);

/** The domain's error for one of a call to the other node. Codes without a reason mean that the source is lost for now. */
function reasonOf(
  error: unknown,
  { nodeId, address, copy: { source } }: SourcePlace,
  { reasons, signal }: { reasons: ReadonlyMap<status, Reason>; signal: AbortSignal },
): unknown {
  // The copy was cancelled here.
  if (signal.aborted) return signal.reason;
  const failure = findServiceError(error);
  if (failure === undefined) return error;
  const { code, details } = failure;
  // grpc-js itself says INTERNAL if the connection breaks, for example because bytes have changed on the way.
  const isBroken = code === status.INTERNAL && details.startsWith('Received RST_STREAM');
  const reason = isBroken ? undefined : reasons.get(code);
  if (reason !== undefined) {
    const message = `${details} (said by node '${nodeId}' at ${address})`;
    return new VolumeError(reason, message, { cause: error });
  }
  return new SourceLostError(
    `${source.kind} '${source.id}' cannot be read from node '${nodeId}' (${address}): ${details}; repeat the call`,
    { cause: error },
  );
}
