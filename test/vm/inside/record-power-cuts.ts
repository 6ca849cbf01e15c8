/**
 * Runs in the machine: `record-power-cuts ROUNDS FILESYSTEM…`. For each filesystem it makes a pool on a disk whose writes are all
 * logged, runs the workload, and writes the requested and acknowledged changes to `/out`. The log stays on its disk.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import {
  beginMark,
  type Change,
  endMark,
  formattedMark,
  type Recording,
} from '../power-cuts/acknowledgements.ts';
import { type PoolFilesystem, poolFilesystems, recordingDisks } from '../power-cuts/recording.ts';
import { replacedModule } from '../power-cuts/replaced-module.ts';
import { LoggedDisk } from './logged-disk.ts';
import { workOn } from './pool-work.ts';

async function record(type: PoolFilesystem, rounds: number, isPlain: boolean): Promise<number> {
  const names = recordingDisks(type);
  const disks = { disk: `/dev/vm/${names.disk}`, log: `/dev/vm/${names.log}` };
  const disk = await LoggedDisk.make(`loopcsi-${type}`, disks);
  const changes: Change[] = [];
  try {
    // Made on the logged device, so that the log has all content of the disk.
    await execa(`mkfs.${type}`, ['-q', disk.path]);
    await execa('sync', [disk.path]);
    await disk.mark(formattedMark);
    await workOn(disk.path, {
      type,
      rounds,
      isPlain,
      acknowledge: async (change, call) => {
        const number = changes.push(change) - 1;
        await disk.mark(beginMark(number));
        const answer = await call();
        await disk.mark(endMark(number));
        return answer;
      },
    });
  } finally {
    await disk.remove();
  }
  const { stdout: poolBytes } = await execa('blockdev', ['--getsize64', disks.disk]);
  const recording: Recording = {
    poolFilesystem: type,
    poolBytes: Number(poolBytes),
    kernel: (await readFile('/proc/sys/kernel/osrelease', 'utf8')).trim(),
    changes,
  };
  await writeFile(join('/out', `${type}.json`), JSON.stringify(recording));
  return changes.length;
}

const [rounds, ...wanted] = process.argv.slice(2);
const replaced = replacedModule(process.env);
if (replaced !== undefined) {
  await writeFile(join('dist', 'src', replaced.file), replaced.text);
}
// The shipped bundle has no separate modules to replace.
const isPlain = replaced === undefined;
for (const type of poolFilesystems.filter((one) => wanted.includes(one))) {
  const calls = await record(type, Number(rounds), isPlain);
  console.log(`ok ${type}: ${calls} calls were recorded`);
}
