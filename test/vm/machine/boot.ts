/** Boots a machine with QEMU, reads its output, and ends it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { attempt } from '../../../scripts/command.ts';
import { type Emulation, emulations } from './architecture.ts';
import { findCrash, Lines, progressOf } from './console.ts';
import { withParent } from './contained.ts';
import type { MachineFiles } from './make.ts';

/** A running machine. */
export interface Boot {
  /** Resolves when QEMU has ended, for any reason. */
  readonly ended: Promise<End>;
  /** Sends SIGKILL to QEMU: data that the machine had not made durable is lost. Returns when QEMU has ended. */
  cutPower(): Promise<void>;
}

/** How a machine ended. `console` is the end of its kernel log. */
export type End =
  | {
      readonly kind: 'job-ended';
      readonly exitCode: number;
      readonly seconds: number;
      readonly console: string;
    }
  | { readonly kind: 'power-cut' }
  | { readonly kind: 'crashed'; readonly line: string; readonly console: string }
  | { readonly kind: 'never-up' | 'broke-off' | 'aborted'; readonly console: string };

export interface AttachedDisk {
  readonly name: string;
  readonly image: string;
  readonly cache: string;
}

export interface BootOptions {
  readonly machine: MachineFiles;
  readonly payload: string;
  readonly disks: readonly AttachedDisk[];
  readonly memoryMiB: number;
  readonly kernelArguments: readonly string[];
  /** An existing directory for all files of this boot: sockets, console, output. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

export interface Job {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** An emulated boot takes five seconds on an idle host, and has taken two minutes on a host with twenty busy processes. */
const upWithinMs = 600_000;
const outBytes = '2G';
const jobBytes = 1024 * 1024;

const emulationOf = (options: BootOptions): Emulation => emulations[options.machine.architecture];
const fileOf = (options: BootOptions, name: string): string => join(options.directory, name);

/** Starts a machine that runs a job. Each line that the job prints is passed to `onLine`. */
export async function bootJob(
  options: BootOptions,
  job: Job,
  onLine: (line: string) => void,
): Promise<Boot> {
  await writeJob(options, job);
  let exitCode: number | undefined;
  let isUp = false;
  const startedAtMs = Date.now();
  const lines = new Lines((line) => {
    const progress = progressOf(line);
    if (progress === undefined) return onLine(line);
    if (progress.kind === 'ended') {
      exitCode = progress.exitCode;
      return;
    }
    isUp = true;
    onLine(`# Linux ${progress.kernel} has booted after ${progress.seconds} s`);
  });
  const server = await listen(fileOf(options, 'job.sock'), lines);
  const consoleFile = fileOf(options, 'console');
  const log = await open(consoleFile, 'w');
  const child = startQemu(
    options,
    ['-serial', 'stdio', ...jobPort(options)],
    ['ignore', log.fd, log.fd],
  );
  await log.close();
  let isCut = false;
  const kill = (): void => void child.kill('SIGKILL');
  const upTimer = setTimeout(() => {
    if (!isUp) kill();
  }, upWithinMs);
  options.signal.addEventListener('abort', kill, { once: true });
  if (options.signal.aborted) kill();
  const end = async (): Promise<End> => {
    try {
      await once(child, 'close');
    } finally {
      clearTimeout(upTimer);
      options.signal.removeEventListener('abort', kill);
      await close(server);
      lines.end();
    }
    const text = await readFile(consoleFile, 'utf8');
    const crash = findCrash(text);
    const console = text.slice(-4000);
    if (crash !== undefined) return { kind: 'crashed', line: crash, console };
    if (exitCode !== undefined) {
      await unpackOut(options);
      return { kind: 'job-ended', exitCode, seconds: (Date.now() - startedAtMs) / 1000, console };
    }
    if (isCut) return { kind: 'power-cut' };
    if (options.signal.aborted) return { kind: 'aborted', console };
    return { kind: isUp ? 'broke-off' : 'never-up', console };
  };
  const ended = end();
  return {
    ended,
    cutPower: async () => {
      isCut = true;
      kill();
      await ended;
    },
  };
}

/** Starts a machine with a shell on this terminal, and returns when the shell has ended. */
export async function bootShell(options: BootOptions): Promise<void> {
  await writeJob(options, { argv: [], environment: {} });
  const kernelArguments = [...options.kernelArguments, 'loopcsi.shell'];
  const child = startQemu(
    { ...options, kernelArguments },
    // The shell must get the terminal's control characters, such as Ctrl-C.
    ['-chardev', 'stdio,id=terminal,signal=off', '-serial', 'chardev:terminal'],
    'inherit',
  );
  const kill = (): void => void child.kill('SIGKILL');
  options.signal.addEventListener('abort', kill, { once: true });
  await once(child, 'close');
  options.signal.removeEventListener('abort', kill);
}

/** The machine reads the job from a disk: a serial port would need a protocol in both directions. */
async function writeJob(options: BootOptions, job: Job): Promise<void> {
  const disk = Buffer.alloc(jobBytes);
  disk.write(JSON.stringify(job));
  await writeFile(fileOf(options, 'job'), disk);
  await rm(fileOf(options, 'out.tar'), { force: true });
  await attempt('truncate', [`--size=${outBytes}`, fileOf(options, 'out.tar')]);
}

/** QEMU connects to this socket before the machine starts, so none of its output is lost. */
async function listen(path: string, lines: Lines): Promise<Server> {
  await rm(path, { force: true });
  const server = createServer((socket) => {
    socket.setEncoding('utf8');
    socket.on('data', (text) => lines.add(String(text)));
    // The connection may be reset when QEMU ends.
    socket.on('error', () => undefined);
  });
  server.listen(path);
  await once(server, 'listening');
  return server;
}

async function close(server: Server): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  await closed;
}

