import type { LoopDevice } from '../../src/host/host.ts';
import { makeRealHost } from '../../src/host/real-host.ts';

/** Freezes the filesystem that its arguments name, prints `frozen`, and waits until the freezer's tests kill it. */
const [target = '', path = '', majorMinor = ''] = process.argv.slice(2);
const device: LoopDevice = {
  number: 0,
  path,
  majorMinor,
  backing: { device: 0n, inode: 0n },
  label: '',
  readOnly: false,
  directIo: true,
  autoclear: false,
  sectorSize: 4096,
  sizeBytes: 0n,
};
await makeRealHost().freezer.freeze([{ target, device }], { timeoutMs: 40_000 });
process.stdout.write('frozen');
setInterval(() => undefined, 60_000);
