/** Messages and exit codes of failed commands. */
import { CommanderError } from 'commander';
import { grpcCodeName, grpcCodes } from '../csi/grpc-codes.ts';
import { messageOf, VolumeError } from '../errors.ts';
import { freezeAdvice } from '../volumes/model.ts';
import { printable } from './printable.ts';

/** Exit codes of every command (docs/command-line.md). */
export const exitCodes = { success: 0, failure: 1, usageError: 2 } as const;
type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Thrown for a command line that is wrong whatever the state of the driver, before anything was changed. */
export class UsageError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'UsageError';
  }
}

/** Thrown if a command fails. If the message is empty, nothing is printed. */
export class FailedError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'FailedError';
  }
}

interface Failure {
  readonly exitCode: ExitCode;
  /** Empty if nothing should be printed. */
  readonly message: string;
  /** Commander has already printed the message. */
  readonly isPrinted: boolean;
  /** Printed with --json: a gRPC code, the reason of a VolumeError, `USAGE` or `FAILED`. */
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

/** Converts any error thrown by a command. */
export function failureOf(error: unknown): Failure {
  if (error instanceof CommanderError) {
    const printed = { isPrinted: true, code: 'USAGE' };
    if (error.exitCode === 0) return { ...printed, exitCode: exitCodes.success, message: '' };
    const isHelp = error.code === 'commander.help';
    const message = isHelp ? "no command was given; '--help' lists the commands" : error.message;
    return {
      ...printed,
      exitCode: exitCodes.usageError,
      message: message.replace(/^error: /, ''),
    };
  }
  const isPrinted = false;
  if (error instanceof UsageError) {
    return { exitCode: exitCodes.usageError, message: error.message, code: 'USAGE', isPrinted };
  }
  if (isGrpcError(error)) return grpcFailure(error);
  if (error instanceof VolumeError) {
    const { reason: code, message } = error;
    return { exitCode: exitCodes.failure, message, code, isPrinted };
  }
  return { exitCode: exitCodes.failure, message: messageOf(error), code: 'FAILED', isPrinted };
}

function grpcFailure({ code, details }: GrpcError): Failure {
  return {
    // INVALID_ARGUMENT, too: it may depend on the state, as the deletion of a member of a group does.
    exitCode: exitCodes.failure,
    message: grpcMessage(code, details),
    code: grpcCodeName(code) ?? 'UNKNOWN',
    isPrinted: false,
  };
}

/**
 * Words of orchestrators in messages of the driver, and those of the command line. A test checks that the driver still uses
 * each.
 */
export const orchestratorWords = [
  ['repeat the call', 'repeat the command'],
  [
    'unpublish and unstage it (end the pods that use it), then stage it again',
    'unmount it (end the pods that use it), then mount it again',
  ],
  ['unpublish and unstage', 'unmount'],
  ['mkfsOptions', '--mkfs-options'],
  ['sectorSize', '--sector-size'],
] as const;

function inWordsOfCli(details: string): string {
  return orchestratorWords.reduce((text, [from, to]) => text.replaceAll(from, to), details);
}

/** Returns messages from the driver in the words of the command line, and replaces those that grpc-js generates. */
function grpcMessage(code: number, details: string): string {
  if (
    code === grpcCodes.UNAVAILABLE &&
    /connection|ECONN|No connection established/i.test(details) &&
    // A controller says to which node the connection was lost.
    !details.includes("node '")
  ) {
    return 'the connection to the driver was lost during the call; check its log, then try again';
  }
  if (
    code === grpcCodes.UNIMPLEMENTED &&
    /does not implement|unknown (?:method|service)/i.test(details)
  ) {
    return 'the running driver is older than this program and does not know this command; upgrade it';
  }
  if (code === grpcCodes.CANCELLED) return 'the call was cancelled; try again';
  return details === ''
    ? `the driver returned ${grpcCodeName(code) ?? code} without a message`
    : inWordsOfCli(details);
}

interface NamedVolume {
  readonly volume_id: string;
  readonly name: string;
}

/**
 * Runs `work` and rewrites the messages of its errors for the command line. The driver's messages contain the ids of the
 * volumes and a parameter of the snapshot class, which are replaced by the volumes' names and by `freezeRemedy`.
 */
export async function rephraseForCli<T>(
  volume: NamedVolume | readonly NamedVolume[],
  work: () => Promise<T>,
  freezeRemedy?: string,
): Promise<T> {
  const volumes: readonly NamedVolume[] = [volume].flat();
  const remedy =
    freezeRemedy ??
    `loopcsi snapshot create ${volumes[0]?.name ?? 'VOLUME'} NAME --freeze; then restore that snapshot`;
  try {
    return await work();
  } catch (error) {
    if (!isGrpcError(error)) throw error;
    let details = error.details.replaceAll(freezeAdvice, remedy);
    for (const { volume_id, name } of volumes) {
      details = details.replaceAll(`'${volume_id}'`, `'${printable(name)}'`);
    }
    throw Object.assign(new Error(details, { cause: error }), { code: error.code, details });
  }
}
