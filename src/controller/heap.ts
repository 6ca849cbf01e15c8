/** The heap of a controller that talks to many nodes. */
import { setFlagsFromString } from 'node:v8';

/**
 * A call to a thousand nodes leaves much garbage that has lived long. On a machine with much memory, V8 by default lets the heap grow to
 * four times what is still used before it collects that, so most of the memory of a busy controller would be garbage.
 */
const growthPercent = 60;

/** Makes V8 collect when the heap has grown by `growthPercent` since the last time. `npm run bench controller` measures the memory. */
export function limitHeapGrowth(): void {
  setFlagsFromString(`--heap-growing-percent=${growthPercent}`);
}
