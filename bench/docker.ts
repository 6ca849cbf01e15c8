/** Creates volumes and runs containers with them, alternating between this driver and Docker's local driver. */
import { access } from 'node:fs/promises';
import * as v from 'valibot';
import { dockerPrograms, startDaemon } from '../test/docker/daemon.ts';
import { busybox, makeNode, openLab } from '../test/docker/lab.ts';
import { driverName, startPlugin } from '../test/docker/plugin.ts';
import { asMarkdown, percentile, Timings } from './measure.ts';

const rounds = 15;
const drivers = [
  { name: 'local', options: [] },
  { name: driverName, options: ['--opt', 'size=1Gi'] },
] as const;

/** Returns the timings as Markdown. The first round is a warm-up and is not counted. */
export async function benchDocker(): Promise<string> {
  const isInstalled = await access(dockerPrograms.daemon).then(
    () => true,
    () => false,
  );
  if (!isInstalled) return `Not measured: ${dockerPrograms.daemon} is not installed.`;
  const lab = await openLab();
  try {
    const node = await makeNode(lab, 'bench');
    const plugin = await startPlugin(lab, node, { nodeId: 'bench' });
    const { docker } = await startDaemon(lab, node);
    const timings = new Timings();
    for (let round = 0; round <= rounds; round += 1) {
      for (const { name, options } of drivers) {
        const volume = `${name}-${round}`;
        const time = round === 0 ? untimed : timings.time.bind(timings);
        await time(`${name}: create a volume and run a container`, async () => {
          await time(`${name}: volume create`, () =>
            docker('volume', 'create', '--driver', name, ...options, volume),
          );
          await docker('run', '--rm', '--volume', `${volume}:/data`, busybox, 'touch', '/data/x');
        });
        await time(`${name}: volume rm`, () => docker('volume', 'rm', volume));
      }
    }
    const head = ['', 'p50, ms', 'p99, ms'];
    const calls = pluginCallsIn(await plugin.log());
    return `${asMarkdown(head, timings.rows())}\n\nThe driver's part of these times, by plugin call:\n\n${asMarkdown(head, calls)}`;
  } finally {
    await lab.close();
  }
}

const callEnded = v.object({ rpc: v.string(), durationMs: v.number() });

/** Durations of plugin calls that change state, from the driver's log. Other calls are logged only at level trace. */
function pluginCallsIn(log: string): readonly (readonly string[])[] {
  const durations = new Map<string, number[]>();
  for (const line of log.split('\n').filter((text) => text.startsWith('{'))) {
    const { success, output } = v.safeParse(callEnded, JSON.parse(line));
    if (!success || !output.rpc.startsWith('docker ')) continue;
    durations.set(output.rpc, [...(durations.get(output.rpc) ?? []), output.durationMs]);
  }
  return [...durations].map(([rpc, values]) => [
    rpc.replace('docker ', ''),
    percentile(values, 50).toFixed(0),
    percentile(values, 99).toFixed(0),
  ]);
}

async function untimed<T>(_name: string, work: () => Promise<T>): Promise<T> {
  return work();
}