function jobPort(options: BootOptions): readonly string[] {
  const path = fileOf(options, 'job.sock');
  return ['-chardev', `socket,id=job,path=${path}`, ...emulationOf(options).jobPort];
}

function startQemu(
  options: BootOptions,
  serial: readonly string[],
  stdio: 'inherit' | ['ignore', number, number],
) {
  const { qemu, board, consoleDevice, jobDevice, kernelArguments } = emulationOf(options);
  const devices = [`console=${consoleDevice}`, `loopcsi.port=${jobDevice}`];
  const always = [...devices, 'quiet', 'panic=-1', 'oops=panic', ...kernelArguments];
  const commandLine = [...always, ...options.kernelArguments];
  const [file = '', ...args] = [
    ...withParent,
    qemu,
    // Emulation, even if the host has KVM: the machine is the same everywhere, and nested KVM has its own failures.
    ...[...board, '-accel', 'tcg,thread=multi', '-smp', '2', '-m', `${options.memoryMiB}M`],
    ...['-nodefaults', '-no-reboot', '-display', 'none', '-device', 'virtio-rng-pci'],
    ...['-kernel', options.machine.kernel, '-initrd', options.machine.initrd],
    ...['-append', commandLine.join(' ')],
    ...serial,
    ...disksOf(options).flatMap(driveArguments),
  ];
  return spawn(file, args, { stdio, env: { ...process.env, TMPDIR: options.directory } });
}

interface Drive extends AttachedDisk {
  /** Changes go to a temporary file that QEMU has unlinked already. */
  readonly isThrowAway?: boolean;
}

function disksOf(options: BootOptions): readonly Drive[] {
  const { machine, payload, disks } = options;
  return [
    { name: 'loopcsi-base', image: machine.base, cache: 'unsafe', isThrowAway: true },
    { name: 'loopcsi-payload', image: payload, cache: 'unsafe', isThrowAway: true },
    { name: 'loopcsi-job', image: fileOf(options, 'job'), cache: 'unsafe' },
    { name: 'loopcsi-out', image: fileOf(options, 'out.tar'), cache: 'unsafe' },
    ...disks,
  ];
}

function driveArguments({ name, image, cache, isThrowAway = false }: Drive): readonly string[] {
  const layer = isThrowAway ? ',snapshot=on' : '';
  return [
    '-drive',
    `if=none,id=${name},format=raw,file=${image},cache=${cache},discard=unmap${layer}`,
    '-device',
    `virtio-blk-pci,drive=${name},serial=${name}`,
  ];
}

/** Unpacks the job's `/out` to `DIRECTORY/out`. */
async function unpackOut(options: BootOptions): Promise<void> {
  const out = fileOf(options, 'out');
  await rm(out, { recursive: true, force: true });
  await mkdir(out);
  await attempt('tar', ['--extract', '--file', fileOf(options, 'out.tar'), '--directory', out]);
}
