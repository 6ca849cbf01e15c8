import { createRequire } from 'node:module';
import { arch } from 'node:process';
import { messageOf } from '../../errors.ts';
import { KernelError } from '../errors.ts';
import type { Lane } from '../lane.ts';
import { errnoName } from './abi.ts';
import { type GateOptions, gate } from './gate.ts';

/** Functions of the C library, called through koffi. Only this file imports koffi; calls.ts has the typed calls. */

type Argument = number | bigint | string | null | Uint8Array;
type Callback = (error: Error | null, result: number | bigint) => void;
/** A C function as koffi exposes it. */
interface Native {
  (...args: readonly Argument[]): number | bigint;
  async(...args: readonly (Argument | Callback)[]): void;
}
interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): Native };
  errno(): number;
}

interface Libc {
  readonly koffi: Koffi;
  readonly mount: Native;
  readonly umount2: Native;
  readonly fallocate: Native;
  readonly lseek: Native;
  readonly flock: Native;
  readonly syncfs: Native;
  readonly fopen: Native;
  readonly fread: Native;
  readonly ferror: Native;
  readonly fclose: Native;
  readonly mknodat: Native;
  readonly exit: Native;
  readonly ioctlNumber: Native;
  readonly ioctlBuffer: Native;
  /** syscall(2), declared once for each combination of argument types. */
  readonly openat2: Native;
  readonly openTree: Native;
  readonly mountSetattr: Native;
  readonly moveMount: Native;
  readonly fsopen: Native;
  readonly fsconfig: Native;
  readonly fsmount: Native;
  readonly renameat2: Native;
  readonly copyFileRange: Native;
  readonly statx: Native;
  readonly llistxattr: Native;
  readonly lgetxattr: Native;
}

/** File names of the C library: glibc, then musl. */
const libcNames = ['libc.so.6', `libc.musl-${arch === 'x64' ? 'x86_64' : 'aarch64'}.so.1`];

let loaded: Libc | undefined;

/**
 * Returns the functions of the C library; koffi is loaded on first use. Throws an Error with advice if koffi has no
 * library for this machine: `serve` exits with it, and `doctor` reports it.
 */
export function libc(): Libc {
  loaded ??= bindLibc(requireKoffi());
  return loaded;
}

function requireKoffi(): Koffi {
  try {
    // Loaded on demand, so that commands without kernel calls need neither the time nor koffi itself. koffi's own types
    // are `any`, so the types are declared here.
    return createRequire(import.meta.url)('koffi') as Koffi;
  } catch (error) {
    throw new Error(
      `system calls cannot be made: koffi has no library for ${process.platform}-${arch} (${messageOf(error)}); ` +
        `run \`npm ci\` on this machine, with its optional packages`,
      { cause: error },
    );
  }
}

