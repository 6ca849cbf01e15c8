import { FreezeGroup, type GroupEnd } from './group.ts';
import { type FreezeRequest, lineReader, writeLine } from './protocol.ts';

/**
 * The process that owns freezes (started by client.ts). It thaws on request, at the time limit, or when its standard
 * input closes, which the kernel does if the parent is killed; then it exits once nothing is frozen. If the driver is
 * the first process of a container, this process is killed along with it; in that case, recovery thaws the filesystems.
 */

const groups = new Map<number, FreezeGroup>();

function reportEnd(id: number, end: GroupEnd): void {
  groups.delete(id);
  if (end.end === 'failed')
    writeLine(process.stdout, { report: 'failed', id, failure: end.failure });
  else {
    const { frozenMs } = end;
    writeLine(process.stdout, { report: 'thawed', id, frozenMs, expired: end.end === 'expired' });
  }
}

async function handleRequest(message: FreezeRequest): Promise<void> {
  const { id } = message;
  if (message.request === 'thaw') {
    await groups.get(id)?.thaw();
    return;
  }
  const group = new FreezeGroup((end) => {
    reportEnd(id, end);
  });
  groups.set(id, group);
  if (await group.freeze(message.targets, message.timeoutMs))
    writeLine(process.stdout, { report: 'frozen', id });
}

// When the service manager stops the driver, its signal reaches the whole control group. The parent finishes its work
// first, then closes the pipe.
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
// If the parent has ended, writes fail, but thawing must continue.
process.stdout.on('error', () => undefined);

const read = lineReader<FreezeRequest>((message) => void handleRequest(message));
process.stdin.setEncoding('utf8');
process.stdin.on('data', (chunk: string) => {
  read(chunk);
});
process.stdin.on('end', () => {
  for (const group of groups.values()) void group.thaw();
});
