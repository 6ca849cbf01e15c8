/** The size of the heap of the processes that run for long: the driver and the controller. */
import { setFlagsFromString } from 'node:v8';

/**
 * On a machine with much memory, V8 lets the heap grow to four times what is still used before it collects all of it, and a process that
 * was busy once keeps that memory. With this value it collects after a growth of 60 percent (docs/decisions/0029).
 *
 * V8 reads this heuristic at every collection, so it can be set after the start. On the command line of Node it would make the start
 * slower, because Node's cache of compiled code depends on the flags. A version of V8 that does not know it ignores it, with a line on
 * standard error.
 */
const flag = '--heap-growing-percent=60';

export function limitHeapGrowth(): void {
  setFlagsFromString(flag);
}
