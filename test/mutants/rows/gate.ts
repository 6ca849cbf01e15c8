import type { Subject } from '../defect.ts';

export const gate: Subject = {
  title: 'Calls that hang',
  rows: [
    {
      name: 'two calls of one lane run at once',
      file: 'host/kernel/gate.ts',
      find: /if \(queue\.running !== undefined\) return;/,
      replace: '',
      tests: ['host/kernel/gate'],
    },
    {
      name: 'one lane waits for another',
      file: 'host/kernel/gate.ts',
      find: '#queueOf({ name }: Lane): Queue {',
      replace: "#queueOf(_lane: Lane): Queue { const name = 'driver';",
      tests: ['host/kernel/gate'],
    },
    {
      name: 'a descriptor is closed while a hung call uses it',
      file: 'host/kernel/gate.ts',
      find: 'queue.waiting.push(pending); resolve();',
      replace: 'void work(); resolve();',
      tests: ['host/kernel/gate'],
    },
    {
      name: "a directory's descriptor is closed while a hung call uses it",
      file: 'host/kernel/descriptor.ts',
      find: /if \((\w+) && !isStuck\) (closeSync\([^;]*;)/,
      replace: 'if ($1) $2',
      tests: ['host/kernel/hung-calls'],
    },
    {
      name: 'one pool takes every thread',
      file: 'host/kernel/gate.ts',
      find: /return Math\.min\(this\.#freeSlots, [^;]*;/,
      replace: 'return this.#freeSlots;',
      tests: ['host/kernel/gate'],
    },
    {
      name: 'a hung call gives its thread back',
      file: 'host/kernel/gate.ts',
      find: 'queue.stuck = true; pending',
      replace: 'queue.stuck = true; this.#adjustSlots(pending, -pending.threads); pending',
      tests: ['host/kernel/gate'],
    },
    {
      name: 'a mount table that was read in part is used',
      file: 'host/kernel/calls.ts',
      find: /if \(ferror\(\w+\) !== 0\) throw [^;]*;/,
      replace: '',
      tests: ['host/kernel/text'],
    },
  ],
};
