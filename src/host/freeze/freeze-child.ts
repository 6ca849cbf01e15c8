import { FreezeGroup, type GroupEnd } from './group.ts';
import { lineReader, type ToChild, writeLine } from './protocol.ts';

/**
 * The process that owns freezes (freezer.ts starts it). It thaws when told to, at the time limit, or when its standard
 * input closes, which the kernel does for a parent that was killed. It ends once nothing is frozen. A container whose
 * first process is the driver loses this process with it; for that case, filesystems are thawed at start-up.
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
  if (await group.freeze(message.targets, message.timeoutMs))
    writeLine(process.stdout, { say: 'frozen', id });
}

// A stop by the service manager reaches the whole control group. The parent finishes its work first, then closes the
// pipe.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
// If the parent is gone, writes fail, but thawing must go on.
process.stdout.on('error', () => undefined);

const read = lineReader<ToChild>((message) => void handleRequest(message));
process.stdin.setEncoding('utf8');
process.stdin.on('data', (chunk: string) => {
  read(chunk);
});
process.stdin.on('end', () => {
  for (const group of groups.values()) void group.thaw();
});
