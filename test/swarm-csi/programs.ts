/** A dockerd with cluster volumes, built from Go modules, since Debian's is older. `test/go/docker/go.mod` names the releases. */
import { join } from 'node:path';
import { run } from '../../scripts/command.ts';
import { cached, hashInputs, projectRoot } from '../e2e/cluster/cache.ts';

const module = 'test/go/docker';
const hour = 3_600_000;

/** The directory with dockerd, docker-proxy and runc. A build takes some ten minutes on two cores and is cached. */
export async function swarmPrograms(): Promise<string> {
  const go = (args: readonly string[], env: Readonly<Record<string, string>>): Promise<string> =>
    run('nice', ['go', ...args], { cwd: join(projectRoot, module), env, timeoutMs: hour });
  const key = await hashInputs([(await go(['env', 'GOVERSION', 'GOARCH'], {})).trim()], [module]);
  return cached('swarm', key, async (directory) => {
    const flags = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w'];
    const target = ['-o', `${directory}/`];
    const docker = ['dockerd', 'docker-proxy'].map((name) => `github.com/moby/moby/v2/cmd/${name}`);
    await go(['build', ...flags, ...target, ...docker], { CGO_ENABLED: '0' });
    // cgo is needed, because the code that enters namespaces is in C.
    await go(['build', ...flags, ...target, 'github.com/opencontainers/runc'], {
      CGO_ENABLED: '1',
    });
  });
}
