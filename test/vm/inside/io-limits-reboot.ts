/**
 * io-limits-reboot first|again: `first` uses a volume with limits, and prints `working` while a pod writes to it, until the power is
 * cut. `again` starts the driver after the reboot, stages the volume, and checks its limit. Both print TAP.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { execa } from 'execa';
import { poolOn, TestNode } from '../../crash/test-node.ts';
import { NodeFixture } from '../../helpers/node-fixture.ts';
import { workingLine } from '../power-loss/working-line.ts';
import { LimitedPod } from './limited-pod.ts';
import {
  limitedLine,
  limitedRate,
  limitLines,
  limitParameters,
  podsCgroup,
} from './limited-volume.ts';

const disks = { pool: '/dev/vm/pool', state: '/dev/vm/state' } as const;
const name = 'v';
const ok = { code: 'OK', message: '' };
const blocks = 64;
const blockBytes = 64 * 1024;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Prints one test point. */
function check(what: string, actual: unknown, expected: unknown): void {
  const isEqual = isDeepStrictEqual(actual, expected);
  say(`${isEqual ? 'ok' : 'not ok'} - ${what}`);
  if (isEqual) return;
  say(`#   it is ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
  process.exitCode = 1;
}

const write = (file: string, how: string): readonly string[] => [
  ...['dd', 'if=/dev/zero', `of=${file}`, `bs=${blockBytes}`, `count=${blocks}`],
  how,
];

/** A node whose pool and state directory are on disks that keep their content. */
async function startNode(): Promise<NodeFixture> {
  const preparePool = async (directory: string): Promise<void> => {
    await poolOn(disks.pool)(directory);
    await mkdir(join(directory, 'state'));
    await execa('mount', [disks.state, join(directory, 'state')]);
  };
  return new NodeFixture(await TestNode.make({ poolFs: 'directory', isPlain: true, preparePool }));
}

/** Stages and publishes the volume, checks its line, and returns a file in it. */
async function use(fixture: NodeFixture, when: string): Promise<string> {
  check(`nothing is limited ${when}`, await limitLines(), []);
  check(`staged ${when}`, await fixture.stage(name), ok);
  check(`published ${when}`, await fixture.publish(name), ok);
  const [device = ''] = await fixture.devicesOf(name);
  check(`it has its limit ${when}`, await limitLines(), [await limitedLine(device)]);
  return `${fixture.targetOf(name)}/file`;
}

async function first(): Promise<void> {
  for (const disk of Object.values(disks)) await execa('mke2fs', ['-q', '-t', 'ext4', disk]);
  const pod = await LimitedPod.make('pod', podsCgroup);
  const fixture = await startNode();
  const created = await fixture.create(name, 'ext4', { parameters: limitParameters });
  check('created', created, ok);
  const file = await use(fixture, 'before the reboot');
  const writing = pod.start(['sh', '-c', 'while :; do "$@"; done', ...write(file, 'oflag=direct')]);
  say(workingLine);
  await writing;
}

async function again(): Promise<void> {
  const pod = await LimitedPod.make('pod', podsCgroup);
  const fixture = await startNode();
  const file = await use(fixture, 'after the reboot');
  const limitedMs = (blocks * blockBytes * 1000) / Number(limitedRate);
  for (const how of ['oflag=direct', 'conv=fsync']) {
    const ms = await pod.run(write(file, how));
    say(`# ${how}: ${(ms / 1000).toFixed(1)} s`);
    check(`${how} is within the limit after the reboot`, ms > limitedMs * 0.75, true);
  }
  check('unpublished', await fixture.unpublish(name), ok);
  check('unstaged', await fixture.unstage(name), ok);
  check('nothing is limited after unstage', await limitLines(), []);
  await pod.remove();
  const stateMount = `mount ${join(fixture.testNode.directory, 'state')}`;
  check('nothing is left but the mount of this test', await fixture.end(), [stateMount]);
}

await (process.argv[2] === 'first' ? first() : again());
