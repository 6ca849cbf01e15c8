/**
 * Runs in the machine, started by its init: runs the job that the host has written to the disk `loopcsi-job`. The output of the job
 * goes to the serial port at once; its files in `/out` are written to the disk `loopcsi-out` at the end.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeSync } from 'node:fs';
import { release, uptime } from 'node:os';
import * as v from 'valibot';
import { endedLine, upLine } from '../machine/console.ts';

const jobShape = v.object({
  argv: v.array(v.string()),
  environment: v.record(v.string(), v.string()),
});

const say = (line: string): void => void writeSync(1, `${line}\n`);

const text = readFileSync('/dev/vm/loopcsi-job', 'utf8').replace(/\0+$/, '');
const { argv, environment } = v.parse(jobShape, JSON.parse(text));
const [file = '', ...args] = argv;

say(upLine(release(), uptime()));
const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, ...environment } });
await once(child, 'exit');
const packed = spawnSync('tar', ['-C', '/out', '-cf', '/dev/vm/loopcsi-out', '.'], {
  stdio: ['ignore', 'inherit', 'inherit'],
});
say(endedLine(packed.status === 0 ? (child.exitCode ?? 1) : 1));
