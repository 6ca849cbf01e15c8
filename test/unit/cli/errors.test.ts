import { status } from '@grpc/grpc-js';
import test from 'ava';
import { CommanderError } from 'commander';
import { FailedError, failureOf, UsageError } from '../../../src/cli/errors.ts';
import { VolumeError } from '../../../src/errors.ts';

function grpcError(code: number, details: string): Error {
  return Object.assign(new Error(`${code} ${details}`), { code, details });
}

const cases = [
  {
    name: 'what a driver says is said',
    error: grpcError(status.NOT_FOUND, "volume 'x' does not exist"),
    exitCode: 1,
    message: /^volume 'x' does not exist$/,
    code: 'NOT_FOUND',
  },
  {
    name: 'a wrong argument is wrong use',
    error: grpcError(status.INVALID_ARGUMENT, 'name is missing'),
    exitCode: 2,
    message: /^name is missing$/,
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'a lost connection is no sentence of the driver',
    error: grpcError(
      status.UNAVAILABLE,
      'No connection established. Last error: connect ECONNREFUSED',
    ),
    exitCode: 1,
    message: /^the driver went away/,
    code: 'UNAVAILABLE',
  },
  {
    name: 'a pool that is away is the driver’s own sentence',
    error: grpcError(status.UNAVAILABLE, "pool 'x': mount its disk"),
    exitCode: 1,
    message: /^pool 'x': mount its disk$/,
    code: 'UNAVAILABLE',
  },
  {
    name: 'an older driver is named as such',
    error: grpcError(
      status.UNIMPLEMENTED,
      'The server does not implement the method /loopcsi.v1.Admin/New',
    ),
    exitCode: 1,
    message: /older than this program/,
    code: 'UNIMPLEMENTED',
  },
  {
    name: 'an empty answer still says something',
    error: grpcError(status.INTERNAL, ''),
    exitCode: 1,
    message: /INTERNAL without a reason/,
    code: 'INTERNAL',
  },
  {
    name: 'wrong use',
    error: new UsageError('write NAME=DIR'),
    exitCode: 2,
    message: /^write NAME=DIR$/,
    code: 'USAGE',
  },
  {
    name: 'a failure',
    error: new FailedError('nothing was deleted'),
    exitCode: 1,
    message: /^nothing was deleted$/,
    code: 'FAILED',
  },
  {
    name: 'an invalid value of ours',
    error: new VolumeError('invalid', '--size: no'),
    exitCode: 2,
    message: /^--size: no$/,
    code: 'invalid',
  },
  {
    name: 'a refusal of ours',
    error: new VolumeError('unavailable', 'no'),
    exitCode: 1,
    message: /^no$/,
    code: 'unavailable',
  },
  {
    name: 'commander has printed its own',
    error: new CommanderError(1, 'commander.unknownOption', 'error: unknown option'),
    exitCode: 2,
    message: /^unknown option$/,
    code: 'USAGE',
    isSaid: true,
  },
  {
    name: 'help is no error',
    error: new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'),
    exitCode: 0,
    message: /^$/,
    code: 'USAGE',
    isSaid: true,
  },
  { name: 'anything else', error: 'text', exitCode: 1, message: /^text$/, code: 'FAILED' },
] as const;

for (const { name, error, exitCode, message, code, ...rest } of cases) {
  test(`failureOf: ${name}`, (t) => {
    const failure = failureOf(error);
    t.is(failure.exitCode, exitCode);
    t.regex(failure.message, message);
    t.is(failure.code, code);
    t.is(failure.isSaid, 'isSaid' in rest);
  });
}
