import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import test from 'ava';
import { CommanderError } from 'commander';
import {
  FailedError,
  failureOf,
  orchestratorWords,
  rephraseForCli,
  UsageError,
} from '../../../src/cli/errors.ts';
import { grpcCodes } from '../../../src/csi/grpc-codes.ts';
import { VolumeError } from '../../../src/errors.ts';

function grpcError(code: number, details: string): Error {
  return Object.assign(new Error(`${code} ${details}`), { code, details });
}

const cases = [
  {
    name: 'the driver’s message is shown as it is',
    error: grpcError(status.NOT_FOUND, "volume 'x' does not exist"),
    exitCode: 1,
    message: /^volume 'x' does not exist$/,
    code: 'NOT_FOUND',
  },
  {
    name: 'a refusal by the driver is no usage error: it may depend on the state',
    error: grpcError(status.INVALID_ARGUMENT, 'name is missing'),
    exitCode: 1,
    message: /^name is missing$/,
    code: 'INVALID_ARGUMENT',
  },
  {
    name: 'a lost connection is explained',
    error: grpcError(
      status.UNAVAILABLE,
      'No connection established. Last error: connect ECONNREFUSED',
    ),
    exitCode: 1,
    message: /^the connection to the driver was lost/,
    code: 'UNAVAILABLE',
  },
  {
    name: 'UNAVAILABLE from the driver keeps the driver’s message',
    error: grpcError(status.UNAVAILABLE, "pool 'x': mount its disk"),
    exitCode: 1,
    message: /^pool 'x': mount its disk$/,
    code: 'UNAVAILABLE',
  },
  {
    name: 'UNIMPLEMENTED means an older driver',
    error: grpcError(
      status.UNIMPLEMENTED,
      'The server does not implement the method /loopcsi.v1.Admin/New',
    ),
    exitCode: 1,
    message: /older than this program/,
    code: 'UNIMPLEMENTED',
  },
  {
    name: 'an error without a message names its code',
    error: grpcError(status.INTERNAL, ''),
    exitCode: 1,
    message: /INTERNAL without a message/,
    code: 'INTERNAL',
  },
  {
    name: 'a usage error',
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
    name: 'a refusal by the domain, which runs in this process without a driver, is the same',
    error: new VolumeError('invalid', 'no'),
    exitCode: 1,
    message: /^no$/,
    code: 'invalid',
  },
  {
    name: 'another error of the domain is a failure',
    error: new VolumeError('unavailable', 'no'),
    exitCode: 1,
    message: /^no$/,
    code: 'unavailable',
  },
  {
    name: 'commander has printed its own error',
    error: new CommanderError(1, 'commander.unknownOption', 'error: unknown option'),
    exitCode: 2,
    message: /^unknown option$/,
    code: 'USAGE',
    isPrinted: true,
  },
  {
    name: 'help is not an error',
    error: new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)'),
    exitCode: 0,
    message: /^$/,
    code: 'USAGE',
    isPrinted: true,
  },
  { name: 'anything else', error: 'text', exitCode: 1, message: /^text$/, code: 'FAILED' },
] as const;

for (const { name, error, exitCode, message, code, ...rest } of cases) {
  test(`failureOf: ${name}`, (t) => {
    const failure = failureOf(error);
    t.is(failure.exitCode, exitCode);
    t.regex(failure.message, message);
    t.is(failure.code, code);
    t.is(failure.isPrinted, 'isPrinted' in rest);
  });
}

test('grpcCodes are the codes of grpc-js', (t) => {
  const named = Object.entries(status).filter(([name]) => !/^\d+$/.test(name));
  t.deepEqual({ ...grpcCodes }, Object.fromEntries(named) as typeof grpcCodes);
});

test('the driver uses each of the words that the command line replaces', (t) => {
  const root = join(import.meta.dirname, '..', '..', '..', '..', 'src', 'volumes');
  const source = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => readFileSync(join(root, path), 'utf8'))
    .join('\n');
  for (const [word] of orchestratorWords) t.true(source.includes(word), word);
});

test('messages of the driver are in the words of the command line, with the name of the volume', async (t) => {
  const details =
    "volume '_0f.1' is in use: mounted at /a; unpublish and unstage it first, or repeat the call";
  const error = await t.throwsAsync(
    rephraseForCli({ volume_id: '_0f.1', name: 'a\nb' }, async () => {
      throw grpcError(status.FAILED_PRECONDITION, details);
    }),
  );
  t.is(
    failureOf(error).message,
    "volume 'a\\nb' is in use: mounted at /a; unmount it first, or repeat the command",
  );
});
