/** What a person is told when a command cannot do its work, and how it exits. */
import { status } from '@grpc/grpc-js';
import { CommanderError } from 'commander';
import { messageOf, VolumeError } from '../errors.ts';

/** Exit codes of every command (docs/command-line.md). */
export const exitCodes = { done: 0, failed: 1, wrongUse: 2 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** The command was called wrongly; nothing has been done. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UsageError';
  }
}

/** The work could not be done; the message is the whole answer. */
export class FailedError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FailedError';
  }
}

export interface Failure {
  readonly exitCode: ExitCode;
  /** '' when there is nothing to say. */
  readonly message: string;
  /** Whether a person has been told, by Commander. */
  readonly isSaid: boolean;
  /** For machines: a gRPC code, `USAGE` or `FAILED`. */
  readonly code: string;
}

interface GrpcError {
  readonly code: number;
  readonly details: string;
}

function isGrpcError(error: unknown): error is GrpcError {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'number' &&
    'details' in error &&
    typeof error.details === 'string'
  );
}

/** Gives anything that a command threw its sentence and its exit code. */
export function failureOf(error: unknown): Failure {
  if (error instanceof CommanderError) {
    // Commander has printed it, the help texts included.
    const said = { isSaid: true, code: 'USAGE' };
    if (error.exitCode === 0) return { ...said, exitCode: exitCodes.done, message: '' };
    const isHelp = error.code === 'commander.help';
    const message = isHelp ? "a command is missing; '--help' lists them" : error.message;
    return { ...said, exitCode: exitCodes.wrongUse, message: message.replace(/^error: /, '') };
  }
  if (error instanceof UsageError) {
    return { exitCode: exitCodes.wrongUse, message: error.message, code: 'USAGE', isSaid: false };
  }
  if (isGrpcError(error)) return grpcFailure(error);
  if (error instanceof VolumeError) {
    const exitCode = error.reason === 'invalid' ? exitCodes.wrongUse : exitCodes.failed;
    return { exitCode, message: error.message, code: error.reason, isSaid: false };
  }
  return { exitCode: exitCodes.failed, message: messageOf(error), code: 'FAILED', isSaid: false };
}

/** The driver's messages are sentences already; what grpc-js itself says is not. */
function grpcFailure({ code, details }: GrpcError): Failure {
  const name = status[code] ?? 'UNKNOWN';
  const exitCode = code === status.INVALID_ARGUMENT ? exitCodes.wrongUse : exitCodes.failed;
  return { exitCode, message: sentenceFor(code, details), code: name, isSaid: false };
}

function sentenceFor(code: number, details: string): string {
  if (code === status.UNAVAILABLE && /connection|ECONN|No connection established/i.test(details)) {
    return 'the driver went away during the call; look at its log, then try again';
  }
  if (
    code === status.UNIMPLEMENTED &&
    /does not implement|unknown (?:method|service)/i.test(details)
  ) {
    return 'the driver that answers does not know this command; it is older than this program';
  }
  if (code === status.CANCELLED) return 'the call was cancelled; try again';
  return details === '' ? `the driver answered ${status[code] ?? code} without a reason` : details;
}

/**
 * Does `work` on a volume that a person named. The driver's messages are those of the CSI calls, where a volume has an id and a snapshot
 * class; here it has a name and there are flags: `freeze` is how the snapshot that a message advises is asked for.
 */
export async function inOwnWords<T>(
  volume: { readonly volume_id: string; readonly name: string },
  work: () => Promise<T>,
  freeze = `loopcsi snapshot create ${volume.name} NAME --freeze; then restore that snapshot`,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isGrpcError(error)) throw error;
    const details = error.details
      .replaceAll(`'${volume.volume_id}'`, `'${volume.name}'`)
      .replaceAll("snapshot class parameter freeze: 'yes'; then restore that snapshot", freeze);
    throw Object.assign(new Error(details, { cause: error }), { code: error.code, details });
  }
}
