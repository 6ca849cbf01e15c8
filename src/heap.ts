/** The size of the heap of the processes that run for long: the driver and the controller. */
import { setFlagsFromString } from 'node:v8';

/**
 * Both are heuristics that V8 reads whenever it sizes its heap, so they can be set after its start; on the command line of Node they would
 * also make every start slower, since Node's cache of compiled code depends on the flags. A version of V8 that does not know one of
 * them ignores it, with a line on standard error.
 */
const flags = [
  // On a machine with much memory, V8 lets the heap grow to four times what is still used before it collects all of it.
  '--heap-growing-percent=60',
  // New objects get up to 48 MiB by default, which a process keeps after its first busy minute.
  '--semi-space-growth-factor=1',
] as const;

/** Makes V8 collect earlier, so that a process that was busy once does not keep the memory. docs/benchmarks.md has the difference. */
export function limitHeapGrowth(): void {
  for (const flag of flags) setFlagsFromString(flag);
}
