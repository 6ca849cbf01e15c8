import { FreezeGroup, type GroupEnd } from './group.ts';
import { lineReader, type ToChild, writeLine } from './protocol.ts';

/**
 * The process that holds freezes (freezer.ts starts it): it freezes, and thaws when it is told to, when the bound has
 * passed, or when its standard input closes, which the kernel does for a parent that was killed. It ends once nothing is
 * frozen any more. A container whose first process is the driver loses this one with it: start-up's thaw is for that.
 */

const groups = new Map<number, FreezeGroup>();

function reportEnd(id: number, end: GroupEnd): void {
  groups.delete(id);
  if (end.end === 'failed') writeLine(process.stdout, { say: 'failed', id, failure: end.failure });
  else {
    const { frozenMs } = end;
    writeLine(process.stdout, { say: 'thawed', id, frozenMs, expired: end.end === 'expired' });
  }
}

async function handleRequest(message: ToChild): Promise<void> {
  const { id } = message;
  if (message.ask === 'thaw') {
    await groups.get(id)?.thaw();
    return;
  }
  const group = new FreezeGroup((end) => {
    reportEnd(id, end);
  });
  groups.set(id, group);
  if (await group.freeze(message.targets, message.boundMs))
    writeLine(process.stdout, { say: 'frozen', id });
}

// A service manager's stop reaches the whole control group: the parent then finishes its work first, and closes the pipe.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
// With the parent gone there is nobody to write to; thawing must go on all the same.
process.stdout.on('error', () => undefined);

const read = lineReader<ToChild>((message) => void handleRequest(message));
process.stdin.setEncoding('utf8');
process.stdin.on('data', (chunk: string) => {
  read(chunk);
});
process.stdin.on('end', () => {
  for (const group of groups.values()) void group.thaw();
});
