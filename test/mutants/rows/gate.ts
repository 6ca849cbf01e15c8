import type { Subject } from '../defect.ts';

export const gate: Subject = {
  title: 'Calls that hang',
  rows: [
    {
      name: 'two calls of one lane run at once',
      file: 'host/gate.ts',
      find: /if \(lane\.running !== undefined\) return;/,
      replace: '',
      tests: ['host/gate'],
    },
    {
      name: 'one lane waits for another',
      file: 'host/gate.ts',
      find: 'const owner = presentOwner();',
      replace: "const owner = { ...presentOwner(), name: 'driver' };",
      tests: ['host/gate'],
    },
    {
      name: 'a descriptor is closed while a hung call uses it',
      file: 'host/gate.ts',
      find: 'lane.waiting.push(entry); resolve();',
      replace: 'void work(); resolve();',
      tests: ['host/gate'],
    },
    {
      name: "a directory's descriptor is closed while a hung call uses it",
      file: 'host/descriptor.ts',
      find: /if \(isPlace && !isStuck\) (closeSync\([^;]*;)/,
      replace: 'if (isPlace) $1',
      tests: ['host/hung-calls'],
    },
    {
      name: 'one pool takes every thread',
      file: 'host/gate.ts',
      find: /return Math\.min\(this\.#free, [^;]*;/,
      replace: 'return this.#free;',
      tests: ['host/gate'],
    },
    {
      name: 'a hung call gives its thread back',
      file: 'host/gate.ts',
      find: 'lane.stuck = true; entry',
      replace: 'lane.stuck = true; this.#hold(entry, -entry.threads); entry',
      tests: ['host/gate'],
    },
    {
      name: 'a mount table that was read in part is used',
      file: 'host/kernel.ts',
      find: /if \(ferror\(\w+\) !== 0\) throw [^;]*;/,
      replace: '',
      tests: ['host/kernel-text'],
    },
  ],
};