function bindLibc(koffi: Koffi): Libc {
  const library = openLibrary(koffi);
  const long = 'long';
  // ioctl and syscall are variadic in C, but koffi has no asynchronous form of variadic functions. So each combination
  // of argument types is declared.
  const system = (...parameters: readonly string[]) =>
    library.func('syscall', long, [long, ...parameters]);
  return {
    koffi,
    mount: library.func('mount', 'int', ['str', 'str', 'str', 'unsigned long', 'str']),
    umount2: library.func('umount2', 'int', ['str', 'int']),
    fallocate: library.func('fallocate', 'int', ['int', 'int', 'int64_t', 'int64_t']),
    lseek: library.func('lseek', 'int64_t', ['int', 'int64_t', 'int']),
    flock: library.func('flock', 'int', ['int', 'int']),
    syncfs: library.func('syncfs', 'int', ['int']),
    fopen: library.func('fopen', 'intptr_t', ['str', 'str']),
    fread: library.func('fread', 'size_t', ['_Inout_ uint8_t *', 'size_t', 'size_t', 'intptr_t']),
    ferror: library.func('ferror', 'int', ['intptr_t']),
    fclose: library.func('fclose', 'int', ['intptr_t']),
    mknodat: system('int', 'str', 'unsigned int', 'unsigned int'),
    exit: library.func('_exit', 'void', ['int']),
    ioctlNumber: library.func('ioctl', 'int', ['int', 'unsigned long', 'long']),
    ioctlBuffer: library.func('ioctl', 'int', ['int', 'unsigned long', '_Inout_ uint8_t *']),
    openat2: system('int', 'str', '_Inout_ uint8_t *', long),
    openTree: system('int', 'str', 'unsigned int'),
    mountSetattr: system('int', 'str', 'unsigned int', '_Inout_ uint8_t *', long),
    moveMount: system('int', 'str', 'int', 'str', 'unsigned int'),
    fsopen: system('str', 'unsigned int'),
    fsconfig: system('int', 'unsigned int', 'str', 'str', 'int'),
    fsmount: system('int', 'unsigned int', 'unsigned int'),
    renameat2: system('int', 'str', 'int', 'str', 'unsigned int'),
    llistxattr: library.func('llistxattr', long, ['_In_ uint8_t *', '_Inout_ uint8_t *', 'size_t']),
    lgetxattr: library.func('lgetxattr', long, [
      '_In_ uint8_t *',
      '_In_ uint8_t *',
      '_Inout_ uint8_t *',
      'size_t',
    ]),
    statx: system('int', 'str', 'int', 'unsigned int', '_Inout_ uint8_t *'),
    copyFileRange: system(
      'int',
      '_Inout_ uint8_t *',
      'int',
      '_Inout_ uint8_t *',
      long,
      'unsigned int',
    ),
  };
}

function openLibrary(koffi: Koffi): ReturnType<Koffi['load']> {
  const failures: string[] = [];
  for (const name of libcNames) {
    try {
      return koffi.load(name);
    } catch (error) {
      failures.push(messageOf(error));
    }
  }
  throw new Error(`no C library could be loaded: ${failures.join('; ')}`);
}

/** The name of a call and the object it acts on, for error messages. */
interface CallInfo {
  readonly name: string;
  readonly subject: string;
}

/** Calls a C function asynchronously through the gate. */
export function call(
  lane: Lane,
  info: CallInfo,
  native: Native,
  args: readonly Argument[],
  options?: GateOptions<number>,
): Promise<number> {
  return gate.run(lane, info.name, () => callAsync(info, native, args), options);
}

/**
 * Calls a C function asynchronously, without the gate, and repeats it on EINTR. A repeated call still refers to the
 * same file: no descriptor is closed while a call of its lane runs (`Gate.runEventually`).
 */
export function callAsync(
  info: CallInfo,
  native: Native,
  args: readonly Argument[],
): Promise<number> {
  return new Promise<number>((resolve, reject) => {
    const attempt = () => {
      native.async(...args, (error, result) => {
        if (error !== null) reject(error);
        else if (result >= 0) resolve(Number(result));
        else {
          const errno = errnoName(libc().koffi.errno());
          if (errno === 'EINTR') attempt();
          else reject(new KernelError(info.name, errno, info.subject));
        }
      });
    };
    attempt();
  });
}

/**
 * fread(3) of a buffer, asynchronously and without the gate. `errno` is only meaningful if ferror(3) then reports a
 * failure. It is read in the callback, since every later call of the C library may change it.
 */
export function freadAsync(
  buffer: Uint8Array,
  file: Argument,
): Promise<{ readonly length: number; readonly errno: string }> {
  const { fread, koffi } = libc();
  return new Promise((resolve, reject) => {
    fread.async(buffer, 1, buffer.length, file, (error, result) => {
      if (error !== null) reject(error);
      else resolve({ length: Number(result), errno: errnoName(koffi.errno()) });
    });
  });
}

/** Calls a C function synchronously, for functions that never block in the kernel. */
export function callSync(info: CallInfo, native: Native, args: readonly Argument[]): number {
  const result = native(...args);
  if (result >= 0) return Number(result);
  throw new KernelError(info.name, errnoName(libc().koffi.errno()), info.subject);
}
