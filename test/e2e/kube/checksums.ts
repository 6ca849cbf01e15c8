/** A pod that continuously writes files and verifies checksums, so that every interruption or damage is detected. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { ClusterNode } from '../cluster/node.ts';
import { eventually } from '../eventually.ts';
import { textAt } from './api.ts';
import { firstNode, type Scenario } from './scenario.ts';

/**
 * Each round writes new content with its checksum to one of twenty files, renames it into place, verifies another file, and adds
 * a line `round second` to the log. A wrong checksum ends the container with exit code 1.
 */
const work = `
cd /data
round=$(tail -1 log 2>/dev/null | cut -d' ' -f1); round=\${round:-0}
for sum in *.sum; do [ ! -e "$sum" ] || sha256sum -c -s "$sum" || { echo "damaged: $sum"; exit 1; }; done
while :; do
  round=$((round + 1)); slot=$((round % 20)); other=$((round * 7 % 20))
  head -c 65536 /dev/urandom >new || { echo "cannot write"; exit 1; }
  sync new; rm -f $slot.sum; mv new $slot; sha256sum $slot >$slot.sum.new && sync $slot.sum.new && mv $slot.sum.new $slot.sum || exit 1
  [ ! -e $other.sum ] || sha256sum -c -s $other.sum || { echo "damaged: $other"; exit 1; }
  echo "$round $(date +%s)" >>log
done`;

export class Checker {
  readonly #scenario: Scenario;
  readonly name: string;
  readonly node: ClusterNode;

  private constructor(scenario: Scenario, name: string, node: ClusterNode) {
    this.#scenario = scenario;
    this.name = name;
    this.node = node;
  }

  static async start(
    scenario: Scenario,
    name: string,
    storageClass: string,
    node: ClusterNode = firstNode,
  ): Promise<Checker> {
    await scenario.claim(name, { storageClass, size: '320Mi' });
    // The checks run in the container's first process, so that the container ends with them.
    await scenario.readyPod(name, {
      claims: { '/data': name },
      node: node.name,
      script: `touch /tmp/ready; ${work}`,
    });
    const checker = new Checker(scenario, name, node);
    await checker.stillWrites();
    return checker;
  }

  async volumeId(): Promise<string> {
    return this.#scenario.volumeId(this.name);
  }

  async rounds(): Promise<number> {
    return Number(await this.#scenario.sh(this.name, 'tail -1 /data/log | cut -d" " -f1'));
  }

  /** The last round, read on the node, for a pod that the API server cannot reach. */
  async roundsOnNode(): Promise<number> {
    const id = await this.volumeId();
    const staged = (await this.node.mountPoints()).filter((path) => path.endsWith('/globalmount'));
    for (const mountPoint of staged) {
      const target = await this.node.pathOf(mountPoint);
      const data = await readFile(join(target, '..', 'vol_data.json'), 'utf8').catch(() => '');
      if (!data.includes(id)) continue;
      const log = await readFile(join(target, 'log'), 'utf8');
      return Number(log.trim().split('\n').at(-1)?.split(' ')[0]);
    }
    throw new Error(`${id} is not staged on ${this.node.name}`);
  }

  /** Waits for three more rounds, read on the node. */
  async stillWritesOnNode(): Promise<void> {
    const before = await this.roundsOnNode();
    await eventually(`${this.name} to write on`, async () =>
      (await this.roundsOnNode()) >= before + 3 ? true : undefined,
    );
  }

  /** Waits for three more rounds. */
  async stillWrites(): Promise<number> {
    const before = await this.rounds().catch(() => 0);
    return eventually(`${this.name} to write on`, async () => {
      const now = await this.rounds();
      return now >= before + 3 ? now : undefined;
    });
  }

  /** Waits until the pod has written more rounds than `rounds`. After a reboot, what Kubernetes says about the pod can be from before. */
  async untilBack(rounds: number): Promise<void> {
    await eventually(
      `${this.name} to be back`,
      async () => ((await this.rounds()) > rounds ? true : undefined),
      { timeoutMs: 180_000 },
    );
  }

  /** The longest pause between two rounds, in seconds. */
  async longestPause(): Promise<number> {
    const script = `awk 'NR > 1 && $2 - last > most {most = $2 - last} {last = $2} END {print most + 0}' /data/log`;
    return Number(await this.#scenario.sh(this.name, script));
  }

  async restarts(): Promise<number> {
    const pod = await this.#scenario.get('Pod', this.name);
    return Number(textAt(pod, 'status.containerStatuses.0.restartCount'));
  }

  /**
   * Asserts that the pod still writes, no round is missing, and its container was restarted `restarts` times: a container that
   * found damage would have ended.
   */
  async assertWhole(t: ExecutionContext, restarts = 0): Promise<void> {
    await this.stillWrites();
    t.is(await this.restarts(), restarts, `${this.name} was restarted`);
    const gap = `awk '$1 != NR {print "round " $1 " is in line " NR; exit}' /data/log`;
    t.is(await this.#scenario.sh(this.name, gap), '');
  }
}
